"""The trigger that waits for a place in a full account without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_kirin.api.capacity import Waiter, capacity_pause
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.triggers.account_line import AccountLine
from airflow_provider_kirin.triggers.kirin import seconds_to_hold, serialize_arguments

#: Seconds between two log lines about the place in the line, which are written if it has changed.
_LOG_INTERVAL = 60.0


class KirinCapacityTrigger(BaseTrigger):
    """Wait until a place may be free in the account, and fire once: a worker then submits again.

    A trigger cannot know: it only says that it is worth asking. Times are wall-clock times, so that neither a restart
    of the triggerer nor another refusal costs the task its place or extends the wait. Nothing was submitted, so there
    is nothing to cancel when the task is cleared.

    :param kirin_conn_id: the Airflow connection
    :param since: when the task was first refused, in seconds since the epoch: the earliest is next
    :param refusals: how often it was refused
    :param deadline: when the wait ends at the latest, in seconds since the epoch
    :param deferred_at: when the worker deferred
    :param earliest_event: when a worker may resume the task; see :class:`.KirinTaskTrigger`
    """

    def __init__(
        self,
        *,
        kirin_conn_id: str,
        since: float,
        refusals: int,
        deadline: float,
        deferred_at: float,
        earliest_event: float,
    ) -> None:
        super().__init__()
        self.kirin_conn_id = kirin_conn_id
        self.since = since
        self.refusals = refusals
        self.deadline = deadline
        self.deferred_at = deferred_at
        self.earliest_event = earliest_event

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which any triggerer can recreate this trigger."""
        return serialize_arguments(self)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for a place, and fire one event that says why."""
        now = time.time()
        ready_at = now + seconds_to_hold(self, deferred_at=self.deferred_at)
        waiter = Waiter(
            self.since, str(id(self)), refused_at=self.deferred_at, ready_at=ready_at, refusals=self.refusals
        )
        try:
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                reason = await self._wait_in_line(AccountLine.of(hook.connection), waiter)
        except KirinError as error:
            # Only this process may be unable to use the connection. A worker submits, or fails with the reason.
            self.log.warning("The triggerer cannot use the connection, so it only lets time pass: %s", error)
            reason = "time"
            await asyncio.sleep(min(capacity_pause(self.refusals), self.deadline - now))
        await asyncio.sleep(ready_at - time.time())
        yield TriggerEvent({"reason": reason})

    async def _wait_in_line(self, line: AccountLine, waiter: Waiter) -> str:
        logged: tuple[int, int] | None = None
        with line.join(waiter) as woken:
            while not woken.done() and (left := self.deadline - time.time()) > 0:
                place, count = at = line.place_of(waiter)
                if at != logged:
                    self.log.info("The account is full; %s wait in this triggerer, place %s.", count, place)
                    logged = at
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(woken), min(left, _LOG_INTERVAL))
            return woken.result() if woken.done() else "deadline"
