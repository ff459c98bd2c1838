"""What `callback="auto"` and `callback_asset` send, and what a trigger makes of a wait that a callback has ended."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import Asset
from airflow.sdk.execution_time.supervisor import set_supervisor_comms

from airflow_provider_kirin.api.callback_health import SAFETY_NET, CallbackHealth
from airflow_provider_kirin.api.callback_token import parse_unverified, signing_key, verify
from airflow_provider_kirin.api.capacity import Waiter
from airflow_provider_kirin.hooks import poller_factory
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.hooks.poller_factory import callback_health
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.plugins import wake
from airflow_provider_kirin.triggers.account_line import AccountLine
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from tests.support.callbacks import Deferred
from tests.support.emulator import KEY
from tests.support.raw_server import RawServer
from tests.support.triggerer import Comms
from tests.support.waiting import HANG, until

pytestmark = pytest.mark.usefixtures("conn_id")


@pytest.fixture
def payload(image_file: str) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round."}


@pytest.fixture
def called(raw_server: Any, connect: Any, emulator: Any) -> RawServer:
    """What the gateway calls, where Airflow's API server would be."""

    def answer(connection: socket.socket, server: RawServer) -> None:
        server.send(connection, b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")

    server = raw_server(answer)
    connect(emulator.url, callback_base_url=f"{server.url}/base/")
    return server


def token_of(called: RawServer) -> str:
    """Return the token with which the gateway has called."""
    request = until(lambda: called.requests and called.requests[0], "the gateway calls back").decode()
    parts = urlsplit(request.split()[1])
    assert request.startswith("POST ") and parts.path == "/base/kirin-callback/generation"
    return parse_qs(parts.query)["token"][0]


def test_the_url_names_the_task_instance_and_is_signed(dag, run, payload, called):
    with dag:
        KirinGenerateVideoOperator.partial(task_id="generate", callback="auto").expand(payload=[payload])
    ended = run(dag)
    assert ended.state == "success"
    said = parse_unverified(token := token_of(called))
    assert said is not None and verify(token, signing_key(KEY), now=time.time())
    assert (said.dag_id, said.run_id, said.task_id, said.map_index) == (dag.dag_id, ended.run_id, "generate", 0)
    assert said.external_task_id == ended.result("generate", 0)["external_task_id"]
    assert (said.kirin_conn_id, said.asset) == ("kirin_default", None)
    # Nobody else sees it.
    assert token[:40] not in ended.log + ended.everything_stored()


def test_each_row_of_a_batch_has_a_url_of_its_own(dag, run, payload, called, tmp_path):
    rows = [payload | {"prompt": f"Row {n}"} for n in range(3)]
    with dag:
        KirinBatchOperator(
            task_id="videos", payloads=rows, destination=str(tmp_path), callback="auto", poll_interval=0.1
        )
    ended = run(dag)
    assert ended.state == "success", ended.log
    (manifest,) = tmp_path.rglob("manifest.jsonl")
    submitted = {json.loads(line)["external_task_id"] for line in manifest.read_text().splitlines()}
    assert len(submitted) == 3
    until(lambda: {said.external_task_id for said in tokens_of(called)} == submitted, "the gateway calls back for each")
    assert {(said.task_id, said.map_index) for said in tokens_of(called)} == {("videos", -1)}


def tokens_of(called: RawServer) -> list[Any]:
    """Return what the tokens say with which the gateway has called."""
    urls = [urlsplit(request.decode().split()[1]) for request in list(called.requests)]
    return [parse_unverified(parse_qs(url.query)["token"][0]) for url in urls]


def test_it_is_no_part_of_what_identifies_the_generation(dag, run, payload, called, emulator):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload, callback="auto")
    first = run(dag, run_conf={}).xcoms()["submit", -1, "kirin_submission"]
    assert first["external_task_id"] == parse_unverified(token_of(called)).external_task_id
    assert "callback" not in str(first)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"callback_url": "https://h.example/mine"}, "the payload has a callback_url of its own"),
        ({}, "the connection has no extra callback_base_url"),
    ],
)
def test_without_what_it_needs_the_generation_is_polled_and_one_line_says_why(
    dag, run, payload, connect, emulator, change, reason
):
    if change:
        connect(emulator.url, callback_base_url="http://127.0.0.1:9")
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload | change, callback="auto")
    ended = run(dag)
    assert ended.state == "success"
    (line,) = re.findall(r"Kirin will not call back, and the generation is polled: ([^.]+)\.", ended.log)
    assert line == reason


def test_only_the_task_run_that_submits_relies_on_the_callback(dag, payload, called, emulator):
    with dag:
        operator = KirinGenerateVideoOperator(
            task_id="generate", payload=payload | {"prompt": "[[seconds:600]]"}, callback="auto"
        )
    where = {"dag_id": dag.dag_id, "run_id": "r", "task_id": "generate", "map_index": -1}
    relies, sent = [], []
    for try_number in (1, 2):
        ti = SimpleNamespace(**where, try_number=try_number, max_tries=2, start_date=None)
        ti.xcom_push, ti.xcom_pull = lambda *args, **options: None, lambda **options: None
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute({"ti": ti})
        relies.append(deferred.value.trigger.awaits_callback)
        sent = sent or [request["method"] for request in emulator.requests()]
    # The callback of a generation that is adopted may have come long ago.
    assert relies == [True, False] and emulator.submitted == 1
    assert sent == ["GET", "POST"]


class TestTheFirstPoll:
    @pytest.fixture(autouse=True)
    def health(self, monkeypatch: pytest.MonkeyPatch) -> CallbackHealth:
        """What this process knows about callbacks, for one test."""
        monkeypatch.setattr(poller_factory, "_callback_health", {})
        return callback_health("kirin_default")

    def pauses(self, payload: dict[str, Any], emulator: Any, wanted: list[float], **options: Any) -> list[float]:
        """Wait for a generation that has ended, as in a triggerer; return the pauses before the only poll."""
        kirin_task, now = self.ended(payload), time.time()
        arguments = {"kirin_task_ids": [kirin_task.id], "kirin_conn_id": "kirin_default", "awaits_callback": True}
        trigger = KirinTaskTrigger(**(arguments | {"started_at": now, "deadline": now + 3600} | options))
        return self.pauses_of(trigger, emulator, wanted)

    def ended(self, payload: dict[str, Any]) -> Any:
        """Return a generation that has ended."""
        kirin_task = KirinHook().submit(payload | {"prompt": "[[fail:8002005098]]"})
        until(lambda: KirinHook().get_task(kirin_task.id).is_final, "the generation has ended")
        return kirin_task

    def pauses_of(self, trigger: Any, emulator: Any, wanted: list[float]) -> list[float]:
        """Let a trigger wait for a generation that has ended, and return the pauses before the only poll."""
        asked = len(emulator.requests("GET"))
        trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)

        async def fire() -> None:
            async with asyncio.timeout(HANG):
                await anext(trigger.run())

        wanted.clear()
        asyncio.run(fire())
        assert len(emulator.requests("GET")) == asked + 1
        return wanted

    def test_is_the_safety_net_s(self, payload, emulator, kirin_fast_retries, health):
        (pause,) = self.pauses(payload, emulator, kirin_fast_retries)
        assert SAFETY_NET / 2 < pause <= SAFETY_NET
        # No callback came.
        assert not health.is_expected(time.time())

    @pytest.mark.parametrize(
        "options",
        [{"awaits_callback": False}, {"poll_interval": 7}, {"started_at": 1.0}],
        ids=["adopted", "the user's own interval", "overdue after a restart"],
    )
    def test_is_at_once_otherwise(self, payload, emulator, kirin_fast_retries, options):
        assert self.pauses(payload, emulator, kirin_fast_retries, **options) == []

    @pytest.mark.parametrize(
        ("seconds", "pauses"), [(1, 1), (61, 0)], ids=["in a short wave", "in a long wave, or not at all"]
    )
    def test_of_a_batch_is_the_safety_net_s_if_the_worker_has_just_asked(
        self, payload, emulator, kirin_fast_retries, seconds, pauses
    ):
        kirin_task, now = self.ended(payload), time.time()
        trigger = KirinBatchTrigger(
            kirin_conn_id="kirin_default",
            in_flight=[[kirin_task.id, now]],
            folder=None,
            deferred_at=now,
            known_until=now - seconds,
            earliest_event=now,
            deadline=now + 3600,
            has_more=False,
            retry_at=None,
            poll_interval=None,
            awaits_callback=True,
        )
        assert len(self.pauses_of(trigger, emulator, kirin_fast_retries)) == pauses

    @pytest.mark.usefixtures("kirin_fast_retries")
    def test_of_a_batch_knows_when_the_worker_asked(self, dag, payload, called, emulator, tmp_path):
        with dag:
            operator = KirinBatchOperator(
                task_id="videos",
                payloads=[payload | {"prompt": "[[seconds:600]]"}],
                destination=str(tmp_path),
                callback="auto",
            )
        ti = SimpleNamespace(dag_id=dag.dag_id, run_id="r", task_id="videos", map_index=-1, try_number=1, max_tries=2)
        ti.start_date, ti.xcom_push, ti.xcom_pull = None, lambda *args, **options: None, lambda **options: None
        was_polled = []
        for answers in (True, False):
            if not answers:
                emulator.fault(on="get", kind="status", status=503, times=12)
            with pytest.raises(TaskDeferred) as deferred:
                operator.execute({"ti": ti, "dag": SimpleNamespace(tasks=[])})
            trigger = deferred.value.trigger
            assert trigger.awaits_callback
            was_polled.append(0 < trigger.known_until <= trigger.deferred_at)
        assert was_polled == [True, False] and emulator.submitted == 1

    def test_is_at_once_where_callbacks_do_not_arrive(self, payload, emulator, kirin_fast_retries, health):
        health.on_missed(time.time())
        assert self.pauses(payload, emulator, kirin_fast_retries) == []


def test_without_callbacks_asked_for_there_is_no_log_line(dag, run, payload):
    with dag:
        KirinGenerateVideoOperator(task_id="generate", payload=payload)
    assert "call back" not in run(dag).log


def test_an_asset_that_cannot_get_its_event_stops_the_task_before_it_submits(dag, run, payload, emulator):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload, callback_asset=Asset("videos"))
    ended = run(dag)
    assert ended.state == "failed" and emulator.submitted == 0
    assert "callback_asset needs a callback, and Kirin cannot call back: the connection has no" in ended.log


def test_an_asset_is_in_the_token(dag, run, payload, called):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload, callback_asset=Asset("videos", "x-shop://videos"))
    assert run(dag).state == "success"
    assert parse_unverified(token_of(called)).asset == ("videos", "x-shop://videos")


@pytest.mark.parametrize(
    ("operator", "arguments", "message"),
    [
        (KirinSubmitOperator, {"callback": "on"}, "callback = 'on' must be \"auto\" or None"),
        (KirinSubmitOperator, {"callback_asset": "videos"}, "must be an Asset"),
        (KirinGenerateVideoOperator, {"callback_asset": Asset("videos")}, "use outlets"),
    ],
)
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(operator, arguments, message):
    with pytest.raises(ValueError, match=message):
        operator(task_id="x", payload={"image": "https://h.example/a.png", "prompt": "x"}, **arguments)


class TestTheTriggerWhoseWaitHasEnded:
    @pytest.fixture
    def deferred(self, dag, airflow_db, payload) -> Deferred:
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload)
        return Deferred(dag)

    def kill(self, deferred: Deferred, trigger: Any) -> None:
        trigger.task_instance = deferred.ti("generate")
        with set_supervisor_comms(Comms()):
            asyncio.run(trigger.on_kill())

    def test_knows_a_callback_from_a_kill(self, deferred, payload, logged):
        kirin_task = KirinHook().submit(payload | {"external_task_id": "own-1"})
        trigger = deferred.defer("generate", [kirin_task.id], external_task_id="own-1", result_shape="one")
        health = callback_health("kirin_default")
        health.on_missed(now := time.time())
        self.kill(deferred, trigger)
        assert "was stopped" in logged() and not health.is_expected(now)
        (wait,) = wake.find(deferred.token("generate", "own-1")).waits
        assert wake.resume(wait, kirin_task.id, [KirinHook().get_task(kirin_task.id)])
        self.kill(deferred, trigger)
        assert "was stopped" not in (said := logged()) and "has ended the wait" in said
        assert health.is_expected(now)

    def test_a_mark_of_an_earlier_wait_is_no_excuse(self, deferred, payload, logged):
        kirin_task = KirinHook().submit(payload | {"external_task_id": "own-1"})
        deferred.defer("generate", [kirin_task.id], external_task_id="own-1")
        (wait,) = wake.find(deferred.token("generate", "own-1")).waits
        assert wake.resume(wait, kirin_task.id, [KirinHook().get_task(kirin_task.id)])
        later = deferred.defer("generate", [kirin_task.id], external_task_id="own-1", started_at=time.time() + 1)
        self.kill(deferred, later)
        assert "was stopped" in logged()

    def test_wakes_those_that_wait_for_a_place(self, deferred, payload, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.api.capacity.MAX_PAUSE", HANG)
        kirin_task = KirinHook().submit(payload | {"external_task_id": "own-1"})
        trigger = deferred.defer("generate", [kirin_task.id], external_task_id="own-1")
        (wait,) = wake.find(deferred.token("generate", "own-1")).waits
        assert wake.resume(wait, kirin_task.id, [KirinHook().get_task(kirin_task.id)])
        trigger.task_instance = deferred.ti("generate")

        async def kill() -> str:
            trigger._line = line = AccountLine()
            waiter = Waiter(now := time.time(), "next", refused_at=now, ready_at=now)
            # Another generation is watched, so the waiter does not have to try its luck.
            with line.watch(), line.join(waiter) as woken:
                assert not woken.done()
                await trigger.on_kill()
                return woken.result()

        with set_supervisor_comms(Comms()):
            assert asyncio.run(kill()) == "end"
