"""What is uploaded. `make test-package` builds dist/ and installs the wheel into .venv-wheel, from a package index.

.venv-wheel has the Airflow 3.3.2 of its constraints file, and nothing of the checkout.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
WHEEL_PYTHON = ROOT / ".venv-wheel" / "bin" / "python"
CONSTRAINTS = sorted((ROOT / "constraints" / "official").glob("airflow-*.txt"))

if not WHEEL_PYTHON.exists():
    pytest.skip("`make test-package` makes what is tested here", allow_module_level=True)


@pytest.fixture(scope="session")
def wheel() -> Path:
    (found,) = (ROOT / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="session")
def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def resolve(constraints: Path, *requirements: str) -> subprocess.CompletedProcess[str]:
    """Find the versions that pip would install into an Airflow that was installed with a constraints file."""
    airflow = f"apache-airflow=={constraints.stem.removeprefix('airflow-')}"
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--python-version", "3.11", "-c", constraints, "-"]
    lines = "\n".join((airflow, *requirements))
    return subprocess.run(command, input=lines, capture_output=True, text=True, check=False)


def requirement(wheel: Path) -> str:
    return f"airflow-provider-kirin[emulator] @ {wheel.as_uri()}"


class TestBesideTheConstraintsFiles:
    @pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda path: path.stem)
    def test_the_wheel_can_be_installed(self, constraints: Path, wheel: Path) -> None:
        result = resolve(constraints, requirement(wheel))
        assert result.returncode == 0, f"a bound of pyproject.toml shuts out {constraints.stem}:\n{result.stderr}"

    def test_a_bound_that_is_too_high_would_be_seen(self, wheel: Path) -> None:
        too_high = "apache-airflow-providers-common-compat>=1.21"
        results = {path.stem: resolve(path, requirement(wheel), too_high) for path in CONSTRAINTS}
        assert len(results) >= 5
        assert all(one.returncode and "common-compat" in one.stderr for one in results.values()), results


class TestContent:
    def test_the_sdist_is_the_checkout(self) -> None:
        (sdist,) = (ROOT / "dist").glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            packed = {name.partition("/")[2] for name in archive.getnames()}
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
        if tracked.returncode:
            pytest.skip("this is no checkout")
        assert set(tracked.stdout.splitlines()) - packed == set()
        assert packed - set(tracked.stdout.splitlines()) == {"PKG-INFO"}

    def test_the_wheel_has_the_package_its_examples_and_nothing_else(self, in_wheel: set[str]) -> None:
        package, examples = "airflow_provider_kirin", "example_dags"
        files = {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*") if path.is_file()}
        files |= {f"{package}/{path.relative_to(ROOT)}" for path in (ROOT / examples).rglob("*") if path.is_file()}
        expected = {name for name in files if "__pycache__" not in name}
        assert {name for name in in_wheel if ".dist-info/" not in name} == expected
        assert {"airflow_provider_kirin/py.typed", "airflow_provider_kirin/example_dags/images/teapot.jpg"} <= expected

    def test_the_readme_on_pypi_has_no_link_into_the_checkout(self) -> None:
        (wheel,) = (ROOT / "dist").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            links = re.findall(r"\]\(([^)]+)\)", archive.read(name).decode())
        assert links and all(link.startswith("https://") for link in links)


class TestInstalled:
    """In the Airflow of .venv-wheel."""

    @pytest.fixture(scope="class")
    @staticmethod
    def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
        home = tmp_path_factory.mktemp("airflow")
        script = """
import json
from importlib.metadata import entry_points
import airflow_provider_kirin
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.providers_manager import ProvidersManager

manager = ProvidersManager()
ours = [one for one in entry_points() if one.dist.name == "airflow-provider-kirin"]
print(json.dumps({
    "file": airflow_provider_kirin.__file__,
    "provider": "airflow-provider-kirin" in manager.providers,
    "connection type": manager.hooks["kirin"].hook_name,
    "examples": sorted(bundle.name for bundle in DagBundlesManager().get_all_dag_bundles()),
    # All but that of pytest, which is not installed.
    "loaded": sorted(one.load().__name__ for one in ours if one.group != "pytest11"),
    "entry points": {one.group: one.value for one in ours},
}))
"""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "COV"))}
        env |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "True"}
        command = [WHEEL_PYTHON, "-W", "ignore", "-c", script]
        result = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        seen: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
        return seen

    def test_it_is_the_wheel_that_is_tested(self, seen: dict[str, object]) -> None:
        assert str(seen["file"]).startswith(str(ROOT / ".venv-wheel"))

    def test_airflow_finds_provider_and_connection_type(self, seen: dict[str, object]) -> None:
        assert (seen["provider"], seen["connection type"]) == (True, "Kirin")
        assert seen["loaded"] == ["KirinGenerationPlugin", "get_provider_info"]

    def test_pytest_finds_the_kit_for_testing_dags(self, seen: dict[str, object]) -> None:
        assert seen["entry points"]["pytest11"] == "airflow_provider_kirin.testing"  # type: ignore[index]

    def test_airflow_shows_the_example_dags(self, seen: dict[str, object]) -> None:
        assert "airflow-provider-kirin-example-dags" in seen["examples"]  # type: ignore[operator]
