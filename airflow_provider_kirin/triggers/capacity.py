"""The trigger that waits for a place in a full account without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.capacity import CapacityWait, Waiter, capacity_pause
from airflow_provider_kirin.api.pauses import pause_async
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.triggers.account_line import AccountLine
from airflow_provider_kirin.triggers.base import KirinTrigger
from airflow_provider_kirin.utils import deferral
from airflow_provider_kirin.utils.start_from_trigger import BACKSTOP

#: Seconds between log lines about the position in the line; none is written if it has not changed.
_LOG_INTERVAL = 60.0


def deferral_until_place(
    wait: CapacityWait, *, kirin_conn_id: str, try_number: int, retry_after: float | None
) -> dict[str, Any]:
    """Return the arguments of an operator's ``defer()`` for a refused task; it resumes in ``resume_submission``.

    :param wait: the wait so far, with the latest refusal
    :param kirin_conn_id: the Airflow connection
    :param try_number: the try that waits
    :param retry_after: seconds for which the gateway asked not to be called
    """
    now = time.time()
    shortest = max(deferral.min_deferral(), retry_after or 0.0)
    return {
        "trigger": KirinCapacityTrigger(
            kirin_conn_id=kirin_conn_id,
            since=wait.since,
            refusals=wait.refusals,
            deadline=wait.deadline,
            try_number=try_number,
            deferred_at=now,
            earliest_event=now + shortest,
        ),
        "method_name": "resume_submission",
        "timeout": timedelta(seconds=max(wait.deadline - now, shortest) + BACKSTOP),
    }


def resumed_wait(event: Mapping[str, Any], *, try_number: int) -> CapacityWait | None:
    """Return the wait with which a task resumes.

    :param event: the payload of the trigger's event
    :param try_number: the try that resumes
    :return: None if the wait belongs to an earlier try: after a clear of a running task, the next try gets its event
    """
    if event["try_number"] != try_number:
        return None
    return CapacityWait(since=event["since"], deadline=event["deadline"], refusals=event["refusals"])


class KirinCapacityTrigger(KirinTrigger):
    """Wait until a place may be free in the account, and fire once: a worker then submits again.

    A trigger cannot know whether a place is free, only that asking is worthwhile. Times are wall-clock times, so that
    neither a restart of the triggerer nor another refusal costs the task its position or extends the wait. Nothing was
    submitted, so there is nothing to cancel when the task is cleared.

    :param kirin_conn_id: the Airflow connection
    :param since: when the task was first refused, in seconds since the epoch: the earliest is next
    :param refusals: how often it was refused
    :param deadline: when the wait ends at the latest, in seconds since the epoch
    :param try_number: the try that waits
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
        try_number: int,
        deferred_at: float,
        earliest_event: float,
    ) -> None:
        super().__init__()
        self.kirin_conn_id = kirin_conn_id
        self.since = since
        self.refusals = refusals
        self.deadline = deadline
        self.try_number = try_number
        self.deferred_at = deferred_at
        self.earliest_event = earliest_event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for a place, and fire one event with the reason."""
        now = time.time()
        ready_at = now + self.seconds_to_hold(deferred_at=self.deferred_at)
        waiter = Waiter(
            self.since, str(id(self)), refused_at=self.deferred_at, ready_at=ready_at, refusals=self.refusals
        )
        try:
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                reason = await self._wait_in_line(AccountLine.of(hook.connection), waiter)
        except KirinError as error:
            # Only this process may be unable to use the connection. A worker submits, or fails with the reason.
            self.log.warning("The triggerer cannot use the connection, so it only waits: %s", error)
            reason = "time"
            await pause_async(min(capacity_pause(self.refusals), self.deadline - now))
        await asyncio.sleep(ready_at - time.time())
        # The event carries the wait: Airflow's dag.test() drops the other arguments of a deferral.
        yield TriggerEvent(
            {
                "reason": reason,
                "since": self.since,
                "deadline": self.deadline,
                "refusals": self.refusals,
                "try_number": self.try_number,
            }
        )

    async def _wait_in_line(self, line: AccountLine, waiter: Waiter) -> str:
        logged: tuple[int, int] | None = None
        with line.join(waiter) as woken:
            while not woken.done() and (left := self.deadline - time.time()) > 0:
                position = line.position_of(waiter)
                if position != logged:
                    self.log.info("The account is full; at position %s of %s in the line of this triggerer.", *position)
                    logged = position
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(woken), min(left, _LOG_INTERVAL))
            return woken.result() if woken.done() else "deadline"
