"""The trigger that watches all generations of a batch, and wakes a worker when that pays."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.batch.schedule import Wait
from airflow_provider_kirin.api.callback_health import KEPT
from airflow_provider_kirin.api.pauses import pause_async
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.hooks.poller_factory import callback_health, new_poller
from airflow_provider_kirin.state.journal import Journal
from airflow_provider_kirin.triggers.account_line import AccountLine
from airflow_provider_kirin.triggers.base import KirinTrigger
from airflow_provider_kirin.triggers.end import was_woken

#: Bytes of the generations in a trigger's arguments. Airflow encrypts them, which adds a third, and MySQL stores 64 KB.
_MAX_ARGUMENTS = 40_000
#: Seconds for which a poll may continue after the deadline: the trigger ends before it.
_MARGIN = 3600.0


def fits_into_arguments(in_flight: Sequence[Any]) -> bool:
    """Return whether generations may be arguments of a trigger; otherwise it reads them from the journal.

    :param in_flight: pairs of Kirin task id and start
    """
    return len(json.dumps(in_flight)) <= _MAX_ARGUMENTS


class KirinBatchTrigger(KirinTrigger):
    """Watch all generations of a batch, and fire once when the next wave is worth a worker.

    Its own event only counts: the worker asks for each generation again. A callback's event has what was reported.
    Times are wall-clock times, so that a restart of the triggerer changes nothing.

    :param kirin_conn_id: the Airflow connection
    :param in_flight: pairs of Kirin task id and when it was submitted; None to read them from the journal
    :param folder: the batch's folder, if they are to be read from the journal
    :param deferred_at: when the worker deferred, in seconds since the epoch
    :param earliest_event: when a worker may resume the task; see :class:`.KirinTaskTrigger`
    :param deadline: when the batch, or its oldest row, has run out of time
    :param has_more: whether rows wait for a place
    :param retry_at: when to try again what was refused; None if nothing was
    :param poll_interval: seconds between polls of a generation; None adapts it to its progress
    :param awaits_callback: whether the gateway calls back, so that polling is only a safety net
    :param known_until: until when the worker knew of every end, in seconds since the epoch; 0 if it may have missed one
    """

    def __init__(
        self,
        *,
        kirin_conn_id: str,
        in_flight: Sequence[Sequence[Any]] | None,
        folder: str | None,
        deferred_at: float,
        earliest_event: float,
        deadline: float,
        has_more: bool,
        retry_at: float | None,
        poll_interval: float | None,
        awaits_callback: bool = False,
        known_until: float = 0.0,
    ) -> None:
        super().__init__()
        self.kirin_conn_id = kirin_conn_id
        self.in_flight = in_flight
        self.folder = folder
        self.deferred_at = deferred_at
        self.earliest_event = earliest_event
        self.deadline = deadline
        self.has_more = has_more
        self.retry_at = retry_at
        self.poll_interval = poll_interval
        self.awaits_callback = awaits_callback
        self.known_until = known_until

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        wait = self.schedule(self.seconds_to_hold(deferred_at=self.deferred_at))
        ended_at: list[float] = []
        try:
            in_flight = self.in_flight
            if in_flight is None:
                in_flight = await asyncio.to_thread(_read_in_flight, str(self.folder))
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                await self._watch(hook, in_flight, wait, ended_at)
        except KirinError as error:
            # A worker reports what is wrong, or finds that it works again.
            self.log.warning("The triggerer cannot watch the batch, so a worker does: %s", error)
            await asyncio.sleep(max(wait.earliest - time.time(), 0.0))
        yield self.event(len(ended_at))

    def schedule(self, hold: float) -> Wait:
        """Return the rules by which the next wave begins.

        :param hold: seconds for which its event must be held back
        """
        return Wait(
            since=self.deferred_at,
            deadline=self.deadline,
            earliest=time.time() + hold,
            has_more=self.has_more,
            retry_at=self.retry_at,
        )

    @staticmethod
    def event(done: int, reported: Reported | None = None) -> TriggerEvent:
        """Return the event that begins the next wave.

        :param done: how many generations have ended
        :param reported: what callbacks have reported, if one begins it
        """
        return TriggerEvent({"v": 1, "done": done} | ({} if reported is None else reported.to_event()))

    @property
    def started_at(self) -> float:
        """When the wait began, under the name that :class:`.KirinTaskTrigger` has for it."""
        return self.deferred_at

    async def on_kill(self) -> None:
        """Note that callbacks arrive, if one has ended the wait. Airflow calls this whenever something else does."""
        if self.task_instance is not None and await was_woken(self.task_instance, self.started_at, self.log):
            callback_health(self.kirin_conn_id).on_arrived()

    async def _watch(
        self, hook: KirinAsyncHook, in_flight: Sequence[Sequence[Any]], wait: Wait, ended_at: list[float]
    ) -> None:
        """Return when the next wave is worth a worker.

        :param hook: polls
        :param in_flight: pairs of Kirin task id and when it was submitted
        :param wait: decides
        :param ended_at: gets the time of each end
        """
        has_changed = asyncio.Event()

        async def until_it_ends(kirin_task_id: str, since: float | None) -> None:
            await self._until_it_ends(hook, kirin_task_id, since)
            ended_at.append(time.time())
            has_changed.set()

        watching = [asyncio.ensure_future(until_it_ends(str(each), since)) for each, since in in_flight]
        try:
            while (left := wait.wake_at(len(watching) - len(ended_at), ended_at) - time.time()) > 0:
                has_changed.clear()
                try:
                    await asyncio.wait_for(has_changed.wait(), left)
                except TimeoutError:
                    continue
        finally:
            for each in watching:
                each.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def _until_it_ends(self, hook: KirinAsyncHook, kirin_task_id: str, since: float | None) -> None:
        """Poll one generation until it has ended, or polling it is of no use.

        Not with :meth:`.KirinAsyncHook.run`, which logs the progress of each: a triggerer's log lines cost queries.
        """
        started_at = self.deferred_at if since is None else since
        seconds = self.deadline - started_at + _MARGIN
        poller = new_poller(
            kirin_task_id,
            seconds,
            self.poll_interval,
            started_at,
            is_kirin_id=True,
            # dag.test() runs a trigger without a task instance, which no callback would find.
            callbacks=callback_health(self.kirin_conn_id) if self.awaits_callback and self.task_instance else None,
        )
        with AccountLine.of(hook.connection).watch() as watch:
            # During a longer wave, a callback may have come and gone.
            if self.deferred_at - self.known_until <= KEPT and (delay := poller.first_delay(time.time())):
                await pause_async(delay)
            while (polled := await hook.poll_once(poller)).outcome is None:
                await pause_async(polled.delay)
            watch.has_ended = poller.has_seen_it_end


def _read_in_flight(folder: str) -> list[list[Any]]:
    """Read from the journal what is in flight. It is a hint: the worker that wrote it has ended."""
    states = Journal(folder, owner="").peek()
    return [[state.kirin_task_id, state.since] for state in states.values() if state.status == "sent"]
