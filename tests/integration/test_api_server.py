"""The API server belongs to everybody: a gateway that hangs stops the pages that need it, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests
from sqlalchemy import select
from sqlalchemy.orm import make_transient

from airflow_provider_kirin.operators.kirin import KirinSubmitOperator
from airflow_provider_kirin.plugins.generation_lookup import MAX_LOOKUPS
from tests.support.raw_server import RawServer
from tests.support.waiting import HANG, until

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")
PAGES = 60
EVERYBODY_IS_ADMIN = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}


@dataclass
class Visitor:
    """Somebody with a session at an API server, who opens pages in many windows.

    :param url: of the server
    :param log: of the server
    """

    url: str
    log: Path

    def __post_init__(self) -> None:
        # Everybody is an administrator there.
        token = requests.get(f"{self.url}/auth/token", timeout=HANG).json()["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}

    def open(self, path: str) -> requests.Response:
        """Return a page."""
        return requests.get(f"{self.url}{path}", headers=self._headers, timeout=HANG)


@pytest.fixture
def api_server(airflow_db, tmp_path) -> Iterator[Callable[[], Visitor]]:
    """Start Airflow's API server, as it is configured now, in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> Visitor:
        log = tmp_path / "api-server.log"
        command = [sys.executable, "-m", "uvicorn", "airflow.api_fastapi.main:app", "--host", "127.0.0.1"]
        with log.open("wb") as output:
            how = {"stdout": output, "stderr": subprocess.STDOUT, "env": {**os.environ, **EVERYBODY_IS_ADMIN}}
            started.append(subprocess.Popen([*command, "--port", "0"], **how))
        return Visitor(until(lambda: _address(started[0], log), "the API server listens"), log)

    yield start
    for process in started:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    said = log.read_text(errors="replace")
    assert process.poll() is None, said[-3000:]
    _, found, rest = said.partition("Uvicorn running on ")
    return rest.split()[0] if found else ""


@pytest.fixture
def pages(dag, run, image_file) -> list[str]:
    """The pages of as many task instances, each with a generation of its own."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with dag:
        KirinSubmitOperator(task_id="submit", payload={"image": image_file, "prompt": "x"})
    ended = run(dag)
    with create_session() as session:
        rows = [
            session.scalars(select(model).filter_by(dag_id=ended.dag_id, task_id="submit", **more)).one()
            for model, more in ((TaskInstance, {}), (XComModel, {"key": "kirin_submission"}))
        ]
        for row in rows:
            session.expunge(row)
        for index in range(PAGES):
            for row in rows:
                make_transient(row)
                row.map_index = index
                if isinstance(row, TaskInstance):
                    row.id = uuid4()
                else:
                    row.value = {**row.value, "kirin_task_id": f"kirin-{index}"}
                session.add(row)
                session.flush()
                session.expunge(row)
    return [
        f"/kirin/api/live/{ended.dag_id}/{quote(ended.run_id)}/submit/{index}/kirin-{index}" for index in range(PAGES)
    ]


def hang(_: object, server: RawServer) -> None:
    """Answer nothing for as long as the test takes."""
    server.stopping.wait()


def test_a_gateway_that_hangs_stops_only_the_pages_that_need_it(pages, api_server, raw_server, connect):
    gateway = raw_server(hang)
    connect(gateway.url)
    visitor = api_server()
    paths = ("/api/v2/monitor/health", "/api/v2/dags", pages[0].replace("/submit/", "/another/"))
    seen: list[requests.Response] = []
    answered: set[str] = set()
    with ThreadPoolExecutor(PAGES) as browser:
        opened = [browser.submit(visitor.open, page) for page in pages]
        until(lambda: len(gateway.requests) == MAX_LOOKUPS, "as many lookups as there may be")
        while not all(page.done() for page in opened):
            for path in paths:
                ended = sum(page.done() for page in opened)
                # Pages that the browser has not received yet count twice: their lookups were given up.
                assert len(gateway.requests) - ended <= 2 * MAX_LOOKUPS
                seen.append(visitor.open(path))
                if sum(page.done() for page in opened) == ended:
                    answered.add(path)
    failed = [f"{one.url}: {one.text[:300]}" for one in seen if one.status_code not in (200, 404)]
    assert not failed, f"{failed}\n{visitor.log.read_text(errors='replace')[-5000:]}"
    # A server that hangs with them answers only when a lookup is given up, which ends its page.
    assert answered
    for index, page in enumerate(opened):
        content = page.result()
        assert content.status_code == 502 and "did not answer within 5 s" in content.json()["detail"], index
