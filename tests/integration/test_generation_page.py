"""The page behind the button "Kirin generation", in Airflow's own web application, with its own authorization."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from tests.integration.emulated import KEY
from tests.integration.test_hook import is_mp4

pytestmark = [
    pytest.mark.usefixtures("conn_id", "impatient"),
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
    assert is_mp4(requests.get(link, timeout=10).content)
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
    assert page.status_code == 404 and "has not bought a generation" in page.text


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
