"""The Kirin pages and their data, in Airflow's own web application, with its own authorization."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import requests
from anyio.to_thread import run_sync as to_thread_run_sync
from sqlalchemy import select

from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.plugins.media import LINK_SECONDS
from airflow_provider_kirin.plugins.threads import MAX_THREADS
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from benchmarks.gallery import Sample, samples, store
from tests.support.emulator import KEY
from tests.support.video_host import is_mp4
from tests.support.waiting import HANG

pytestmark = [
    pytest.mark.usefixtures("conn_id", "kirin_fast_retries"),
    # Airflow makes a short secret if none is configured.
    pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning"),
]
EVIL = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def web(airflow_db) -> Iterator[Any]:
    """Airflow's web application, with the plugins that it finds."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(apps="core"), base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


@pytest.fixture
def get(web, monkeypatch) -> Callable[..., Any]:
    """Open a path as a user with a role; None for an anonymous one."""
    # A page gives up after five seconds. On a machine that stands still, that is no defect.
    for module in ("threads", "generation_lookup"):
        monkeypatch.setattr(f"airflow_provider_kirin.plugins.{module}.TIMEOUT", HANG)
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    opening: list[str] = []

    async def run_sync(function: Any, *arguments: Any, **options: Any) -> Any:
        """Give a thread of the API server's to Airflow's routes only: the heartbeats of workers wait for them, too."""
        assert not any(path.startswith("/kirin/") for path in opening), function
        return await to_thread_run_sync(function, *arguments, **options)

    monkeypatch.setattr("anyio.to_thread.run_sync", run_sync)

    def get(path: str, *, role: str | None = "VIEWER", **headers: str) -> Any:
        token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="somebody", role=role))
        opening.append(path)
        try:
            return web.get(path, headers={"Authorization": f"Bearer {token}", **headers})
        finally:
            opening.remove(path)

    return get


@pytest.fixture
def visit(get) -> Callable[..., Any]:
    """Return the data behind the link of a task: ``generation``, ``live``, ``video``, ``image``."""

    def follow(ended: Any, task_id: str, kind: str = "generation", *more: str, map_index: int = -1, **how: Any) -> Any:
        link = ended.xcoms()[task_id, map_index, "_link_KirinGenerationLink"]
        return get("/".join([f"/{link.replace('/generation/', f'/api/{kind}/', 1)}", *more]), **how)

    return follow


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round."}


@pytest.fixture
def roots(monkeypatch, tmp_path) -> Path:
    """The only folder whose files may be shown."""
    folder = tmp_path / "shown"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__KIRIN__MEDIA_ROOTS", f"/no/such/folder, {folder}")
    return folder


class TestGeneration:
    def test_order_and_end_come_from_airflow_alone(self, dag, run, payload, visit, emulator, roots):
        negative = {"negative_prompt": EVIL, "callback_url": "https://example.com/?token=secret"}
        with dag:
            KirinGenerateVideoOperator.partial(task_id="generate", poll_interval=0.1, destination=str(roots)).expand(
                payload=[payload | negative]
            )
        ended = run(dag)
        asked = len(emulator.requests())
        page = visit(ended, "generate", map_index=0)
        (card,) = page.json()["cards"]
        result = ended.result("generate", 0)
        assert page.status_code == 200 and page.headers["Cache-Control"] == "no-store"
        assert (card["id"], card["external_task_id"]) == (result["id"], result["external_task_id"])
        assert (card["prompt"], card["negative_prompt"], card["cost"]) == (payload["prompt"], EVIL, "0.28")
        assert card["status"] == "completed" and card["is_on_record"] and card["error"] is None
        assert card["files"] == [{"uri": result["files"][0], "is_home": True}]
        (image,) = card["images"]
        assert image["uri"] == Path(payload["image"]).as_uri() and image["source"] is None
        steps = ["Submitted", "Accepted by Kirin", "Finished at Kirin", "Seen by Airflow", "Downloaded"]
        assert [step["step"] for step in card["timeline"]] == steps
        assert len(emulator.requests()) == asked and KEY not in page.text and "token" not in page.text

    def test_progress_comes_from_the_gateway(self, dag, run, payload, visit):
        with dag:
            KirinSubmitOperator(task_id="submit", payload={**payload, "prompt": "[[seconds:600]]"})
        ended = run(dag)
        (card,) = visit(ended, "submit").json()["cards"]
        assert card["status"] == "in_progress" and card["progress"] is None and not card["is_on_record"]
        live = visit(ended, "submit", "live", card["id"]).json()
        assert live["status"] == "in_progress" and 0 <= live["progress"] < 1

    def test_end_that_no_task_waited_for_comes_from_the_gateway(self, dag, run, payload, visit):
        with dag:
            KirinSubmitOperator(task_id="submit", payload={**payload, "prompt": "[[fail:8002005098]]"})
        ended = run(dag)
        live = visit(ended, "submit", "live", ended.result("submit")).json()
        assert live["status"] == "failed" and live["error"]["code"] == "8002005098"
        assert live["error"]["message"] and live["error"]["advice"]

    def test_sensor_and_download_lead_to_the_generation_that_another_task_submitted(
        self, dag, run, payload, visit, roots
    ):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, deferrable=False)
            wait >> KirinDownloadOperator(task_id="download", kirin_task_id=submit.output, destination=str(roots))
        ended = run(dag)
        cards = [visit(ended, task_id).json()["cards"] for task_id in ("submit", "wait", "download")]
        assert cards[0] == cards[1] == cards[2]
        assert cards[0][0]["task_id"] == "submit" and cards[0][0]["prompt"] and cards[0][0]["files"]

    def test_another_record_of_the_run_that_was_edited_breaks_nothing(self, dag, run, payload, visit):
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, deferrable=False)
        ended = run(dag)
        with create_session() as session:
            row = session.scalar(select(XComModel).filter_by(dag_id=dag.dag_id, key="kirin_submission"))
            row.value = row.value | {"external_task_id": ["x"]}
        (card,) = visit(ended, "wait").json()["cards"]
        assert card["id"] == ended.result("submit") and card["external_task_id"] == ""

    def test_task_that_submitted_nothing_has_none(self, dag, run, visit, emulator):
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": "/no/such/file.png"})
        page = visit(run(dag), "submit")
        assert page.status_code == 200 and page.json()["cards"] == []

    def test_error_of_the_gateway_is_reported(self, submitted, visit, emulator):
        emulator.fault(on="get", kind="status", status=503, times=1)
        page = visit(submitted, "submit", "live", submitted.result("submit"))
        assert page.status_code == 502 and "503" in page.json()["detail"]


@pytest.fixture
def submitted(dag, run, payload):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload)
    return run(dag)


class TestBatch:
    @pytest.fixture
    def worked(self, dag, run, payload, roots):
        """A batch of three rows, of which two have no video."""
        rows = [payload | {"sku": f"{EVIL}{n}", "prompt": prompt} for n, prompt in enumerate(("A", "B", "C"))]
        rows[1]["prompt"], rows[2]["duration"] = "[[fail:8002005098]]", 7
        with dag:
            KirinBatchOperator(
                task_id="videos",
                payloads=rows,
                key="sku",
                destination=str(roots),
                on_bad_row="skip",
                max_failed_rows=2,
                row_retries=0,
                poll_interval=0.1,
                deferrable=False,
            )
        ended = run(dag)
        assert ended.state == "success", ended.log
        return ended

    def test_page_has_progress_reasons_and_the_manifest(self, worked, visit, emulator, roots):
        asked = len(emulator.requests())
        page = visit(worked, "videos").json()
        batch = page["batch"]
        assert page["cards"] == [] and batch["status"] == "completed"
        assert (batch["rows"], batch["counts"]) == (3, {"saved": 1, "failed": 1, "refused": 1})
        assert (batch["failed"], batch["cost"], batch["model"]) == (2, "0.28", "kirin_v1_6_i2v")
        assert {row["key"]: row["status"] for row in batch["without_video"]} == {
            f"{EVIL}1": "failed",
            f"{EVIL}2": "refused",
        }
        assert {"status": "failed", "code": "8002005098", "count": 1} in batch["reasons"]
        assert batch["manifest"] == {"uri": worked.result("videos")["manifest"], "is_home": True}
        manifest = visit(worked, "videos", "manifest")
        assert manifest.status_code == 200 and manifest.headers["Content-Type"].startswith("text/plain")
        assert manifest.headers["Content-Disposition"].startswith("attachment")
        assert len(manifest.text.splitlines()) == 3 and len(emulator.requests()) == asked

    def test_gallery_has_one_card_and_the_sums_all_rows(self, worked, get):
        from airflow_provider_kirin.plugins.app import app

        app.state.ends = (0.0, [])
        filters = {"": 1, "state=completed": 1, "state=failed": 0, "text=VIDEOS": 1, "text=zeppelin": 0, "model=x": 0}
        for query, count in filters.items():
            cards = get(f"/kirin/api/generations?dag={worked.dag_id}&{query}").json()["cards"]
            assert [card["kind"] for card in cards] == ["batch"] * count, query
        (of_dag,) = [of_day[worked.dag_id] for of_day in get("/kirin/api/summary").json()["days"].values()]
        assert of_dag == "0.28"

    def test_manifest_is_opened_below_a_root_and_by_readers_only(self, worked, visit, roots, tmp_path, monkeypatch):
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        assert visit(worked, "videos", "manifest", role=None).status_code == 403
        (tmp_path / "manifest.jsonl").write_text("secret")
        (roots / "other.jsonl").write_text("secret")
        for uri in (tmp_path / "manifest.jsonl", roots / "other.jsonl", f"{roots}/../manifest.jsonl", "manifest.jsonl"):
            with create_session() as session:
                row = session.scalar(select(XComModel).filter_by(dag_id=worked.dag_id, key="kirin_batch"))
                row.value = row.value | {"manifest": str(uri), "reasons": [7, ["a", [], -1]], "counts": 7}
            assert visit(worked, "videos", "manifest").status_code == 404, uri
            assert not visit(worked, "videos").json()["batch"]["manifest"]["is_home"]


class TestMedia:
    @pytest.fixture
    def saved(self, dag, run, payload, roots):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=str(roots), poll_interval=0.1)
        return run(dag)

    def rewrite(self, ended: Any, key: str, **fields: Any) -> None:
        """Edit an XCom, as Airflow's UI lets some users do."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            row = session.scalar(select(XComModel).filter_by(dag_id=ended.dag_id, key=key))
            row.value = {**row.value, **fields}

    def test_video_streams_from_its_file(self, saved, visit, emulator):
        kirin_task_id, asked = saved.result("generate")["id"], len(emulator.requests())
        whole = visit(saved, "generate", "video", kirin_task_id, "0")
        part = visit(saved, "generate", "video", kirin_task_id, "0", Range="bytes=100-199")
        assert whole.status_code == 200 and whole.headers["Content-Type"] == "video/mp4" and is_mp4(whole.content)
        assert part.status_code == 206 and part.content == whole.content[100:200]
        # A browser that gets 200 for this takes it that it cannot seek.
        all_of_it = visit(saved, "generate", "video", kirin_task_id, "0", Range="bytes=0-")
        assert all_of_it.status_code == 206 and all_of_it.content == whole.content
        assert all_of_it.headers["Content-Range"] == f"bytes 0-{len(whole.content) - 1}/{len(whole.content)}"
        assert visit(saved, "generate", "video", kirin_task_id, "0", Range="pages=1").status_code == 200
        assert len(emulator.requests()) == asked

    def test_storage_that_hangs_hangs_no_other_page(self, saved, visit, monkeypatch):
        asked, may_answer = threading.Semaphore(0), threading.Event()

        def hang(*_: Any) -> None:
            asked.release()
            may_answer.wait()

        monkeypatch.setattr("airflow_provider_kirin.plugins.app.locate", hang)
        video = (saved, "generate", "video", saved.result("generate")["id"], "0")
        with ThreadPoolExecutor(2 * MAX_THREADS) as browser:
            opened = [browser.submit(visit, *video) for _ in range(2 * MAX_THREADS)]
            try:
                assert all(asked.acquire(timeout=HANG) for _ in range(MAX_THREADS))
                assert visit(saved, "generate").json()["cards"]
            finally:
                may_answer.set()
        assert {each.result().status_code for each in opened} == {404}

    def test_video_in_object_storage_is_a_signed_link(self, saved, visit, monkeypatch, s3, logged):
        kirin_task_id = saved.result("generate")["id"]
        monkeypatch.setenv("AIRFLOW__KIRIN__MEDIA_ROOTS", "s3://studio@videos/shown")
        for key in ("shown/a b.mp4", "secret.mp4"):
            s3.put_object(Bucket="videos", Key=key, Body=b"0123456789")
        names = ["s3://admin@videos/shown/a b.mp4", "s3://videos/secret.mp4", "s3://videos/shown/gone.mp4"]
        self.rewrite(saved, "kirin_files", files=names)
        page = visit(saved, "generate", "video", kirin_task_id, "0")
        link = page.headers["Location"]
        assert page.status_code == 302 and page.headers["Cache-Control"] == "no-store"
        assert "Signature" in link and "Signature" not in logged()
        signed = parse_qs(urlsplit(link).query)
        (seconds,) = signed.get("X-Amz-Expires") or [int(signed["Expires"][0]) - time.time()]
        assert 0 < int(seconds) <= LINK_SECONDS
        part = requests.get(link, headers={"Range": "bytes=2-4"}, timeout=HANG)
        assert (part.status_code, part.content) == (206, b"234")
        assert [visit(saved, "generate", "video", kirin_task_id, str(n)).status_code for n in (1, 2)] == [404, 404]

    def test_video_in_a_storage_that_signs_no_links_is_streamed(self, saved, visit, monkeypatch):
        import fsspec
        from airflow.sdk.io import attach

        kirin_task_id, content = saved.result("generate")["id"], bytes(range(256)) * 10_000
        storage = fsspec.filesystem("memory")
        attach("memory", fs=storage)
        monkeypatch.setenv("AIRFLOW__KIRIN__MEDIA_ROOTS", "memory://videos")
        storage.pipe("/videos/a.mp4", content)
        self.rewrite(saved, "kirin_files", files=["memory://videos/a.mp4"])
        whole = visit(saved, "generate", "video", kirin_task_id, "0")
        assert whole.status_code == 200 and whole.content == content and whole.headers["Content-Type"] == "video/mp4"
        part = visit(saved, "generate", "video", kirin_task_id, "0", Range="bytes=100-1999999")
        assert part.status_code == 206 and part.content == content[100:2_000_000]
        assert part.headers["Content-Range"] == f"bytes 100-1999999/{len(content)}"
        beyond = visit(saved, "generate", "video", kirin_task_id, "0", Range=f"bytes={len(content)}-")
        assert beyond.status_code == 416 and beyond.headers["Content-Range"] == f"bytes */{len(content)}"

    def test_video_comes_from_the_gateway_by_a_fresh_link(self, saved, visit, logged):
        page = visit(saved, "generate", "video", saved.result("generate")["id"], "0?source=gateway")
        assert page.status_code == 302 and is_mp4(requests.get(page.headers["Location"], timeout=HANG).content)
        assert "Signature" not in logged()

    def test_nothing_is_shown_without_a_root(self, saved, visit, monkeypatch):
        monkeypatch.delenv("AIRFLOW__KIRIN__MEDIA_ROOTS")
        assert visit(saved, "generate", "video", saved.result("generate")["id"], "0").status_code == 404

    def test_an_xcom_that_was_edited_opens_nothing_else(self, saved, visit, roots, tmp_path):
        secret = tmp_path / "secret.mp4"
        secret.write_text("secret")
        (roots / "link.mp4").symlink_to(secret)
        (roots / "page.html").write_text("<script>alert(1)</script>")
        named = [secret.as_uri(), f"{roots.as_uri()}/../secret.mp4", f"{roots.as_uri()}/%2e%2e/secret.mp4"]
        named += [f"{roots.as_uri()}/{name}" for name in ("link.mp4", "page.html", "a%00.mp4")]
        named += [f"{roots.as_uri()}x/secret.mp4", "s3://other@bucket/secret.mp4", "http://127.0.0.1/secret.mp4", ""]
        self.rewrite(saved, "kirin_files", files=named)
        for index in (*range(len(named)), -1, len(named)):
            page = visit(saved, "generate", "video", saved.result("generate")["id"], str(index))
            assert page.status_code == 404 and "secret" not in page.text, index

    def test_an_image_below_a_root_is_shown(self, dag, run, payload, visit, roots):
        image = roots / "a cup.png"
        image.write_bytes(Path(payload["image"]).read_bytes())
        with dag:
            KirinSubmitOperator(task_id="submit", payload={**payload, "image": str(image)})
        ended = run(dag)
        assert visit(ended, "submit").json()["cards"][0]["images"][0]["source"] == "home"
        page = visit(ended, "submit", "image", ended.result("submit"), "image")
        assert page.status_code == 200 and page.content == image.read_bytes()
        assert page.headers["Content-Type"] == "image/png"


class TestAccess:
    PATHS = ("generation", "live/{id}", "video/{id}/0", "image/{id}/image")

    @pytest.fixture
    def paths(self, submitted) -> list[str]:
        link = submitted.xcoms()["submit", -1, "_link_KirinGenerationLink"]
        kinds = [path.format(id=submitted.result("submit")).partition("/") for path in self.PATHS]
        return [f"/{link.replace('/generation/', f'/api/{kind}/', 1)}{slash}{more}" for kind, slash, more in kinds]

    def test_is_for_those_who_may_read_the_dags_xcoms(self, paths, get, web, emulator):
        asked = len(emulator.requests())
        for path in paths:
            assert web.get(path).status_code == 401, path
            assert get(path, role=None).status_code == 403, path
        assert len(emulator.requests()) == asked
        assert get(paths[0]).status_code == get(paths[1]).status_code == 200

    def test_is_not_for_those_who_may_read_another_dag_only(self, paths, submitted, get, emulator, monkeypatch):
        from airflow.api_fastapi.app import get_auth_manager

        def may_read_another(*, details: Any = None, **_: Any) -> bool:
            return details is None or details.id in (None, "another")

        asked = len(emulator.requests())
        everybody = [get(path).json() for path in ("/kirin/api/generations", "/kirin/api/summary")]
        monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", may_read_another)
        for path in paths:
            assert get(path).status_code == get(f"{path}?dag_id=another").status_code == 403
        found, sums = (get(path).json() for path in ("/kirin/api/generations", "/kirin/api/summary"))
        assert submitted.dag_id in everybody[0]["dags"] and everybody[0]["cards"]
        assert found == {"cards": [], "next": None, "dags": []} and sums["generations"] == 0 and not sums["days"]
        assert get(f"/kirin/api/generations?dag={submitted.dag_id}").json()["cards"] == []
        assert len(emulator.requests()) == asked

    def test_gallery_shows_none_of_a_dag_that_began_while_it_was_searched(self, airflow_db, get, request, monkeypatch):
        from airflow.api_fastapi.app import get_auth_manager

        known, new = (f"{name}_{abs(hash(request.node.nodeid))}" for name in ("known", "new"))
        store([Sample(known, known, "r", datetime.now(UTC))])
        later = [Sample(new, new, "r", datetime.now(UTC))]

        def may_read_all_but_the_new_one(*, details: Any = None, **_: Any) -> bool:
            if details is not None and details.id == known and later:
                store([later.pop()])
            return details is None or details.id != new

        with monkeypatch.context() as limited:
            limited.setattr(get_auth_manager(), "is_authorized_dag", may_read_all_but_the_new_one)
            shown = {card["dag_id"] for card in get("/kirin/api/generations").json()["cards"]}
        assert not later and known in shown and new not in shown
        assert new in {card["dag_id"] for card in get("/kirin/api/generations").json()["cards"]}


class TestShell:
    PAGE = "/kirin/generation/a.dag/manual__2026-11-28T10:00:00+00:00/task/-1"

    def test_opens_inside_airflows_frame(self, get):
        page = get(self.PAGE)
        assert page.status_code == 303
        there = urlsplit(page.headers["Location"])
        assert there.path == "/plugin/kirin"
        assert parse_qs(there.query) == {"ti": ["a.dag/manual__2026-11-28T10:00:00+00:00/task/-1"]}

    def test_opens_alone_for_those_who_see_no_plugins(self, get, monkeypatch):
        from airflow.api_fastapi.app import get_auth_manager

        monkeypatch.setattr(get_auth_manager(), "is_authorized_view", lambda **_: False)
        # A link that lacks something is a page, too, and so is the gallery.
        for path in (self.PAGE, "/kirin/", "/kirin/generation", "/kirin/generation/a.dag"):
            page = get(path)
            assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
            assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
            assert "a.dag" not in page.text
        assert page.headers["Content-Security-Policy"].endswith("media-src 'self' https: http:")
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")
        assert get("/kirin/").headers["Content-Security-Policy"].endswith("media-src 'self' https:")

    def test_leads_to_the_login_and_back(self, web):
        page = web.get(self.PAGE)
        assert page.status_code == 303
        (back,) = parse_qs(urlsplit(page.headers["Location"]).query)["next"]
        assert unquote(back) == self.PAGE

    @pytest.mark.parametrize(("name", "kind"), [("kirin.js", "text/javascript"), ("kirin.css", "text/css")])
    def test_script_and_style_are_served_and_nothing_else(self, web, name, kind):
        page = web.get(f"/kirin/static/{name}")
        assert page.status_code == 200 and page.headers["Content-Type"].startswith(kind)
        assert web.get("/kirin/static/page.html").status_code == 404
        assert web.get("/kirin/static/..%2fapp.py").status_code == 404

    def test_entry_is_registered_under_the_components_name(self, get):
        (entry,) = [
            app for app in get("/api/v2/plugins", role="ADMIN").json()["plugins"] if app["name"] == "kirin_generation"
        ]
        (react_app,) = entry["react_apps"]
        assert react_app["name"] == "Kirin" and react_app["destination"] == "nav"
        script = get(react_app["bundle_url"]).text
        assert "globalThis.Kirin =" in script


class TestGallery:
    @pytest.fixture
    def stored(self, airflow_db, request) -> str:
        """A hundred generations of a DAG of this test's own, in runs of ten."""
        dag_id = f"gallery_{abs(hash(request.node.nodeid))}"
        store(
            [sample for one in samples(100, dags=1, a_run=10) for sample in [one] if not setattr(one, "dag_id", dag_id)]
        )
        return dag_id

    def all_of(self, get: Callable[..., Any], query: str) -> list[dict[str, Any]]:
        cards, after = [], ""
        while after is not None:
            page = get(f"/kirin/api/generations?{query}&after={after}").json()
            cards += page["cards"]
            after = page["next"]
        return cards

    def test_pages_show_everything_once_the_latest_run_first(self, stored, get, emulator):
        cards = self.all_of(get, f"dag={stored}")
        assert len(cards) == len({card["id"] for card in cards}) == 100
        runs = [card["run_id"] for card in cards]
        assert runs == sorted(runs, reverse=True)
        assert emulator.requests() == []

    @pytest.mark.parametrize(
        "filtered", ["state=failed", "text=TEAPOT", "text=no. 42", "model=kirin_v1_6_i2v", "model=x"]
    )
    def test_filters_find_what_is_there(self, stored, get, filtered):
        name, _, value = filtered.partition("=")
        wanted = {"state": "status", "text": "prompt"}.get(name, name)
        everything = self.all_of(get, f"dag={stored}")
        found = self.all_of(get, f"dag={stored}&{filtered}")
        assert found == [card for card in everything if value.casefold() in card[wanted].casefold()]
        assert len(found) < 100 or name == "model"

    def test_search_goes_on_behind_many_runs_without_a_match(self, airflow_db, get, request):
        dag_id = f"long_{abs(hash(request.node.nodeid))}"
        prompts = {0: "Ein größerer KÄFER", 40: "ein Käfer groß", 45: "Ein Haus"}
        now = datetime.now(UTC)
        store(Sample(f"{dag_id}-{n}", dag_id, f"{n:03}", now, order={"prompt": prompts.get(n, "")}) for n in range(60))
        for text, found in (("käfer", [40, 0]), ("GROSS", [40]), ("ein haus", [45]), ("kaefer", []), ('"', [])):
            cards = self.all_of(get, f"dag={dag_id}&text={text}")
            assert [card["id"] for card in cards] == [f"{dag_id}-{n}" for n in found], text

    def test_state_is_known_wherever_the_end_was_recorded(self, airflow_db, get, request):
        dag_id = f"ends_{abs(hash(request.node.nodeid))}"
        now = datetime.now(UTC)

        def records(about: str, usage: Sequence[tuple[str, str]] = (), **where: Any) -> Sample:
            sample = Sample(about, dag_id, "run", now, **where)
            ends = [{"kirin_task_id": f"{dag_id}-{one}", "status": status} for one, status in usage]
            submission = {"kirin_task_id": f"{dag_id}-{about}"}
            own = {"kirin_submission": submission} if about else {}
            sample.xcoms = lambda: iter((own | {"kirin_usage": ends}).items())  # type: ignore[method-assign]
            return sample

        of_all = [("a", "failed"), ("b", "completed")]
        store(
            [
                *(records(name, map_index=index) for index, name in enumerate("abc")),
                records("", of_all, task_id="wait_for_all"),
                records("d", task_id="submit", map_index=7),
                records("", [("d", "failed")], task_id="wait", map_index=7),
                # Of an earlier generation of the same task.
                records("e", [("old", "failed")], task_id="again"),
            ]
        )
        for state, found in (("failed", "ad"), ("completed", "b"), ("in_progress", "ce")):
            cards = self.all_of(get, f"dag={dag_id}&state={state}")
            assert {card["id"] for card in cards} == {f"{dag_id}-{one}" for one in found}, state

    def test_records_that_are_none_end_no_page(self, airflow_db, get, request):
        dag_id = f"none_{abs(hash(request.node.nodeid))}"
        made = [Sample(f"{dag_id}-{n}", dag_id, f"{n:03}", datetime.now(UTC)) for n in range(30)]
        for sample in made[5:]:
            sample.xcoms = lambda: iter([("kirin_submission", "edited")])  # type: ignore[method-assign]
        store(made)
        assert len(self.all_of(get, f"dag={dag_id}")) == 5

    def test_a_day_is_in_utc(self, stored, get):
        day = (datetime.now(UTC) - timedelta(days=10)).date().isoformat()
        found = self.all_of(get, f"dag={stored}&day={day}")
        assert found and all(card["timeline"][0]["at"].startswith(day) for card in found)

    @pytest.mark.parametrize(
        "query",
        [f"after={10**30}.0.x", f"after=1.{10**30}.x", "after=1.1.%00", "day=9999-12-31", "text=%00", "dag=%00"],
    )
    def test_what_cannot_be_in_a_database_is_not_found(self, get, airflow_db, query):
        assert get(f"/kirin/api/generations?{query}").status_code == 200

    @pytest.mark.parametrize("place", [f"a/b/c/{10**30}", "a/b%00/c/-1", "a/b/c%00/-1"])
    @pytest.mark.parametrize("kind", ["generation", "manifest", "live"])
    def test_a_task_instance_that_cannot_be_is_not_found(self, get, airflow_db, place, kind):
        assert get(f"/kirin/api/{kind}/{place}{'/x' if kind == 'live' else ''}").status_code == 404

    def test_sums_count_each_generation_once(self, get, airflow_db):
        at = datetime.now(UTC)
        usage = {"at": at.isoformat(), "cost": "0.5"}
        first = Sample("sum-1", "sums", "r", at, usage=usage, task_id="generate")
        again = Sample("sum-1", "sums", "r", at, usage=usage, task_id="sensor")
        failed = {"at": at.isoformat(), "status": "failed", "cost": "", "error": {"code": "77"}}
        store([first, again, Sample("sum-2", "sums", "r", at, usage=failed, task_id="other")])
        from airflow_provider_kirin.plugins.app import app

        app.state.ends = (0.0, [])
        sums = get("/kirin/api/summary").json()
        assert sums["days"][at.date().isoformat()]["sums"] == "0.5"
        assert ["77", 1] in sums["failures"]

    @pytest.mark.parametrize(
        "value", [None, 7, "x", [], {}, {"kirin_task_id": 7}, {"kirin_task_id": EVIL, "images": [7]}]
    )
    def test_records_of_any_shape_are_shown_or_skipped(self, get, airflow_db, value):
        sample = Sample(f"odd-{value!r}"[:40], "odd", f"run {value!r}", datetime.now(UTC), submission={})
        sample.xcoms = lambda: iter(
            (key, value) for key in ("kirin_submission", "kirin_order", "kirin_usage", "kirin_files")
        )  # type: ignore[method-assign]
        store([sample])
        assert get("/kirin/api/generations?dag=odd").status_code == 200


class TestWithAnXComBackend:
    @pytest.fixture
    def stored(self, submitted, tmp_path, monkeypatch) -> Iterator[Path]:
        """The record of the submission in a file, as Airflow's own backend keeps it, and its URI in the database."""
        from airflow.models.xcom import XComModel
        from airflow.providers.common.io.xcom import backend
        from airflow.utils.session import create_session

        monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", tmp_path.as_uri())
        monkeypatch.setattr("airflow_provider_kirin.plugins.query.XCom", backend.XComObjectStorageBackend)
        backend._get_base_path.cache_clear()
        path = tmp_path / "submission.json"
        with create_session() as session:
            row = session.scalar(select(XComModel).filter_by(dag_id=submitted.dag_id, key="kirin_submission"))
            path.write_text(json.dumps(row.value))
            row.value = path.as_uri()
        yield path
        backend._get_base_path.cache_clear()

    def test_the_record_is_read_by_it(self, submitted, visit, stored):
        page = visit(submitted, "submit")
        assert page.status_code == 200 and submitted.result("submit") in page.text

    def test_a_record_that_is_gone_is_none(self, submitted, visit, stored):
        stored.unlink()
        assert visit(submitted, "submit").json()["cards"] == []

    def test_a_record_that_cannot_be_read_is_not_found(self, submitted, visit, stored, monkeypatch, logged):
        class Encrypted:
            @staticmethod
            def deserialize_value(row: Any) -> Any:
                raise RuntimeError(f"no key for {row.key} of {row.task_id}")

        monkeypatch.setattr("airflow_provider_kirin.plugins.query.XCom", Encrypted)
        page = visit(submitted, "submit")
        assert page.json()["cards"] == [] and "no key" not in page.text
        assert "no key for kirin_submission of submit" in logged()

    def test_a_record_of_a_backend_that_is_no_longer_configured_is_not_found(
        self, submitted, visit, stored, monkeypatch
    ):
        from airflow.sdk.bases.xcom import BaseXCom

        monkeypatch.setattr("airflow_provider_kirin.plugins.query.XCom", BaseXCom)
        assert visit(submitted, "submit").json()["cards"] == []
