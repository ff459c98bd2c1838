"""Of 50 callbacks at the same moment one ends the wait, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.system.postgres import Postgres
from tests.support.waiting import HANG

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/airflow.db"
        return
    postgres = Postgres()
    yield postgres.url
    postgres.stop()


def test_one_of_50_callbacks_ends_the_wait(database: str, tmp_path: Path) -> None:
    env = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        # A connection for each of them.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "50",
    }
    said = ""
    for module in (["airflow", "db", "migrate"], ["tests.support.callback_race"]):
        ran = subprocess.run(
            [sys.executable, "-m", *module], env=env, capture_output=True, text=True, timeout=HANG, check=False
        )
        assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]
        said = ran.stdout
    assert json.loads(said.splitlines()[-1]) == {
        "counts": {"ended": 1, "resumed": 1},
        "states": {"ended": "success", "resumed": "scheduled"},
        "returned": "kirin-1",
    }
