"""Lookups for pages: shared, few at a time, and bounded in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinNotFoundError, KirinUnavailableError
from airflow_provider_kirin.plugins import generation_lookup
from airflow_provider_kirin.plugins.generation_lookup import MAX_LOOKUPS, GenerationLookup
from tests.support.waiting import HANG


class Gateway:
    """Answers as soon as it may."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.running = 0
        self.most = 0
        self.is_full = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def look_up(self, kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
        self.asked[kirin_task_id] += 1
        async with self._counted():
            await self.may_answer.wait()
        if kirin_task_id == "nowhere":
            raise KirinNotFoundError("no such generation")
        return KirinTask(kirin_task_id, "completed")

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == MAX_LOOKUPS:
            self.is_full.set()
        try:
            yield
        finally:
            self.running -= 1


@pytest.fixture(autouse=True)
def nothing_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long this process stands still."""
    monkeypatch.setattr(generation_lookup, "TIMEOUT", HANG)
    monkeypatch.setattr(generation_lookup, "CACHE_SECONDS", HANG)


async def test_pages_of_one_generation_share_a_lookup_and_few_run_at_a_time() -> None:
    gateway = Gateway()
    generations = GenerationLookup(gateway.look_up)
    names = [f"one-{number % 20}" for number in range(200)]
    pages = [asyncio.create_task(generations.get("kirin_default", name)) for name in names]
    await gateway.is_full.wait()
    gateway.may_answer.set()
    assert [page.id for page in await asyncio.gather(*pages)] == names
    assert gateway.most == MAX_LOOKUPS and set(gateway.asked.values()) == {1} and len(gateway.asked) == 20


async def test_a_page_that_is_closed_leaves_the_lookup_to_the_others() -> None:
    gateway = Gateway()
    generations = GenerationLookup(gateway.look_up)
    closed, other = (asyncio.create_task(generations.get("kirin_default", "one")) for _ in range(2))
    more = [asyncio.create_task(generations.get("kirin_default", f"one-{number}")) for number in range(MAX_LOOKUPS)]
    await gateway.is_full.wait()
    closed.cancel()
    gateway.may_answer.set()
    assert (await other).id == "one" and gateway.asked["one"] == 1
    await asyncio.gather(*more)


async def test_an_error_reaches_every_page() -> None:
    gateway = Gateway()
    gateway.may_answer.set()
    generations = GenerationLookup(gateway.look_up)
    for _ in range(3):
        with pytest.raises(KirinNotFoundError):
            await generations.get("kirin_default", "nowhere")
    assert gateway.asked["nowhere"] == 1


async def test_hanging_gateway_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_lookup, "TIMEOUT", 0.05)
    gateway = Gateway()
    generations = GenerationLookup(gateway.look_up)
    outcomes = await asyncio.gather(
        *(generations.get("kirin_default", f"one-{number}") for number in range(20)), return_exceptions=True
    )
    assert all(isinstance(outcome, KirinUnavailableError) for outcome in outcomes)
    assert gateway.running == 0 and gateway.most <= MAX_LOOKUPS


async def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_lookup, "CACHE_SIZE", 10)
    gateway = Gateway()
    gateway.may_answer.set()
    generations = GenerationLookup(gateway.look_up)
    names = [f"one-{number}" for number in range(50)]
    assert len(await asyncio.gather(*(generations.get("kirin_default", name) for name in names))) == 50
    for name in (names[-1], names[0]):
        await generations.get("kirin_default", name)
    assert gateway.asked[names[-1]] == 1 and gateway.asked[names[0]] == 2


async def test_cache_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_lookup, "CACHE_SECONDS", 0.01)
    gateway = Gateway()
    gateway.may_answer.set()
    generations = GenerationLookup(gateway.look_up)
    await generations.get("kirin_default", "one")
    await asyncio.sleep(0.1)
    await generations.get("kirin_default", "one")
    assert gateway.asked["one"] == 2
