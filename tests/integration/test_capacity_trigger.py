"""KirinCapacityTrigger.run() beside KirinTaskTrigger's, on one event loop as in a triggerer, against the emulator."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_kirin.triggers import capacity
from airflow_provider_kirin.triggers.capacity import KirinCapacityTrigger
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from tests.support.emulator import KEY
from tests.support.waiting import HANG

pytestmark = [
    pytest.mark.filterwarnings("error::ResourceWarning"),
    pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning"),
]


def waiting(since: float, *, conn_id: str = "kirin_default", seconds: float = 3600, hold: float = 0) -> Any:
    """Return the trigger of a task that was refused, recreated from its serialized form as a triggerer does."""
    now = time.time()
    trigger = KirinCapacityTrigger(
        kirin_conn_id=conn_id,
        since=now + since,
        refusals=1,
        try_number=2,
        deadline=now + seconds,
        deferred_at=now,
        earliest_event=now + hold,
    )
    _, arguments = trigger.serialize()
    again = KirinCapacityTrigger(**json.loads(json.dumps(arguments)))
    again.task_instance = SimpleNamespace(task_id="generate", task=None)
    return again


def watching(kirin_task_id: str, conn_id: str = "kirin_default") -> KirinTaskTrigger:
    now = time.time()
    return KirinTaskTrigger(
        kirin_task_ids=[kirin_task_id], kirin_conn_id=conn_id, started_at=now, deadline=now + HANG, poll_interval=0.1
    )


async def fired(trigger: Any) -> Any:
    events = [event async for event in trigger.run()]
    assert len(events) == 1
    return events[0].payload


async def reason(trigger: Any) -> Any:
    return (await fired(trigger))["reason"]


def woken_by_an_end(waits: asyncio.Task[Any]) -> bool:
    return waits.done() and waits.result() == "end"


class TestTheEndOfAGeneration:
    @pytest.fixture(autouse=True)
    def only_an_end_wakes(self, monkeypatch):
        """However long this process stands still, no waiter is woken because of the time, and an end counts."""
        for name in ("MIN_PAUSE", "MAX_PAUSE", "END_COUNTS"):
            monkeypatch.setattr(f"airflow_provider_kirin.api.capacity.{name}", 2 * HANG)

    async def test_wakes_the_task_that_has_waited_longest(self, submit):
        later, first = (asyncio.create_task(reason(waiting(since))) for since in (-10, -20))
        await fired(watching(submit("[[seconds:1]]")))
        assert await asyncio.wait_for(first, HANG) == "end"
        assert not woken_by_an_end(later)
        later.cancel()

    async def test_is_seen_by_every_connection_of_the_account(self, submit, connect, emulator):
        other = connect(emulator.url, conn_id="other")
        woken = asyncio.create_task(reason(waiting(-10)))
        await fired(watching(submit("[[seconds:1]]"), other))
        assert await asyncio.wait_for(woken, HANG) == "end"

    async def test_does_not_affect_another_account(self, submit, connect, emulator):
        stranger = connect(emulator.url, conn_id="stranger", key="sk-another-account-0123456789")
        waits = asyncio.create_task(reason(waiting(-10, conn_id=stranger)))
        await fired(watching(submit("[[seconds:1]]")))
        assert not woken_by_an_end(waits)
        waits.cancel()

    async def test_goes_to_the_next_if_the_first_was_cleared(self, submit):
        cleared, second = (asyncio.create_task(reason(waiting(since))) for since in (-20, -10))
        watch = asyncio.create_task(fired(watching(submit("[[seconds:1]]"))))
        await asyncio.sleep(0)
        cleared.cancel()
        await watch
        assert await asyncio.wait_for(second, HANG) == "end"

    async def test_waits_for_a_task_that_was_deferred_a_moment_ago(self, submit):
        began = time.monotonic()
        woken = asyncio.create_task(reason(waiting(-10, hold=4)))
        await fired(watching(submit("[[seconds:0.5]]")))
        assert await asyncio.wait_for(woken, HANG) == "end"
        # The one lower bound: an earlier event would cost the task a try.
        assert time.monotonic() - began >= 3.9


class TestWithoutAnEnd:
    async def test_time_wakes_it(self, conn_id):
        assert await asyncio.wait_for(reason(waiting(-10)), HANG) == "time"

    async def test_the_deadline_ends_the_wait(self, conn_id):
        assert await reason(waiting(-10, seconds=0.2)) == "deadline"

    @pytest.mark.parametrize("used", ["kirin_default", "broken"])
    async def test_waits_for_a_task_that_was_deferred_a_moment_ago(self, conn_id, connect, used):
        connect("not a host", conn_id="broken")
        began = time.monotonic()
        await fired(waiting(-10, conn_id=used, seconds=0.2, hold=2))
        assert time.monotonic() - began >= 1.9

    async def test_the_event_holds_the_whole_wait(self, conn_id):
        trigger = waiting(-10, seconds=0.2)
        assert await fired(trigger) == {
            "reason": "deadline",
            "since": trigger.since,
            "deadline": trigger.deadline,
            "refusals": 1,
            "try_number": 2,
        }

    async def test_a_deadline_that_has_passed_ends_it_at_once(self, conn_id):
        assert await reason(waiting(-10, seconds=-1)) == "deadline"

    async def test_a_connection_that_only_workers_know_lets_time_pass(self, connect):
        connect("not a host", conn_id="broken")
        assert await reason(waiting(-10, conn_id="broken", seconds=0.2)) == "time"


class TestTheLog:
    async def test_says_the_place_once_a_change(self, conn_id, logged, monkeypatch):
        monkeypatch.setattr(capacity, "_LOG_INTERVAL", 0.01)
        said = ""

        async def says(line: str) -> None:
            nonlocal said
            async with asyncio.timeout(HANG):
                while line not in said:
                    await asyncio.sleep(0.01)
                    said += logged()

        first, second = (asyncio.create_task(reason(waiting(since))) for since in (-20, -10))
        await says("The account is full; at position 2 of 2 in the line")
        # Several times the interval.
        await asyncio.sleep(0.1)
        said += logged()
        assert said.count("position 2 of 2") == 1
        first.cancel()
        await says("at position 1 of 1 in the line")
        second.cancel()

    async def test_the_trigger_s_arguments_hold_no_key(self, conn_id, logged):
        trigger = waiting(-10, seconds=0.2)
        await fired(trigger)
        assert KEY not in logged() + json.dumps(trigger.serialize())
