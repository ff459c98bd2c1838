"""Genuine callbacks end waits, and no others do, in Airflow's own web application and database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from airflow.secrets.environment_variables import EnvironmentVariablesBackend

from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.plugins import callback as receiver
from airflow_provider_kirin.plugins import callback_handler, callback_keys, wake
from airflow_provider_kirin.plugins.callback_handler import WAVE_KEPT, WAVE_SECONDS, CallbackHandler
from airflow_provider_kirin.plugins.callback_inbox import Handled
from airflow_provider_kirin.plugins.generation_lookup import look_up_once
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.triggers.events import load_event
from tests.support.callbacks import Deferred, path_of
from tests.support.emulator import KEY
from tests.support.waiting import HANG, until

pytestmark = pytest.mark.usefixtures("airflow_db", "conn_id")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this process stands still, lookups go on and keys are known."""
    monkeypatch.setattr(callback_handler, "LOOKUP_TIMEOUT", HANG)
    monkeypatch.setattr(callback_keys, "LOOKUP_TIMEOUT", HANG)
    monkeypatch.setattr(callback_keys, "PROOF_SECONDS", HANG)


@pytest.fixture(scope="module")
def application(airflow_db: Any) -> Any:
    """Airflow's web application, with the plugins that it finds."""
    from airflow.api_fastapi.app import create_app

    return create_app(apps="core")


@pytest.fixture
def web(application: Any) -> Iterator[Any]:
    """The same, started anew, with a receiver that knows no key yet."""
    from fastapi.testclient import TestClient

    with TestClient(application, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def conn_id(connect: Any, emulator: Any) -> str:
    """The default connection, to the emulator, with callbacks."""
    return connect(emulator.url, timeout=300, callback_base_url="http://127.0.0.1:9")


@pytest.fixture
def submit(conn_id: str, image_file: str) -> Callable[..., Any]:
    """Start a generation at the emulator."""

    def start(prompt: str = "x", external_task_id: str = "own-1") -> Any:
        return KirinHook().submit({"image": image_file, "prompt": prompt, "external_task_id": external_task_id})

    return start


@pytest.fixture
def generate(dag: Any) -> Deferred:
    """A run of a DAG with one task that generates."""
    with dag:
        KirinGenerateVideoOperator(task_id="generate", payload={"image": "https://h.example/a.png", "prompt": "x"})
    return Deferred(dag)


@pytest.fixture
def sense(dag: Any) -> Deferred:
    """A run of a DAG with a task that submits, and one that waits."""
    with dag:
        submit = KirinSubmitOperator(task_id="submit", payload={"image": "https://h.example/a.png", "prompt": "x"})
        KirinTaskSensor(task_id="wait", kirin_task_id=submit.output)
    return Deferred(dag)


def handle(token: Any) -> Handled:
    """Do what the receiver does with a genuine token, once."""

    async def once() -> Handled:
        handler = CallbackHandler(look_up_once)
        try:
            return await handler.handle(token)
        finally:
            handler.close()

    return asyncio.run(once())


def test_ends_the_task_with_its_result_where_the_trigger_would_have(web, generate, submit):
    kirin_task = submit()
    trigger = generate.defer("generate", [kirin_task.id], external_task_id="own-1", result_shape="one")
    assert web.post(path_of(generate.token("generate", "own-1"), KEY)).status_code == 202
    until(lambda: generate.ti("generate").state == "success", "the task has ended")
    xcoms = generate.xcoms("generate")
    assert xcoms["return_value"]["id"] == kirin_task.id
    assert xcoms["return_value"]["videos"] and xcoms["return_value"]["external_task_id"] == "own-1"
    assert [entry["cost"] for entry in xcoms["kirin_usage"]] == ["0.28"]
    # By this the trigger will know why its wait has ended.
    assert xcoms["kirin_callback"]["started_at"] == trigger.started_at


def test_resumes_the_task_on_a_worker_otherwise(generate, submit):
    kirin_task = submit("[[fail:8002005098]]")
    generate.defer("generate", [kirin_task.id], external_task_id="own-1", result_shape="one")
    assert handle(generate.token("generate", "own-1")) == Handled("resumed")
    ti = generate.ti("generate")
    assert ti.state == "scheduled" and ti.trigger_id is None
    from airflow.sdk.serde import deserialize

    (outcome,) = load_event(deserialize(ti.next_kwargs)["event"], expected=1)
    assert outcome.code == "8002005098"


def test_a_gateway_that_does_not_respond_is_named_in_the_log(generate, submit, emulator, logged, monkeypatch):
    monkeypatch.setattr(callback_handler, "LOOKUP_TIMEOUT", 0.2)
    kirin_task = submit()
    generate.defer("generate", [kirin_task.id], external_task_id="own-1")
    emulator.fault(on="get", kind="hang", times=-1)
    assert handle(generate.token("generate", "own-1")) == Handled("error", again=True)
    assert f"could not be asked about {kirin_task.id}: no response within 0.2 s" in logged()


def test_holds_the_event_back_until_the_scheduler_knows_that_the_worker_has_ended(generate, submit):
    kirin_task, now = submit(), time.time()
    generate.defer("generate", [kirin_task.id], external_task_id="own-1", started_at=now - 1, earliest_event=now + 3600)
    handled = handle(generate.token("generate", "own-1"))
    assert handled.result == "held" and 3500 < handled.wait <= 3600
    assert generate.ti("generate").state == "deferred"


def test_asks_once_for_a_generation_whose_event_is_held_back(generate, submit, emulator):
    now = time.time()
    generate.defer("generate", [submit().id], external_task_id="own-1", started_at=now, earliest_event=now + 3600)
    token = generate.token("generate", "own-1")

    async def twice() -> list[str]:
        handler = CallbackHandler(look_up_once)
        try:
            return [(await handler.handle(token)).result for _ in range(2)]
        finally:
            handler.close()

    assert asyncio.run(twice()) == ["held", "held"]
    assert len(emulator.requests("GET")) == 1


def test_before_the_gateway_reports_the_end_it_polls_again(generate, submit):
    generate.defer("generate", [submit("[[seconds:600]]").id], external_task_id="own-1")
    assert handle(generate.token("generate", "own-1")) == Handled("early", again=True)
    assert generate.ti("generate").state == "deferred"


def test_polls_again_if_the_gateway_cannot_be_reached(generate, submit, emulator):
    generate.defer("generate", [submit().id], external_task_id="own-1")
    emulator.fault(on="get", kind="status", status=503)
    assert handle(generate.token("generate", "own-1")) == Handled("error", again=True)
    assert handle(generate.token("generate", "own-1")) == Handled("resumed")


@pytest.mark.parametrize("resumes_from", [None, "resume_submission"], ids=["at first", "after a full account"])
def test_before_the_task_is_deferred_it_is_looked_at_again(generate, submit, emulator, resumes_from):
    kirin_task = submit()
    token = generate.token("generate", "own-1")
    generate.put_into_state("generate", "running", next_method=resumes_from)
    assert handle(token) == Handled("ignored", again=True)
    generate.submitted("generate", kirin_task.id, "own-1")
    assert handle(token) == Handled("ignored", again=True)
    assert emulator.requests("GET") == []
    generate.defer("generate", [kirin_task.id], external_task_id="own-1")
    assert handle(token) == Handled("resumed")


@pytest.mark.parametrize("state", [None, "queued", "success", "failed", "up_for_retry", "running"])
def test_after_the_wait_or_without_one_it_is_looked_at_once(generate, submit, emulator, state):
    generate.submitted("generate", submit().id, "own-1")
    # While it runs: on a worker to which a wait has handed it.
    generate.put_into_state("generate", state, next_method="execute_complete" if state == "running" else None)
    assert handle(generate.token("generate", "own-1")) == Handled("ignored")
    assert emulator.requests("GET") == []


@pytest.mark.parametrize("change", [{"external_task_id": "own-0"}, {"run_id": "another"}, {"map_index": 0}])
def test_a_token_of_another_generation_changes_nothing(generate, submit, emulator, change):
    generate.defer("generate", [submit().id], external_task_id="own-1")
    asked = len(emulator.requests())
    assert handle(replace(generate.token("generate", "own-1"), **change)) == Handled("ignored")
    assert generate.ti("generate").state == "deferred"
    assert len(emulator.requests()) == asked


@pytest.mark.parametrize("task_id", ["submit", "wait"])
def test_the_key_of_another_connection_ends_no_wait(sense, submit, connect, emulator, task_id):
    connect(emulator.url, conn_id="foreign", callback_base_url="http://127.0.0.1:9")
    kirin_task = submit()
    sense.submitted("submit", kirin_task.id, "own-1")
    sense.defer(task_id, [kirin_task.id], external_task_id="own-1", result_shape="one")
    asked = len(emulator.requests())
    assert handle(sense.token("submit", "own-1", kirin_conn_id="foreign")).result == "ignored"
    assert sense.ti(task_id).state == "deferred"
    assert len(emulator.requests()) == asked


def test_twice_and_too_late_change_nothing(generate, submit, emulator):
    generate.defer("generate", [submit().id], external_task_id="own-1", result_shape="one")
    token = generate.token("generate", "own-1")
    assert [handle(token).result for _ in range(3)] == ["ended", "ignored", "ignored"]
    assert generate.ti("generate").state == "success"


def test_ends_the_wait_of_a_sensor_in_the_same_run(sense, submit):
    kirin_task = submit()
    sense.submitted("submit", kirin_task.id, "own-1")
    sense.defer("wait", [kirin_task.id], result_shape="one")
    assert handle(sense.token("submit", "own-1")) == Handled("ended")
    assert sense.xcoms("wait")["return_value"]["id"] == kirin_task.id


def test_a_list_waits_for_all(sense, submit):
    first, second = submit(external_task_id="own-1"), submit("[[seconds:600]]", external_task_id="own-2")
    sense.submitted("submit", first.id, "own-1")
    sense.defer("wait", [first.id, second.id], result_shape="list")
    assert handle(sense.token("submit", "own-1")) == Handled("incomplete")
    third = submit(external_task_id="own-3")
    sense.defer("wait", [first.id, third.id, first.id], result_shape="list")
    assert handle(sense.token("submit", "own-1")) == Handled("ended")
    assert [one["id"] for one in sense.xcoms("wait")["return_value"]] == [first.id, third.id, first.id]
    assert len(sense.xcoms("wait")["kirin_usage"]) == 2


def test_a_list_that_fails_fast_waits_for_the_first_failure(sense, submit):
    first, second = submit("[[fail:8002005098]]"), submit("[[seconds:600]]", external_task_id="own-2")
    sense.submitted("submit", first.id, "own-1")
    sense.defer("wait", [second.id, first.id], result_shape="list", fail_fast=True)
    assert handle(sense.token("submit", "own-1")) == Handled("resumed")


def test_of_50_parallel_callbacks_one_ends_the_task(generate, submit):
    kirin_task = submit()
    generate.defer("generate", [kirin_task.id], external_task_id="own-1", result_shape="one")
    found = wake.find(generate.token("generate", "own-1"))
    (wait,) = found.waits
    done = KirinHook().get_task(kirin_task.id)
    with ThreadPoolExecutor(50) as callers:
        ended = [callers.submit(wake.end, wait, kirin_task.id, wait.trigger.result_of([done])) for _ in range(50)]
    assert [one.result() for one in ended].count(True) == 1
    assert generate.ti("generate").state == "success"


class TestABatch:
    @pytest.fixture
    def batch(self, dag: Any, tmp_path: Any) -> Deferred:
        """A run of a DAG with one batch."""
        with dag:
            KirinBatchOperator(task_id="videos", payloads=[], destination=str(tmp_path))
        return Deferred(dag)

    @pytest.fixture
    def rows(self, submit: Any) -> list[Any]:
        """Rows that have ended, and one in progress."""
        prompts = ["x", "[[fail:8002005098]]", "x", "[[seconds:600]]"]
        return [submit(prompt, external_task_id=f"own-{n}") for n, prompt in enumerate(prompts)]

    @pytest.fixture(autouse=True)
    def gather(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Set the seconds for which the first callback waits for others; none at first."""

        def gather(seconds: float) -> None:
            monkeypatch.setattr(callback_handler, "GATHER_SECONDS", seconds)

        gather(0)
        return gather

    def test_next_wave_begins_when_that_is_worth_a_worker(self, batch, rows):
        trigger = batch.defer_batch("videos", [row.id for row in rows])
        assert handle(batch.token("videos", "own-3")) == Handled("early", again=True)
        assert handle(batch.token("videos", "own-1")) == Handled("resumed")
        ti = batch.ti("videos")
        assert ti.state == "scheduled" and ti.trigger_id is None
        assert batch.xcoms("videos")["kirin_callback"]["started_at"] == trigger.deferred_at

    def test_all_that_is_needed_ends_the_wait_once(self, batch, rows):
        # Without rows that wait for a place, a worker comes after a minute, or when all have ended.
        batch.defer_batch("videos", [row.id for row in rows[:3]], has_more=False)
        batch.pushed("videos", "kirin_batch", {})

        async def all_at_once() -> list[Handled]:
            handler = CallbackHandler(look_up_once)
            try:
                first = [await handler.handle(batch.token("videos", f"own-{n}")) for n in (0, 0, 1)]
                assert batch.ti("videos").state == "deferred"
                again = [handler.handle(batch.token("videos", f"own-{n}")) for n in (2, 2, 0, 1, 2)]
                return [*first, *await asyncio.gather(*again)]
            finally:
                handler.close()

        results = asyncio.run(all_at_once())
        assert [handled.result for handled in results[:3]] == ["held"] * 3
        assert all(0 < handled.wait <= 60 for handled in results[:3])
        # What came too late for the event is not lost: the worker does not poll it.
        assert sorted(handled.result for handled in results[3:]) == [*["held"] * 4, "resumed"]
        assert batch.ti("videos").state == "scheduled"

    def test_what_is_not_in_flight_or_of_another_connection_changes_nothing(
        self, batch, rows, connect, emulator, submit
    ):
        connect(emulator.url, conn_id="foreign", callback_base_url="http://127.0.0.1:9")
        batch.defer_batch("videos", [rows[0].id])
        assert handle(batch.token("videos", "own-2")) == Handled("ignored")
        asked = len(emulator.requests())
        assert handle(batch.token("videos", "own-0", kirin_conn_id="foreign")).result == "ignored"
        assert len(emulator.requests()) == asked and batch.ti("videos").state == "deferred"

    def test_the_worker_gets_what_was_reported_with_what_ended_at_about_the_same_time(
        self, batch, rows, emulator, gather
    ):
        from airflow.sdk.serde import deserialize

        batch.defer_batch("videos", [row.id for row in rows])
        asked = len(emulator.requests("GET"))

        async def one_after_another() -> list[Handled]:
            handler = CallbackHandler(look_up_once)
            try:
                gather(60)
                first = [await handler.handle(batch.token("videos", f"own-{n}")) for n in (0, 1)]
                gather(0)
                return [*first, await handler.handle(batch.token("videos", "own-0"))]
            finally:
                handler.close()

        first, second, last = asyncio.run(one_after_another())
        assert (first.result, second.result) == ("held", "held") and 50 < first.wait <= 60
        assert last == Handled("resumed")
        assert len(emulator.requests("GET")) == asked + 2
        reported = Reported.from_event(deserialize(batch.ti("videos").next_kwargs)["event"])
        assert reported.is_current(time.time())
        assert set(reported.ended) == {rows[0].id, rows[1].id}
        failed = reported.ended[rows[1].id]
        assert failed is not None and failed.status == "failed" and failed.error.code == "8002005098"

    @pytest.mark.parametrize("state", ["scheduled", "queued", "running"])
    def test_during_a_wave_it_is_kept_for_the_next_one(self, batch, rows, emulator, state):
        batch.defer_batch("videos", [rows[3].id])
        batch.pushed("videos", "kirin_batch", {})
        batch.put_into_state("videos", state, next_method="execute_complete")
        asked = len(emulator.requests("GET"))
        assert handle(batch.token("videos", "own-0")) == Handled("held", wait=WAVE_SECONDS, keep=WAVE_KEPT)
        assert len(emulator.requests("GET")) == asked
        batch.defer_batch("videos", [rows[0].id])
        assert handle(batch.token("videos", "own-0")) == Handled("resumed")

    def test_during_a_wave_airflow_is_asked_once_for_all_its_rows(self, batch, rows, monkeypatch):
        batch.pushed("videos", "kirin_batch", {})
        batch.put_into_state("videos", "running", next_method="execute_complete")
        really, asked = wake.find, []

        def find(token: Any) -> wake.Found:
            asked.append(token.external_task_id)
            return really(token)

        monkeypatch.setattr(wake, "find", find)

        async def all_at_once() -> list[Handled]:
            handler = CallbackHandler(look_up_once)
            try:
                return [await handler.handle(batch.token("videos", f"own-{n}")) for n in range(4)]
            finally:
                handler.close()

        results = asyncio.run(all_at_once())
        assert {handled.result for handled in results} == {"held"} and asked == ["own-0"]

    def test_held_back_until_the_scheduler_knows_that_the_worker_has_ended(self, batch, rows):
        batch.defer_batch("videos", [rows[0].id], deferred_at=time.time(), earliest_event=time.time() + 3600)
        handled = handle(batch.token("videos", "own-0"))
        assert handled.result == "held" and 3500 < handled.wait <= 3600


class TestAnAsset:
    @pytest.fixture
    def asset_dag(self, dag: Any) -> Deferred:
        from airflow.sdk import DAG, Asset, task

        from tests.support.triggerer import write_dag

        with DAG(f"{dag.dag_id}_reacts", schedule=[Asset("videos-made", "x-kirin://videos")]) as reacts:
            task(lambda: None, task_id="react")()
        write_dag(reacts)
        with dag:
            KirinSubmitOperator(
                task_id="submit",
                payload={"image": "https://h.example/a.png", "prompt": "x"},
                callback_asset=Asset("videos-made", "x-kirin://videos"),
            )
        return Deferred(dag)

    def events(self, of: Deferred) -> list[Any]:
        from airflow.models.asset import AssetEvent
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            events = list(session.scalars(select(AssetEvent).filter_by(source_dag_id=of.dag.dag_id)))
            session.expunge_all()
            return events

    def token(self, of: Deferred) -> Any:
        return of.token("submit", "own-1", asset=("videos-made", "x-kirin://videos"))

    def test_gets_one_event_with_id_cost_and_uris_and_no_task_waits(self, asset_dag, submit):
        kirin_task = submit()
        asset_dag.submitted("submit", kirin_task.id, "own-1")
        with ThreadPoolExecutor(5) as callers:
            results = list(callers.map(handle, [self.token(asset_dag)] * 5))
        assert sorted(one.result for one in results) == ["asset", *["ignored"] * 4]
        (event,) = self.events(asset_dag)
        assert event.extra["kirin_task_id"] == kirin_task.id and event.extra["cost"] == "0.28"
        assert event.extra["uris"] == [event.extra["uri"]] and "?" not in event.extra["uri"]

    def test_gets_none_for_a_generation_that_failed(self, asset_dag, submit):
        asset_dag.submitted("submit", submit("[[fail:8002005098]]").id, "own-1")
        assert handle(self.token(asset_dag)) == Handled("ignored")
        assert self.events(asset_dag) == []

    def test_waits_for_the_record_of_the_submission(self, asset_dag, submit):
        submit()
        asset_dag.put_into_state("submit", "running")
        assert handle(self.token(asset_dag)) == Handled("ignored", again=True)

    def test_that_no_dag_knows_gets_none(self, asset_dag, submit, logged):
        asset_dag.submitted("submit", submit().id, "own-1")
        token = replace(self.token(asset_dag), asset=("unknown", "x-kirin://unknown"))
        assert handle(token) == Handled("ignored")
        assert "no DAG of this Airflow knows it" in logged()


class TestHostileCallers:
    """Nothing changes, nothing is reported, and no request is sent."""

    @pytest.fixture
    def deferred(self, generate, submit) -> Deferred:
        """A task that a genuine callback would end."""
        generate.defer("generate", [submit().id], external_task_id="own-1", result_shape="one")
        return generate

    @pytest.fixture
    def knowing(self, web, generate, emulator) -> Any:
        """The web application, after it has looked up the key of the connection."""
        web.post(path_of(generate.token("generate", "unknown"), KEY))
        until(
            lambda: web.post(path_of(generate.token("generate", "x"), "wrong")).status_code == 403, "it knows the key"
        )
        return web

    @pytest.fixture(autouse=True)
    def nothing_changes(self, deferred, emulator) -> Iterator[None]:
        asked = len(emulator.requests("GET"))
        yield
        assert deferred.ti("generate").state == "deferred"
        assert len(emulator.requests("GET")) == asked

    def test_with_a_wrong_key(self, knowing, deferred):
        answer = knowing.post(path_of(deferred.token("generate", "own-1"), "another-key"))
        assert answer.status_code == 403 and answer.content == b""

    def test_with_an_expired_token(self, knowing, deferred):
        token = deferred.token("generate", "own-1", expires_at=int(time.time()) - 1)
        assert knowing.post(path_of(token, KEY)).status_code == 403

    def test_with_the_token_of_another_connection(self, knowing, deferred, connect):
        connect("http://127.0.0.1:9", key="another-key", conn_id="foreign", callback_base_url="http://127.0.0.1:9")
        token = deferred.token("generate", "own-1", kirin_conn_id="foreign")
        answers = [knowing.post(path_of(token, KEY)).status_code]
        until(lambda: answers.append(knowing.post(path_of(token, KEY)).status_code) or 403 in answers, "is verified")
        assert set(answers) == {202, 403}

    def test_with_the_password_of_a_connection_without_callbacks(self, knowing, deferred, connect):
        # One of Airflow's default connections: everybody knows its password.
        connect("localhost", key="airflow", conn_id="ftp_default", passive_mode=True)
        path = path_of(deferred.token("generate", "unknown", kirin_conn_id="ftp_default"), "airflow")
        until(lambda: knowing.post(path).status_code == 403, "the token is refused")

    @pytest.mark.parametrize(
        "query", ["", "?token=", "?token=x", "?token=" + "x" * 9000, "?token=%ff%00.%ff", "?a&b&c"]
    )
    def test_without_a_token(self, knowing, query):
        answer = knowing.post("/kirin-callback/generation" + query)
        assert answer.status_code == 403 and answer.content == b""

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
    def test_with_another_method(self, knowing, deferred, method):
        assert knowing.request(method, path_of(deferred.token("generate", "own-1"), KEY)).status_code == 405

    def test_with_a_huge_body(self, knowing, deferred):
        body = (b"x" * 1024 for _ in range(65))
        assert knowing.post(path_of(deferred.token("generate", "own-1"), KEY), content=body).status_code == 413

    def test_with_a_body_that_reports_a_generation_in_progress(self, knowing, deferred):
        body = {"task_status": "processing", "task_result": {"videos": []}}
        assert knowing.post(path_of(deferred.token("generate", "own-1"), KEY), json=body).status_code == 202

    def test_with_a_report_of_progress_before_the_key_is_known(self, web, deferred):
        body, known = {"task_status": "submitted"}, _receiver_of(web)._counts["progress"]
        assert web.post(path_of(deferred.token("generate", "own-1"), KEY), json=body).status_code == 202
        assert _receiver_of(web)._counts["progress"] == known + 1

    def test_a_flood_of_forged_tokens_looks_up_few_connections(self, knowing, deferred, monkeypatch):
        looked_up: list[Any] = []
        read = EnvironmentVariablesBackend.get_conn_value

        def counting(*args: Any, **how: Any) -> str | None:
            looked_up.append(how)
            return read(*args, **how)

        monkeypatch.setattr(EnvironmentVariablesBackend, "get_conn_value", counting)
        paths = [
            path_of(deferred.token("generate", "own-1", kirin_conn_id=f"conn_{number}"), "wrong")
            for number in range(500)
        ]
        began = time.monotonic()
        with ThreadPoolExecutor(8) as flood:
            statuses = list(flood.map(lambda path: knowing.post(path).status_code, paths))
        assert set(statuses) <= {202, 403, 503}
        until(_receiver_of(knowing)._unverified.empty, "all are verified")
        assert len(looked_up) <= (time.monotonic() - began) / receiver.FORGERY_PAUSE + 1
        assert looked_up


def _receiver_of(web: Any) -> Any:
    return receiver.app.state.receiver


def test_broken_bodies_with_a_genuine_token_are_a_hint_to_look(web, generate, submit):
    generate.defer("generate", [submit().id], external_task_id="own-1", result_shape="one")
    for body in (b"\xff\xfe", b"[" * 60_000, b'{"status": {"a": 1}}', b"null"):
        web.post(path_of(generate.token("generate", "own-1"), KEY), content=body)
    until(lambda: generate.ti("generate").state == "success", "the task has ended")


def test_a_new_api_key_makes_earlier_tokens_worthless(web, generate, submit, connect, emulator):
    generate.defer("generate", [submit("[[seconds:600]]").id], external_task_id="own-1")
    path = path_of(generate.token("generate", "own-1"), KEY)
    connect(emulator.url, key="sk-rotated", callback_base_url="http://127.0.0.1:9")
    web.post(path)
    until(lambda: web.post(path).status_code == 403, "the key is known")
