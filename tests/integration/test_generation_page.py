"""The page behind the button "Kirin generation", in Airflow's own web application, with its own authorization."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import select

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from tests.support.emulator import KEY
from tests.support.video_host import is_mp4
from tests.support.waiting import HANG

pytestmark = [
    pytest.mark.usefixtures("conn_id", "kirin_fast_retries"),
    # Airflow makes a short secret for whoever configures none.
    pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning"),
]


@pytest.fixture(scope="module")
def web(airflow_db) -> Iterator[Any]:
    """Airflow's web application, with the plugins that it finds."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core"), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def visit(web, dag, run) -> Callable[..., Any]:
    """Follow the link of a task as somebody with a role; None is somebody without one."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    def follow(ended: Any, task_id: str, *, role: str | None = "VIEWER", map_index: int = -1, more: str = "") -> Any:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
        link = ended.xcoms()[task_id, map_index, "_link_KirinGenerationLink"]
        return web.get(f"/{link}{more}", headers={"Authorization": f"Bearer {token}"})

    return follow


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round."}


def test_shows_the_ids_and_a_video_that_plays_however_old_the_link_in_the_xcom_is(
    dag, run, payload, visit, emulator, logged
):
    with dag:
        KirinGenerateVideoOperator.partial(task_id="generate", poll_interval=0.1).expand(payload=[payload])
    ended = run(dag)
    result = ended.result("generate", 0)
    page = visit(ended, "generate", map_index=0)
    assert page.status_code == 200 and page.headers["Cache-Control"] == "no-store"
    for shown in (result["id"], result["videos"][0]["job_id"], result["external_task_id"], "0.28 USD"):
        assert shown in page.text
    (source,) = re.findall(r'<video [^>]*src="([^"]+)"', page.text)
    link = html.unescape(source)
    assert is_mp4(requests.get(link, timeout=HANG).content)
    assert KEY not in page.text and "Signature" not in logged()


def test_while_it_is_not_finished(dag, run, payload, visit):
    with dag:
        KirinSubmitOperator(task_id="submit", payload={**payload, "prompt": "[[seconds:600]]"})
    page = visit(run(dag), "submit")
    assert page.status_code == 200 and "in_progress" in page.text and "<video" not in page.text


def test_of_a_task_that_bought_nothing(dag, run, visit, emulator):
    with dag:
        KirinSubmitOperator(task_id="submit", payload={"image": "/no/such/file.png"})
    page = visit(run(dag), "submit")
    assert page.status_code == 404 and "has not submitted a generation" in page.text


def test_says_what_the_gateway_says(dag, run, payload, visit, emulator):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload)
    ended = run(dag)
    emulator.fault(on="get", kind="status", status=503, times=1)
    page = visit(ended, "submit")
    assert page.status_code == 502 and ended.result("submit") in page.text and "503" in page.text


@pytest.fixture
def bought(dag, run, payload):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload)
    return run(dag)


def test_is_for_those_who_may_read_the_dags_xcoms(bought, visit, web, emulator):
    asked = len(emulator.requests())
    link = bought.xcoms()["submit", -1, "_link_KirinGenerationLink"]
    assert web.get(f"/{link}").status_code == 401
    assert visit(bought, "submit", role=None).status_code == 403
    assert len(emulator.requests()) == asked
    assert visit(bought, "submit").status_code == 200


def test_is_not_for_those_who_may_read_another_dag_only(bought, visit, web, emulator, monkeypatch):
    from airflow.api_fastapi.app import get_auth_manager

    def may_read_another(*, details: Any = None, **_: Any) -> bool:
        return details is None or details.id in (None, "another")

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", may_read_another)
    asked = len(emulator.requests())
    assert visit(bought, "submit").status_code == 403
    assert visit(bought, "submit", more="&dag_id=another").status_code == 403
    assert len(emulator.requests()) == asked


class TestWithAnXComBackend:
    @pytest.fixture
    def stored(self, bought, tmp_path, monkeypatch) -> Iterator[Path]:
        """The record of the submission in a file, as Airflow's own backend keeps it, and its URI in the database."""
        from airflow.models.xcom import XComModel
        from airflow.providers.common.io.xcom import backend
        from airflow.utils.session import create_session

        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", tmp_path.as_uri())
        monkeypatch.setattr("airflow_provider_kirin.plugins.app.XCom", backend.XComObjectStorageBackend)
        backend._get_base_path.cache_clear()
        path = tmp_path / "submission.json"
        with create_session() as session:
            row = session.scalar(select(XComModel).filter_by(dag_id=bought.dag_id, key="kirin_submission"))
            path.write_text(json.dumps(row.value))
            row.value = path.as_uri()
        yield path
        backend._get_base_path.cache_clear()

    def test_the_record_is_read_by_it(self, bought, visit, stored):
        page = visit(bought, "submit")
        assert page.status_code == 200 and bought.result("submit") in page.text

    def test_a_record_that_is_gone_is_none(self, bought, visit, stored):
        stored.unlink()
        assert visit(bought, "submit").status_code == 404

    def test_a_record_that_cannot_be_read_is_not_found(self, bought, visit, stored, monkeypatch, logged):
        class Encrypted:
            @staticmethod
            def deserialize_value(row: Any) -> Any:
                raise RuntimeError(f"no key for {row.key} of {row.task_id}")

        monkeypatch.setattr("airflow_provider_kirin.plugins.app.XCom", Encrypted)
        page = visit(bought, "submit")
        assert page.status_code == 404 and "no key" not in page.text
        assert "no key for kirin_submission of submit" in logged()

    def test_a_record_of_a_backend_that_is_no_longer_configured_is_not_found(self, bought, visit, stored, monkeypatch):
        from airflow.sdk.bases.xcom import BaseXCom

        monkeypatch.setattr("airflow_provider_kirin.plugins.app.XCom", BaseXCom)
        assert visit(bought, "submit").status_code == 404
