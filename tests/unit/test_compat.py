"""The names of compat.py, with the common-compat that is installed and with one that lacks them.

`make test-2.11` runs this with the lowest common-compat that is allowed, and `make test-3.1` with the one that the
constraints file of Airflow 3.1.8 pins. Here, a fresh interpreter takes the names away.
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

import airflow_provider_kirin
from airflow_provider_kirin.compat import get_async_extra_dejson

#: Checked in every Airflow: what the package relies on.
BEHAVIOUR = """
import asyncio
from types import SimpleNamespace
from airflow_provider_kirin import compat
from airflow_provider_kirin.decorators.kirin import KirinDecoratedOperator
from airflow_provider_kirin.operators.payload_templates import is_dynamic

assert is_dynamic(compat.SET_DURING_EXECUTION), "a placeholder would be validated as a payload"

def function(image, ds, *, seed=1): ...
context = {"ds": "2026-01-01", "seed": 7, "run_id": "r"}
assert dict(compat.determine_kwargs(function, ["a.png"], context)) == {"ds": "2026-01-01", "seed": 7}

connection = SimpleNamespace(extra_dejson={"timeout": 5})
assert asyncio.run(compat.get_async_extra_dejson(connection)) == {"timeout": 5}
"""
#: What common-compat 1.13 and 1.14.0 do not have.
WITHOUT = """
import airflow.providers.common.compat.connection as connections
import airflow.providers.common.compat.sdk as sdk
import airflow.providers.common.compat.version_compat as versions

for names in (sdk._IMPORT_MAP, sdk.__dict__, connections.__dict__, versions.__dict__):
    for name in ("SET_DURING_EXECUTION", "determine_kwargs", "get_async_extra_dejson", "RetryPolicy", "RetryDecision",
                 "AIRFLOW_V_3_3_PLUS"):
        names.pop(name, None)
for name in ("SET_DURING_EXECUTION", "determine_kwargs"):
    assert not hasattr(sdk, name)
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


@pytest.mark.parametrize("before", ["", WITHOUT], ids=["installed", "without the newer names"])
def test_each_name_does_what_the_package_relies_on(before: str) -> None:
    result = run(f"{before}\n{BEHAVIOUR}")
    assert result.returncode == 0, result.stderr


def test_the_retry_policy_needs_no_common_compat_or_names_the_airflow_that_it_needs() -> None:
    script = """
from airflow.exceptions import AirflowOptionalProviderFeatureException
try:
    from airflow_provider_kirin.retry_policy import KirinRetryPolicy
except AirflowOptionalProviderFeatureException as error:
    print("refused:", error)
else:
    print("ready:", KirinRetryPolicy().serialize())
"""
    result = run(WITHOUT + script)
    assert result.returncode == 0, result.stderr
    if Version(version("apache-airflow")) < Version("3.3"):
        assert "refused: KirinRetryPolicy needs the retry policies of Airflow 3.3 or later" in result.stdout
    else:
        assert "ready: {'shortest': 10.0}" in result.stdout


def imported_from_common_compat() -> set[tuple[str, str]]:
    """Return what the package imports of common-compat when it runs, also inside functions; compat.py has fallbacks."""
    package = Path(airflow_provider_kirin.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or id(node) in typing_only or path == package / "compat.py":
                continue
            if node.module and node.module.startswith("airflow.providers.common.compat"):
                found |= {(node.module, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize(("module", "name"), sorted(imported_from_common_compat()))
def test_the_installed_common_compat_has_what_the_package_imports(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), f"import {name} from airflow_provider_kirin.compat"


async def test_the_extra_is_read_asynchronously_where_airflow_can_do_that() -> None:
    class Connection:
        async def aextra_dejson(self) -> dict[str, Any]:
            return {"timeout": 5}

        @property
        def extra_dejson(self) -> dict[str, Any]:
            raise AssertionError("this asks the supervisor, and blocks")

    assert await get_async_extra_dejson(Connection()) == {"timeout": 5}
