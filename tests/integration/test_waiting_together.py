"""Many waits of one process: one session, one rate limiter, one circuit breaker, one event for a list."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_kirin.exceptions import KirinIdError, KirinTimeoutError, KirinUnfinishedError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.hooks.shared_session import MAX_CONNECTIONS, SharedSession
from airflow_provider_kirin.triggers.events import load_event
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from airflow_provider_kirin.triggers.start import KirinStartTrigger
from tests.support.emulator import until
from tests.support.waiting import HANG


def trigger(*ids: str, seconds: float = 60, every: float | None = 0.1, **options) -> KirinTaskTrigger:
    # Deferred long enough ago for an event to be fired at once.
    began = time.time() - 5
    return KirinTaskTrigger(
        kirin_task_ids=ids,
        kirin_conn_id="kirin_default",
        started_at=began,
        deadline=began + 5 + seconds,
        poll_interval=every,
        **options,
    )


async def outcomes(waits: KirinTaskTrigger):
    async with asyncio.timeout(HANG):
        (event,) = [event async for event in waits.run()]
    return load_event(json.loads(json.dumps(event.payload)), expected=len(waits.kirin_task_ids))


def shared() -> SharedSession:
    return SharedSession._open[asyncio.get_running_loop()]["kirin_default"]


class TestOneSession:
    async def test_for_all_triggers_and_closed_after_the_last(self, submit, emulator):
        ids = [submit(f"[[seconds:{0.3 + 0.02 * number}]]") for number in range(30)]
        emulator.fault(on="get", kind="hold", match=ids[-1])
        runs = [asyncio.create_task(outcomes(trigger(one))) for one in ids]
        await asyncio.to_thread(until, lambda: emulator.call("GET", "/emulator/held")["held"], "one wait is held")
        session = shared().session
        emulator.call("POST", "/emulator/release")
        ended = await asyncio.gather(*runs)
        assert [end[0].id for end in ended] == ids
        assert session.closed
        assert not SharedSession._open.get(asyncio.get_running_loop())

    async def test_no_more_concurrent_calls_than_connections(self, connect, counting_gateway):
        gateway = counting_gateway()
        connect(gateway.url)
        async with KirinAsyncHook() as hook:
            await asyncio.gather(*(hook.get_task(f"one-{n}") for n in range(10 * MAX_CONNECTIONS)))
        assert len(gateway.asked) == 10 * MAX_CONNECTIONS and gateway.sockets <= MAX_CONNECTIONS


class TestAGatewayThatIsDown:
    async def test_is_asked_by_one_wait_at_a_time_and_all_come_back_with_it(self, submit, emulator):
        ids = [submit("[[seconds:0.1]]") for _ in range(100)]
        emulator.fault(on="get", kind="status", status=503, times=-1)
        runs = [asyncio.create_task(outcomes(trigger(one))) for one in ids]
        await asyncio.to_thread(emulator.until_asked, "GET", "/task/")
        health = shared().circuit_breaker
        await asyncio.to_thread(until, lambda: health.last_error is not None, "it is taken for down")
        asked = len(emulator.requests("GET", "/task/"))
        # What was under way when it went down, at most one call a lane.
        assert asked <= 2 * MAX_CONNECTIONS
        await asyncio.to_thread(emulator.until_asked, "GET", "/task/", asked + 2)
        # One after the other, not a hundred at a time.
        assert len(emulator.requests("GET", "/task/")) <= asked + 20
        emulator.call("DELETE", "/emulator/faults")
        ended = await asyncio.gather(*runs)
        assert {end[0].status for end in ended} == {"completed"}

    async def test_a_deadline_that_passes_during_an_outage_names_the_error(self, submit, emulator):
        ids = [submit() for _ in range(40)]
        emulator.fault(on="get", kind="status", status=503, times=-1)
        ended = await outcomes(trigger(*ids, seconds=3))
        assert {type(end) for end in ended} == {KirinTimeoutError}
        assert all("503" in str(end) for end in ended)


class TestTooManyRequests:
    async def test_slow_down_all_waits(self, submit, emulator):
        ids = [submit("[[seconds:2]]") for _ in range(20)]
        emulator.fault(on="get", kind="status", status=429, times=1, retry_after=6)
        runs = [asyncio.create_task(outcomes(trigger(one, every=0.1))) for one in ids]
        ended = await asyncio.gather(*runs)
        assert {end[0].status for end in ended} == {"completed"}
        seen = emulator.requests("GET", "/task/")
        refused = next(one["time"] for one in seen if one["status"] == 429)
        too_soon = [one for one in seen if refused < one["time"] < refused + 5.9]
        # Each of the others may have been on its way. Alone, each would have asked ten times a second.
        assert len(too_soon) < 2 * len(ids), "retry_after holds for all, not only for the one that received it"


class TestFailFast:
    async def test_fires_at_the_first_failure_and_names_unfinished_generations(self, submit):
        ids = [submit("[[seconds:7200]]"), submit("[[fail:8002005098]]"), submit("[[seconds:7200]]")]
        first, failed, last = await outcomes(trigger(*ids, seconds=3600, fail_fast=True))
        assert isinstance(first, KirinUnfinishedError) and isinstance(last, KirinUnfinishedError)
        assert ids[0] in str(first) and "8002005098" in str(failed)

    async def test_waits_for_all_if_none_fails(self, submit):
        ids = [submit("[[seconds:0.4]]"), submit("[[seconds:0.1]]")]
        assert [end.id for end in await outcomes(trigger(*ids, fail_fast=True))] == ids


class TestStartedInTheTriggerer:
    """What needs Airflow around it is in tests/system/test_waiting.py."""

    def starting(self, kirin_task_id, **options) -> KirinStartTrigger:
        start = KirinStartTrigger(
            kirin_task_id=kirin_task_id,
            kirin_conn_id="kirin_default",
            timeout=60,
            backstop=120,
            poll_interval=0.1,
            **options,
        )
        classpath, arguments = start.serialize()
        assert classpath.endswith("triggers.start.KirinStartTrigger")
        again = KirinStartTrigger(**json.loads(json.dumps(arguments)))
        again.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
        return again

    async def fired(self, start: KirinStartTrigger):
        async with asyncio.timeout(HANG):
            (event,) = [event async for event in start.run()]
        return event

    async def test_it_fires_as_soon_as_the_video_is_there(self, submit, monkeypatch):
        # No worker has deferred it, so there is nothing to wait for.
        monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "3600")
        one = submit("[[seconds:0.2]]")
        event = await self.fired(self.starting(one))
        assert [end.id for end in load_event(event.payload, expected=1)] == [one]

    async def test_its_deadline_is_airflows_less_the_backstop_after_any_restart(self, submit):
        start = self.starting(submit("[[seconds:600]]"))
        start.timeout_after = datetime.fromtimestamp(time.time() + 120 + 0.5, UTC)
        (late,) = load_event((await self.fired(start)).payload, expected=1)
        assert isinstance(late, KirinTimeoutError)

    @pytest.mark.parametrize("wrong", ["None", "", 5.0, ["a", ["b"]], None])
    async def test_an_invalid_id_is_reported_by_the_worker(self, wrong):
        start = self.starting("x")
        start.kirin_task_id = wrong
        (error,) = load_event((await self.fired(start)).payload, expected=1)
        assert isinstance(error, KirinIdError)

    async def test_where_the_result_cannot_be_stored_a_worker_gets_it(self, submit):
        # There is no supervisor here to take it.
        one = submit("[[seconds:0.1]]")
        event = await self.fired(self.starting(one, end_from_trigger=True))
        assert [end.id for end in load_event(event.payload, expected=1)] == [one]

    async def test_an_id_that_is_given_twice_is_returned_twice_and_counted_once(self, submit, monkeypatch):
        stored = {}
        monkeypatch.setattr(XCom, "set", lambda *, key, value, **_: stored.update({key: value}))
        one = submit("[[seconds:0.1]]")
        event = await self.fired(self.starting([one, one], end_from_trigger=True))
        assert isinstance(event, TaskSuccessEvent)
        assert [end["id"] for end in stored["return_value"]] == [one, one]
        assert [entry["kirin_task_id"] for entry in stored["kirin_usage"]] == [one]

    async def test_without_a_result_the_cost_is_left_to_a_worker(self, submit):
        one = submit("[[seconds:0.1]]")
        event = await self.fired(self.starting(one, end_from_trigger=True, do_xcom_push=False))
        assert [end.id for end in load_event(event.payload, expected=1)] == [one]

    async def test_killed_it_names_unfinished_generations(self, submit, emulator, caplog, capfd):
        one = submit("[[seconds:600]]")
        start = self.starting(one)
        await start.on_kill()
        run = asyncio.create_task(self.fired(start))
        await asyncio.to_thread(emulator.until_asked, "GET", one)
        await start.on_kill()
        run.cancel()
        await asyncio.wait([run])
        said = caplog.text + capfd.readouterr().out
        assert f"{one} was stopped" in said and "billed" in said
