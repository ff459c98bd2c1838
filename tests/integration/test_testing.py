"""The kit for testing DAGs, as its users have it: a run of pytest of its own, in a fresh folder, without our conftest.

One run for all: each starts an Airflow and migrates its database.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "testing.md"
#: The first blocks of Python on the page, and what its test leaves out.
FILES = ("dags/teapot.py", "conftest.py", "test_teapot.py", "test_more.py")
MORE = """
from datetime import datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator


@pytest.fixture
def dag(request):
    return DAG(request.node.name, schedule=None, start_date=datetime(2026, 1, 1))


def video(**arguments):
    model, payload = "kirin_v1_6_t2v", {"prompt": "Steam."}
    return KirinGenerateVideoOperator(task_id="video", **{"model": model, "payload": payload, **arguments})


def test_a_generation_fails(dag, kirin_emulator, run_dag):
    kirin_emulator.fail("110001:int")
    with dag:
        video()
    run = run_dag(dag)
    assert (run.state, run.states) == ("failed", {"video": "failed"})
    ledger = kirin_emulator.ledger
    assert (len(ledger["paid"]), len(ledger["failed"])) == (0, 1)


def test_a_full_account_and_an_error(dag, kirin_emulator, run_dag):
    kirin_emulator.fill_account()
    kirin_emulator.respond(503, on="get", times=2, retry_after=30)
    with dag:
        video()
    assert run_dag(dag).state == "success"
    assert kirin_emulator.ledger["submits"] == 2


def test_an_account_that_stays_full(dag, kirin_emulator, run_dag, monkeypatch):
    kirin_emulator.fill_account(times=-1)
    with dag:
        task = video()
    monkeypatch.setattr(task, "capacity_timeout", 1)
    assert run_dag(dag).state == "failed"
    assert kirin_emulator.ledger["paid"] == []


def test_retries_do_not_wait_and_the_dag_stays_as_it_is(dag, kirin_emulator, run_dag):
    with dag:
        @task(retries=1, retry_delay=timedelta(hours=1))
        def flaky(number, ti=None):
            if ti.try_number == 1:
                raise ValueError("once")
            return number

        flaky.expand(number=[7, 8])
    run = run_dag(dag)
    assert run.states == {"flaky[0]": "success", "flaky[1]": "success"}
    assert run.xcom("flaky", map_index=1) == 8
    assert dag.get_task("flaky").retry_delay == timedelta(hours=1)
    with pytest.raises(KeyError, match="no task instance 'flaky' with map index 2"):
        run.xcom("flaky", map_index=2)


def test_the_conf_of_a_run_is_not_seen_by_the_next_one(request, run_dag):
    with DAG(request.node.name, schedule=None, start_date=datetime(2026, 1, 1), params={"of": "a teapot"}) as dag:
        @task
        def picture(params=None):
            return params["of"]

        picture()
    assert run_dag(dag, run_conf={"of": "a mug"}).xcom("picture") == "a mug"
    assert run_dag(dag).xcom("picture") == "a teapot"


def test_a_test_does_not_pay(dag, kirin_emulator, run_dag, monkeypatch, capfd, caplog):
    monkeypatch.setenv("AIRFLOW_CONN_STUDIO", '{"conn_type": "kirin", "password": "sa-real"}')
    with dag:
        video(kirin_conn_id="studio")
    assert run_dag(dag).state == "failed"
    assert "points to https://cloud.vtrix.ai" in "".join(capfd.readouterr()) + caplog.text
    kirin_emulator.connect("studio")
    assert run_dag(dag).state == "success"
    assert len(kirin_emulator.ledger["paid"]) == 1


def test_a_database_that_is_not_migrated_is_named():
    from airflow.utils.session import create_session
    from airflow_provider_kirin.testing.dag_run import _check_database
    from sqlalchemy import text

    with create_session() as session:
        head = session.scalar(text("SELECT version_num FROM alembic_version"))
        session.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    with pytest.raises(RuntimeError, match="is not migrated. Run `airflow db migrate`, or set AIRFLOW_HOME"):
        _check_database.__wrapped__()
    with create_session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :head"), {"head": head})
"""


def test_the_page_s_example_and_more(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "dags").mkdir()
    for name, text in zip(FILES, [*blocks[: len(FILES) - 1], MORE], strict=True):
        (tmp_path / name).write_text(text)
    theirs = ("AIRFLOW_", "PYTEST_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    # A proxy that nobody answers at: what is not meant for 127.0.0.1 fails, and what is does not go there.
    env |= dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "airflow_provider_kirin.testing", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
