"""KirinTaskTrigger.run() against the emulator, recreated from its serialized form as a triggerer does."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_provider_kirin.api.errors import MAX_RETRY_AFTER
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinConfigError,
    KirinNotFoundError,
    KirinNoVideoError,
    KirinTaskFailedError,
    KirinTimeoutError,
)
from airflow_provider_kirin.triggers.events import load_event
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from tests.support.emulator import KEY, until
from tests.support.waiting import HANG

pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


def trigger_for(*ids: str, conn_id: str = "kirin_default", seconds: float = 3600, waited: float = 0, every=0.1):
    now = time.time() - waited
    return KirinTaskTrigger(
        kirin_task_ids=ids, kirin_conn_id=conn_id, started_at=now, deadline=now + seconds, poll_interval=every
    )


def recreated(trigger: KirinTaskTrigger) -> KirinTaskTrigger:
    """Recreate a trigger from its serialized form, as another triggerer does."""
    classpath, arguments = trigger.serialize()
    return import_string(classpath)(**json.loads(json.dumps(arguments)))


async def fired(trigger: KirinTaskTrigger) -> TriggerEvent:
    """Return the one event of a trigger."""
    async with asyncio.timeout(HANG):
        events = [event async for event in recreated(trigger).run()]
    assert len(events) == 1
    return events[0]


async def outcomes(trigger: KirinTaskTrigger):
    """Return the outcomes as the resumed operator decodes them, after the event's trip through JSON."""
    event = await fired(trigger)
    return load_event(json.loads(json.dumps(event.payload)), expected=len(trigger.kirin_task_ids))


class TestOutcome:
    async def test_a_finished_generation_has_its_video(self, submit):
        kirin_task_id = submit("[[seconds:0.5]]")
        (done,) = await outcomes(trigger_for(kirin_task_id))
        assert (done.id, done.status, str(done.usage.cost)) == (kirin_task_id, "completed", "0.28")
        assert done.to_dict()["videos"][0]["duration"] == 5

    async def test_a_failed_generation_has_the_error_of_the_api(self, submit):
        (failed,) = await outcomes(trigger_for(submit("[[fail:8002005002]]")))
        assert failed.code == "8002005002" and "8002005002" in str(failed)
        (failed,) = await outcomes(trigger_for(submit("[[fail:the machine is on fire:text]]")))
        assert isinstance(failed, KirinTaskFailedError) and "the machine is on fire" in str(failed)

    async def test_completed_without_a_video_is_an_error(self, submit):
        (failed,) = await outcomes(trigger_for(submit("[[no-video]]")))
        assert isinstance(failed, KirinNoVideoError) and not failed.retryable

    async def test_a_wait_times_out_at_the_deadline(self, submit):
        kirin_task_id, began = submit("[[seconds:3600]]"), time.monotonic()
        (late,) = await outcomes(trigger_for(kirin_task_id, seconds=0.7))
        assert isinstance(late, KirinTimeoutError) and late.kirin_task_ids == (kirin_task_id,)
        assert time.monotonic() - began > 0.5

    async def test_an_adaptive_wait_times_out_at_the_deadline(self, submit):
        (late,) = await outcomes(trigger_for(submit("[[seconds:3600]]"), seconds=0.7, every=None))
        assert isinstance(late, KirinTimeoutError)

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_rejected_key_ends_the_wait_at_once(self, submit, emulator, status):
        kirin_task_id = submit()
        emulator.fault(on="get", kind="status", status=status, times=-1)
        (ended,) = await outcomes(trigger_for(kirin_task_id, seconds=3600))
        assert isinstance(ended, KirinAuthError) and ended.http_status == status and not ended.retryable
        assert len(emulator.requests("GET")) == 1

    async def test_an_unknown_id_ends_the_wait_after_15_seconds(self, conn_id, emulator):
        began = time.monotonic()
        (ended,) = await outcomes(trigger_for("no-such-generation", seconds=3600, every=3600))
        assert isinstance(ended, KirinNotFoundError) and ended.http_status == 404 and not ended.retryable
        # The lookup may lag, so it is asked again for about 15 seconds, however long the interval is.
        assert time.monotonic() - began > 15 and len(emulator.requests("GET")) == 6

    async def test_an_unusable_connection_is_the_outcome_of_every_wait(self, connect, emulator):
        conn_id = connect(emulator.url, key=None)
        ended = await outcomes(trigger_for("one", "two", conn_id=conn_id, seconds=3600))
        assert [type(end) for end in ended] == [KirinConfigError, KirinConfigError]

    async def test_a_missing_connection_is_retryable(self, kirin_fast_retries):
        (ended,) = await outcomes(trigger_for("one", conn_id="no_such_connection", seconds=3600))
        assert isinstance(ended, KirinConfigError) and "no_such_connection" in str(ended) and ended.retryable

    async def test_an_unusable_ca_bundle_is_a_config_error(self, connect, emulator, tmp_path):
        conn_id = connect(emulator.url, verify=str(tmp_path / "no-such-bundle.pem"))
        (ended,) = await outcomes(trigger_for("one", conn_id=conn_id, seconds=3600))
        assert isinstance(ended, KirinConfigError) and "verify" in str(ended)

    async def test_mixed_outcomes_keep_the_order_of_the_ids(self, submit):
        ids = [
            submit("[[seconds:0.8]]"),
            submit("[[fail:8002005098]]"),
            submit("[[seconds:0.1]]"),
            "no-such-generation",
            submit("[[no-video]]"),
            submit("[[seconds:600]]"),
        ]
        ended = await outcomes(trigger_for(*ids, seconds=1.5))
        assert [getattr(end, "status", type(end)) for end in ended] == [
            "completed",
            KirinTaskFailedError,
            "completed",
            KirinNotFoundError,
            KirinNoVideoError,
            KirinTimeoutError,
        ]
        assert [ended[0].id, ended[2].id] == [ids[0], ids[2]]
        for index in (1, 3, 4, 5):
            assert ids[index] in str(ended[index])

    async def test_a_duplicate_id_is_polled_once_and_returned_twice(self, submit, emulator):
        one = submit()
        assert [done.id for done in await outcomes(trigger_for(one, one))] == [one, one]
        assert len(emulator.requests("GET", one)) == 1


class TestEarliestEvent:
    """No worker resumes before the scheduler knows that the one which deferred has ended."""

    #: Seconds.
    HOLD = 2.0

    def trigger(self, *ids, hold=HOLD, started_at=None, **options):
        """Return a trigger with a task instance, as in a triggerer."""
        started_at = time.time() if started_at is None else started_at
        made = KirinTaskTrigger(
            kirin_task_ids=ids,
            kirin_conn_id="kirin_default",
            started_at=started_at,
            deadline=started_at + 60,
            poll_interval=0.1,
            earliest_event=started_at + hold,
            **options,
        )
        return self.in_a_triggerer(made)

    def in_a_triggerer(self, trigger):
        trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
        return trigger

    async def seconds_until_fired(self, trigger):
        began = time.monotonic()
        async with asyncio.timeout(HANG):
            (event,) = [event async for event in trigger.run()]
        (end,) = load_event(event.payload, expected=1)
        return time.monotonic() - began, end

    async def test_holds_the_event_back_but_not_the_poll(self, submit, emulator):
        kirin_task_id = submit()
        seconds, done = await self.seconds_until_fired(self.trigger(kirin_task_id))
        assert done.status == "completed" and seconds >= self.HOLD - 0.1
        held = asyncio.create_task(self.seconds_until_fired(self.trigger(kirin_task_id, hold=3600)))
        await asyncio.to_thread(emulator.until_asked, "GET", kirin_task_id, 2)
        assert not held.done()
        held.cancel()

    async def test_holds_an_error_back(self, submit):
        seconds, failed = await self.seconds_until_fired(self.trigger(submit("[[fail:8002005098]]")))
        assert isinstance(failed, KirinTaskFailedError) and seconds >= self.HOLD - 0.1

    async def test_does_not_begin_again_after_a_restart(self, submit):
        kirin_task_id = submit()
        earlier = self.trigger(kirin_task_id, hold=3600, started_at=time.time() - 3599)
        _, done = await self.seconds_until_fired(self.in_a_triggerer(recreated(earlier)))
        assert done.status == "completed"

    async def test_adds_no_delay_once_it_has_passed(self, submit):
        _, done = await self.seconds_until_fired(self.trigger(submit(), hold=3600, started_at=time.time() - 3700))
        assert done.status == "completed"

    async def test_is_bounded_if_this_clock_is_behind_the_workers(self, submit):
        trigger = self.trigger(submit(), started_at=time.time() + 3600)
        seconds, done = await self.seconds_until_fired(trigger)
        assert done.status == "completed" and seconds >= self.HOLD - 0.1

    async def test_is_ignored_without_a_scheduler(self, submit):
        trigger = self.trigger(submit(), hold=3600)
        trigger.task_instance = None  # as in dag.test()
        _, done = await self.seconds_until_fired(trigger)
        assert done.status == "completed"

    async def test_is_ignored_for_a_task_that_ends_in_the_triggerer(self, submit, monkeypatch):
        # There is no supervisor here to take the result.
        monkeypatch.setattr(XCom, "set", lambda **_: None)
        async with asyncio.timeout(HANG):
            (event,) = [event async for event in self.trigger(submit(), hold=3600, result_shape="one").run()]
        assert isinstance(event, TaskSuccessEvent)

    async def test_is_optional_in_serialized_arguments(self, submit):
        classpath, arguments = self.trigger(submit(), hold=3600).serialize()
        del arguments["earliest_event"]
        _, done = await self.seconds_until_fired(self.in_a_triggerer(import_string(classpath)(**arguments)))
        assert done.status == "completed"


class TestDeadline:
    async def test_is_not_extended_by_a_restart(self, submit, emulator):
        kirin_task_id = submit("[[seconds:7200]]")
        trigger = trigger_for(kirin_task_id, seconds=3600, waited=3595)
        run = asyncio.create_task(fired(trigger))
        await asyncio.to_thread(emulator.until_asked, "GET", kirin_task_id)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        (late,) = await outcomes(recreated(trigger))
        assert isinstance(late, KirinTimeoutError)

    async def test_a_deadline_that_passed_without_a_triggerer_times_out_after_one_poll(self, submit, emulator):
        kirin_task_id = submit("[[seconds:7200]]")
        (late,) = await outcomes(trigger_for(kirin_task_id, seconds=3600, waited=7200))
        assert isinstance(late, KirinTimeoutError) and re.search(r"\b72\d\d s", str(late))
        assert len(emulator.requests("GET", kirin_task_id)) == 1

    async def test_is_checked_after_the_status(self, submit):
        (done,) = await outcomes(trigger_for(submit(), seconds=3600, waited=7200))
        assert done.status == "completed"

    async def test_error_names_the_last_error_of_the_gateway(self, submit, emulator):
        kirin_task_id = submit()
        emulator.fault(on="get", kind="status", status=503, times=-1)
        (late,) = await outcomes(trigger_for(kirin_task_id, seconds=1))
        assert isinstance(late, KirinTimeoutError) and "503" in str(late)


class TestErrorsWhilePolling:
    async def test_temporary_errors_do_not_end_the_wait(self, submit, emulator):
        kinds = [
            {"kind": "status", "status": 500},
            {"kind": "status", "status": 502, "body": "<html>Bad Gateway</html>", "content_type": "text/html"},
            {"kind": "status", "status": 503},
            {"kind": "status", "status": 404, "body": "<html>default backend</html>", "content_type": "text/html"},
            {"kind": "status", "status": 404, "body": {"detail": "Request not found"}},
            {"kind": "status", "status": 429},
            {"kind": "cut_before"},
            {"kind": "cut_mid_response"},
            {"kind": "garbage"},
            {"kind": "garbage", "body": "{}"},
            {"kind": "status", "status": 403, "body": "<html><h1>403 Forbidden</h1><hr>a firewall</html>"},
        ]
        ids = [submit() for _ in kinds]
        for kirin_task_id, kind in zip(ids, kinds, strict=True):
            emulator.fault(on="get", match=kirin_task_id, **kind)
        ended = await outcomes(trigger_for(*ids, seconds=60))
        assert [getattr(end, "status", end) for end in ended] == ["completed"] * len(kinds)
        assert [request["fault"] for request in emulator.requests("GET", ids[0])] == ["status", None]

    async def test_a_gateway_that_is_down_is_polled_with_backoff(self, connect, raw_server, submit, emulator):
        kirin_task_id, calls = submit("[[seconds:0.1]]"), []

        def answer(connection, server):
            calls.append(time.monotonic())

        server = raw_server(answer)
        connect(server.url)
        run = asyncio.create_task(outcomes(trigger_for(kirin_task_id, seconds=4)))
        (late,) = await run
        assert isinstance(late, KirinTimeoutError) and "No response" in str(late)
        # Backoff overrides poll_interval: at most four polls, each of which aiohttp repeats once.
        assert 1 < len(calls) <= 8

    async def test_retry_after_is_honoured(self, submit, emulator):
        kirin_task_id = submit()
        emulator.fault(on="get", kind="status", status=429, retry_after=4)
        (done,) = await outcomes(trigger_for(kirin_task_id, seconds=60))
        assert done.status == "completed"
        first, second = emulator.requests("GET", kirin_task_id)
        assert (first["status"], second["status"]) == (429, 200)
        assert second["time"] - first["time"] >= 3.9

    async def test_a_retry_after_beyond_the_deadline_does_not_move_it(self, submit, emulator):
        kirin_task_id = submit()
        emulator.fault(on="get", kind="status", status=429, retry_after=MAX_RETRY_AFTER, times=-1)
        async with asyncio.timeout(MAX_RETRY_AFTER):
            (late,) = await outcomes(trigger_for(kirin_task_id, seconds=1))
        assert isinstance(late, KirinTimeoutError)

    async def test_a_slow_response_does_not_delay_the_other_ids(self, submit, emulator):
        slow, quick = submit(), submit()
        emulator.fault(on="get", kind="hold", match=slow)
        run = asyncio.create_task(outcomes(trigger_for(slow, quick)))
        await asyncio.to_thread(until, lambda: emulator.requests("GET", quick), "the other one was asked for")
        emulator.call("POST", "/emulator/release")
        assert [done.id for done in await run] == [slow, quick]

    async def test_a_cancelled_trigger_ends_at_once_and_leaves_nothing_open(self, submit, emulator):
        kirin_task_id = submit("[[seconds:600]]")
        run = asyncio.create_task(fired(trigger_for(kirin_task_id, seconds=3600)))
        await asyncio.to_thread(emulator.until_asked, "GET", kirin_task_id)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        asked = len(emulator.requests("GET", kirin_task_id))
        await asyncio.sleep(0.5)
        assert len(emulator.requests("GET", kirin_task_id)) <= asked + 1
        gc.collect()


class TestLogsAndRepr:
    async def test_show_neither_the_key_nor_a_signed_query(self, submit, emulator, capfd, caplog):
        ids = [submit("[[seconds:0.4]]"), submit("[[fail:8002005098]]"), submit()]
        emulator.fault(on="get", kind="status", status=503, match=ids[2])
        trigger = trigger_for(*ids)
        event = await fired(trigger)
        captured = capfd.readouterr()
        url = event.payload["results"][0]["kirin_task"]["videos"][0]["url"]
        query = urlsplit(url).query
        assert "Signature" in query, "the event has to carry the whole link"
        shown = [captured.out, captured.err, caplog.text, repr(event), str(event), repr(event.payload), repr(trigger)]
        shown += [f"{event!r:>10}", str(event.payload), repr(trigger.serialize()), str(trigger.__dict__)]
        for text in shown:
            assert KEY not in text
            assert query not in text and "Signature=" not in text
        assert KEY not in json.dumps(event.payload)

    async def test_show_progress_when_it_changes(self, submit, capfd, emulator, monkeypatch):
        # A percent every three seconds: it moves soon, and runs on even if the machine stands still.
        monkeypatch.setattr("airflow_provider_kirin.api.polling.PROGRESS_LOG_STEP", 0.01)
        kirin_task_id, lines = submit("[[seconds:300]]"), []
        wait = asyncio.create_task(fired(trigger_for(kirin_task_id)))
        async with asyncio.timeout(HANG):
            while len(lines) < 2:
                await asyncio.sleep(0.1)
                shown = capfd.readouterr().out.splitlines()
                lines.extend(line for line in shown if f"{kirin_task_id}: in_progress" in line)
        emulator.finish()
        await wait
        assert "%" in lines[0]
        progress = [line.split("in_progress")[1].split(" after")[0] for line in lines]
        assert len(set(progress)) == len(progress), "the same progress was logged twice"

    def test_serialized_arguments_are_plain_json(self):
        trigger = trigger_for("one", "two")
        assert json.loads(json.dumps(trigger.serialize()[1])) == trigger.serialize()[1]
        assert recreated(trigger).serialize() == trigger.serialize()


def test_trigger_does_not_block_the_loop_or_import_requests(conn_id, submit, emulator, tmp_path):
    """Runs in a process of its own, where little is imported yet, as in a triggerer that has just started."""
    ids = [submit(f"[[seconds:{seconds}]]") for seconds in (0.3, 0.6, 1.0)] + [submit("[[fail:8002005098]]")]
    script = textwrap.dedent("""
        import asyncio, json, sys, time
        # Every triggerer has it.
        import airflow.sdk.execution_time.supervisor
        from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger

        async def tick():
            while True:
                print("tick", flush=True)
                await asyncio.sleep(0.05)

        async def main():
            now = time.time()
            ticking = asyncio.create_task(tick())
            trigger = KirinTaskTrigger(
                kirin_task_ids=sys.argv[1:], kirin_conn_id="kirin_default", started_at=now, deadline=now + 3600,
                poll_interval=0.05,
            )
            assert "requests" not in sys.modules, "Airflow has imported it: this test proves nothing any more"
            events = [event async for event in trigger.run()]
            ticking.cancel()
            ends = sorted("error" if "error" in result else "video" for result in events[0].payload["results"])
            print(json.dumps({"imported": "requests" in sys.modules, "ends": ends}))

        asyncio.run(main())
    """)
    # The first responses are held back until the loop has ticked: a poll that blocks the loop stops the ticks.
    emulator.fault(on="get", kind="hold", times=len(ids))
    printed = tmp_path / "printed"

    def ticks() -> int:
        return printed.read_text().count("tick")

    with printed.open("w") as file, subprocess.Popen([sys.executable, "-c", script, *ids], stdout=file) as run:
        try:
            until(lambda: len(emulator.call("GET", "/emulator/held")["held"]) == len(ids), "all polls are held")
            before = ticks()
            until(lambda: ticks() >= before + 10, "the loop turns while it waits for responses")
            emulator.call("POST", "/emulator/release")
            assert run.wait(HANG) == 0
        finally:
            run.kill()
    seen = json.loads(printed.read_text().splitlines()[-1])
    assert seen["ends"] == ["error"] + ["video"] * 3
    assert not seen["imported"], "requests was imported on the way"
