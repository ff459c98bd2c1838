"""The queue of callbacks: bounded, each generation once, and again if it was too early."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from airflow_provider_kirin.api.callback_token import CallbackToken
from airflow_provider_kirin.plugins import callback_inbox
from airflow_provider_kirin.plugins.callback_inbox import HANDLERS, MAX_WAITING, Handled, Inbox
from tests.support.waiting import HANG


def token(number: int = 0) -> CallbackToken:
    return CallbackToken("dag", "run", "task", -1, f"airflow-{number}", "kirin_default", 9)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_inbox, "COOLDOWN", 0.01)
    monkeypatch.setattr(callback_inbox, "RETRY_DELAYS", (0.01, 0.01, 0.01))


class Scene:
    """An inbox whose results a test gives."""

    def __init__(self, *results: Handled | Exception) -> None:
        self.seen: list[CallbackToken] = []
        self.counts: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._results = list(results)
        self.inbox = Inbox(self._handle, lambda result: self.counts.update([result]))

    async def _handle(self, token: CallbackToken) -> Handled:
        self.seen.append(token)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        result = self._results.pop(0) if self._results else Handled("ended")
        if isinstance(result, Exception):
            raise result
        return result

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG):
            while not look():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Wait until nothing is left to do."""
        await self.until(lambda: not self.inbox._entries)


def play(scenario: Callable[[Scene], Coroutine[Any, Any, None]], *results: Handled | Exception) -> Scene:
    """Run an inbox for as long as a scenario takes."""

    async def run() -> Scene:
        scene = Scene(*results)
        running = asyncio.create_task(scene.inbox.run())
        await scenario(scene)
        running.cancel()
        return scene

    return asyncio.run(run())


def test_the_same_callback_is_handled_once_while_it_waits() -> None:
    async def scenario(scene: Scene) -> None:
        assert all(scene.inbox.offer(token()) for _ in range(100))
        await scene.settled()

    assert len(play(scenario).seen) == 1


def test_one_that_arrives_during_the_work_is_handled_afterwards_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.gate.clear()
        scene.inbox.offer(token())
        await scene.until(lambda: scene.at_once == 1)
        assert all(scene.inbox.offer(token()) for _ in range(100))
        scene.gate.set()
        await scene.settled()

    assert len(play(scenario).seen) == 2


def test_a_full_inbox_takes_no_more_and_few_are_handled_at_once() -> None:
    async def scenario(scene: Scene) -> None:
        scene.gate.clear()
        assert all(scene.inbox.offer(token(number)) for number in range(MAX_WAITING))
        assert not scene.inbox.offer(token(MAX_WAITING))
        assert scene.inbox.offer(token(0)), "what is there already needs no room"
        await scene.until(lambda: scene.at_once == HANDLERS)
        scene.gate.set()
        await scene.settled()

    scene = play(scenario)
    assert len(scene.seen) == MAX_WAITING and scene.most_at_once == HANDLERS


def test_what_came_too_early_is_handled_again_a_few_times() -> None:
    async def scenario(scene: Scene) -> None:
        scene.inbox.offer(token())
        await scene.settled()

    early = Handled("early", again=True)
    assert play(scenario, early, early, Handled("ended")).counts == {"early": 2, "ended": 1}
    assert play(scenario, *[early] * 10).counts == {"early": 4}


def test_what_must_be_held_is_handled_when_its_time_has_come() -> None:
    async def scenario(scene: Scene) -> None:
        scene.inbox.offer(token())
        await scene.settled()

    held = Handled("held", wait=0.01)
    scene = play(scenario, *[held] * 7)
    assert len(scene.seen) == 8 and scene.counts == {"held": 1, "ended": 1}


def test_what_is_held_takes_no_room_and_is_forgotten_after_a_while() -> None:
    """A batch of a thousand rows must not keep out the callback of an asset, after which nobody polls."""
    held = Handled("held", wait=HANG, keep=HANG)

    async def scenario(scene: Scene) -> None:
        for number in range(MAX_WAITING):
            scene.inbox.offer(token(number))
            if number % 100 == 0:
                await scene.until(lambda: scene.inbox._queue.empty())
        await scene.until(lambda: scene.counts["held"] == MAX_WAITING)
        assert scene.inbox.offer(token(MAX_WAITING))
        await scene.until(lambda: scene.counts["asset"] == 1)

    play(scenario, *[held] * MAX_WAITING, Handled("asset"))

    async def until_forgotten(scene: Scene) -> None:
        scene.inbox.offer(token())
        await scene.settled()

    assert play(until_forgotten, *[Handled("held", wait=0.01, keep=0.05)] * 1000).counts == {"held": 1}


def test_an_error_of_one_stops_no_other() -> None:
    async def scenario(scene: Scene) -> None:
        for number in range(HANDLERS * 2):
            scene.inbox.offer(token(number))
        await scene.settled()

    counts = play(scenario, *[ValueError("boom")] * HANDLERS).counts
    assert counts == {"error": HANDLERS, "ended": HANDLERS * 2}
