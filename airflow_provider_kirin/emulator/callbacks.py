"""Send status changes to callback URLs. Only generations with such a URL need a row and a timer.

[V] section 13: the server calls the URL on each status change. Body, retries and signature are not documented, so the
body is the task object [E] or, on request, Kling's [K], and a delivery is attempted four times in total [E].
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from airflow_provider_kirin.emulator.fault_plan import Fault, FaultPlan, encode_body
from airflow_provider_kirin.emulator.generation import IN_PROGRESS, Generation, now_ms
from airflow_provider_kirin.emulator.responses import kling_callback, task_object
from airflow_provider_kirin.emulator.store import Store

log = logging.getLogger(__name__)
_RETRY_DELAYS_MS = (500, 1000, 2000)
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_NOT_FINISHED_DELAY_MS = 100
_MAX_DELIVERIES = 100


@dataclass(frozen=True)
class Delivery:
    """A message about one status change to one URL."""

    seq: int
    generation: str
    url: str
    status: str
    tries: int


class Callbacks:
    """A queue in the store, so that pending messages are sent after a restart, and one loop that empties it."""

    def __init__(
        self,
        store: Store,
        http: aiohttp.ClientSession,
        faults: FaultPlan,
        *,
        style: str,
        video_url: Callable[[Generation], str],
    ) -> None:
        self._store, self._http, self._faults = store, http, faults
        self._style, self._video_url = style, video_url
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start to deliver."""
        self._loop = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop. Undelivered messages stay in the store."""
        tasks = [*self._tasks.values(), *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def schedule(self, generation: Generation) -> None:
        """Queue two messages for each URL of a new generation: in progress, and ended."""
        for url in generation.callback_urls:
            for status, due in ((IN_PROGRESS, generation.created_ms), ("final", generation.done_ms)):
                self._store.db.execute(
                    "INSERT INTO deliveries (generation, url, status, due_ms) VALUES (?, ?, ?, ?)",
                    (generation.id, url, status, due),
                )
        if generation.callback_urls:
            self.wake()

    def wake(self) -> None:
        """Deliver what has become due."""
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            for delivery in self._due():
                self._tasks[delivery.seq] = asyncio.create_task(self._run_one(delivery))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._seconds_until_due())

    async def _run_one(self, delivery: Delivery) -> None:
        try:
            await self._deliver(delivery)
        finally:
            del self._tasks[delivery.seq]
            self._changed.set()

    def _due(self) -> list[Delivery]:
        rows = self._store.db.execute(
            "SELECT seq, generation, url, status, tries FROM deliveries WHERE due_ms <= ? ORDER BY due_ms, seq LIMIT ?",
            (now_ms(), 2 * _MAX_DELIVERIES),
        )
        waiting = (Delivery(*row) for row in rows if row[0] not in self._tasks)
        return list(waiting)[: max(0, _MAX_DELIVERIES - len(self._tasks))]

    def _seconds_until_due(self) -> float | None:
        """Return when the next message is due; None if there is none, or if a running delivery must end first."""
        if len(self._tasks) >= _MAX_DELIVERIES:
            return None
        for seq, due in self._store.db.execute(
            "SELECT seq, due_ms FROM deliveries WHERE due_ms IS NOT NULL ORDER BY due_ms LIMIT ?",
            (_MAX_DELIVERIES + 1,),
        ):
            if seq not in self._tasks:
                return max(0.0, float(due - now_ms()) / 1000)
        return None

    async def _deliver(self, delivery: Delivery) -> None:
        generation = self._store.by_id(delivery.generation)
        if generation is None:
            self._finish(delivery, "forgotten")
            return
        now = now_ms()
        status = generation.status(now) if delivery.status == "final" else IN_PROGRESS
        if delivery.status == "final" and status == IN_PROGRESS:
            # Fetching its images took longer than the generation: check again soon.
            self._reschedule(delivery, now + _NOT_FINISHED_DELAY_MS, delivery.tries)
            return
        subjects = (delivery.url, generation.id, generation.external_id or "")
        fault = self._faults.next_fault("callback", *subjects)
        if fault and fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        if fault and fault.kind == "hold":
            await self._faults.hold("callback", subjects)
        if fault and fault.kind == "cut_before":
            self._finish(delivery, "lost")
            return
        # "In progress" is the state just before it could have ended.
        moment = now if delivery.status == "final" else generation.created_ms - 1
        if fault and fault.kind == "early" and not generation.waits_for_images:
            moment = max(now, generation.done_ms)
            status = generation.status(moment)
        outcome = await self._post(delivery.url, self._body(generation, moment, status, fault))
        self._handle_outcome(delivery, "lost response" if fault and fault.kind == "lose_response" else outcome)

    def _body(self, generation: Generation, moment: int, status: str, fault: Fault | None) -> bytes:
        if fault and fault.kind == "garbage":
            body: Any = fault.body
        elif self._style == "kling":
            body = kling_callback(generation, moment, self._video_url(generation), status)
        else:
            body = task_object(generation, moment, self._video_url(generation))
        return encode_body(body)

    async def _post(self, url: str, body: bytes) -> str:
        """Send a message; "" means delivered. No redirect is followed and no key is sent: the URL is the caller's."""
        try:
            headers = {"Content-Type": "application/json", "User-Agent": "kirin-emulator"}
            request = self._http.post(url, data=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
            async with request as response:
                await response.read()
                return "" if response.status < 400 else f"HTTP {response.status}"
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            return type(error).__name__

    def _handle_outcome(self, delivery: Delivery, outcome: str) -> None:
        final = outcome == "" or outcome.startswith("HTTP 4")
        if final or delivery.tries >= len(_RETRY_DELAYS_MS):
            self._finish(delivery, outcome or "delivered")
        else:
            self._reschedule(delivery, now_ms() + _RETRY_DELAYS_MS[delivery.tries], delivery.tries + 1)

    def _finish(self, delivery: Delivery, outcome: str) -> None:
        log.info("callback for %s (%s): %s", delivery.generation, delivery.status, outcome)
        self._store.db.execute(
            "UPDATE deliveries SET due_ms = NULL, outcome = ? WHERE seq = ?", (outcome, delivery.seq)
        )

    def _reschedule(self, delivery: Delivery, due: int, tries: int) -> None:
        self._store.db.execute("UPDATE deliveries SET due_ms = ?, tries = ? WHERE seq = ?", (due, tries, delivery.seq))
