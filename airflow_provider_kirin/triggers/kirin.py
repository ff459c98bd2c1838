"""The trigger that waits for generations without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.hooks.poller_factory import callback_health, new_poller
from airflow_provider_kirin.triggers.account_line import AccountLine
from airflow_provider_kirin.triggers.base import KirinTrigger
from airflow_provider_kirin.triggers.encoding import limit_size, make_event
from airflow_provider_kirin.triggers.end import end_task, was_woken
from airflow_provider_kirin.triggers.events import abandoned_by_fail_fast
from airflow_provider_kirin.utils import deferral
from airflow_provider_kirin.utils.start_from_trigger import BACKSTOP

#: The return value of a task that ends in the triggerer: one generation or a list. None: the task ends on a worker.
ResultShape = Literal["one", "list"] | None


@dataclass(frozen=True)
class TaskResult:
    """With what a task ends that needs no worker.

    :param value: what the task returns
    :param generations: the finished generations, each of them once
    """

    value: Any
    generations: Sequence[KirinTask]


class KirinTaskTrigger(KirinTrigger):
    """Wait for one or more generations, and fire once when all of them have ended or the deadline has passed.

    The arguments are plain and small, without a key or an image. The deadline is wall-clock time, so that a restart of
    the triggerer does not grant the whole timeout again. All triggers of a process that use the same connection share
    one session, one rate limiter and one circuit breaker.

    :param kirin_task_ids: the generations
    :param kirin_conn_id: the Airflow connection
    :param started_at: when the wait began, in seconds since the epoch
    :param deadline: when the wait ends at the latest, in seconds since the epoch
    :param poll_interval: seconds between polls of one generation; None adapts them to what is known
    :param fail_fast: whether to fire as soon as one generation has no video
    :param result_shape: end the task here once all generations have their videos, and return ``"one"`` result or a
        ``"list"``. Any other outcome goes to a worker. With None, every outcome does.
    :param do_xcom_push: whether to push that result to XCom
    :param external_task_id: the external task id of a single generation, which the gateway does not repeat
    :param earliest_event: when a worker may resume the task, in seconds since the epoch: by then the scheduler must
        know that the worker which deferred has ended. Delays neither a poll nor a task that ends here.
    :param awaits_callback: whether the gateway will call back, and cannot have done so before the task run that defers:
        polling is only a safety net then, and begins late
    """

    def __init__(
        self,
        *,
        kirin_task_ids: Sequence[str],
        kirin_conn_id: str,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
        fail_fast: bool = False,
        result_shape: ResultShape = None,
        do_xcom_push: bool = True,
        external_task_id: str | None = None,
        earliest_event: float = 0.0,
        awaits_callback: bool = False,
    ) -> None:
        super().__init__()
        self.kirin_task_ids = list(kirin_task_ids)
        self.kirin_conn_id = kirin_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.fail_fast = fail_fast
        self.result_shape = result_shape
        self.do_xcom_push = do_xcom_push
        self.external_task_id = external_task_id
        self.earliest_event = earliest_event
        self.awaits_callback = awaits_callback
        self._line: AccountLine | None = None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all generations, and fire one event with every outcome, in the order of the ids."""
        yield await self.wait()

    async def wait(self) -> TriggerEvent:
        """Wait for all generations, and return the event."""
        earliest = asyncio.get_running_loop().time() + self.seconds_to_hold(deferred_at=self.started_at)
        # In a thread, since there may be thousands of outcomes.
        outcomes = await asyncio.to_thread(limit_size, await self._wait_for_all())
        if event := await self._end_here(outcomes):
            return event
        await asyncio.sleep(earliest - asyncio.get_running_loop().time())
        return await asyncio.to_thread(make_event, outcomes)

    def result_of(self, outcomes: Sequence[Outcome]) -> TaskResult | None:
        """Return the result with which the task can end without a worker; None if a worker has to end it.

        :param outcomes: how each wait ended, in the order of the ids
        """
        done = [outcome for outcome in outcomes if isinstance(outcome, KirinTask)]
        if self.result_shape is None or len(done) != len(outcomes):
            return None
        results = [kirin_task.to_dict() for kirin_task in done]
        # An id that was given twice is returned twice, and reported once.
        distinct = list(dict(zip(self.kirin_task_ids, done, strict=True)).values())
        return TaskResult(results[0] if self.result_shape == "one" else results, distinct)

    async def _end_here(self, outcomes: Sequence[Outcome]) -> TriggerEvent | None:
        """Return the event that ends the task without a worker, or None if a worker has to end it."""
        result = self.result_of(outcomes)
        # dag.test() runs a trigger without a task instance.
        if result is None or self.task_instance is None:
            return None
        for kirin_task in result.generations:
            self.log.info(kirin_task.describe_end())
        return await end_task(
            self.task_instance,
            result.generations,
            result.value,
            do_xcom_push=self.do_xcom_push,
            kirin_conn_id=self.kirin_conn_id,
            started_at=self.started_at,
            log=self.log,
        )

    async def on_kill(self) -> None:
        """Log which generations may continue at Kirin. Airflow calls this whenever something else ends the wait."""
        ids = ", ".join(self.kirin_task_ids[:10]) + (", …" if len(self.kirin_task_ids) > 10 else "")
        if self.task_instance is not None and await was_woken(self.task_instance, self.started_at, self.log):
            callback_health(self.kirin_conn_id).on_arrived()
            self._report_ends()
            self.log.info("The callback of Kirin generation(s) %s has ended the wait.", ids)
            return
        self.log.warning(
            "The wait for Kirin generation(s) %s was stopped. Unfinished generations may continue at Kirin and be "
            "billed: the API documents no way to cancel them. Wait for the same id to get the result.",
            ids,
        )

    def _report_ends(self) -> None:
        """Report to the tasks that wait for a place that the generations have ended, which no poll has seen."""
        if self._line is not None:
            for _ in self.kirin_task_ids:
                with self._line.watch() as watch:
                    watch.has_ended = True

    async def _wait_for_all(self) -> list[Outcome]:
        try:
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                return await self._gather(hook)
        except KirinError as error:
            # The connection is unusable, which is the outcome of every wait.
            return [error] * len(self.kirin_task_ids)

    async def _gather(self, hook: KirinAsyncHook) -> list[Outcome]:
        # An id that was given twice is polled once.
        ids = dict.fromkeys(self.kirin_task_ids)
        waits = {kirin_task_id: asyncio.ensure_future(self._wait_for(hook, kirin_task_id)) for kirin_task_id in ids}
        try:
            for ended in asyncio.as_completed(waits.values()):
                if isinstance(await ended, KirinError) and self.fail_fast:
                    break
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)
        return [
            abandoned_by_fail_fast(kirin_task_id) if waits[kirin_task_id].cancelled() else waits[kirin_task_id].result()
            for kirin_task_id in self.kirin_task_ids
        ]

    async def _wait_for(self, hook: KirinAsyncHook, kirin_task_id: str) -> Outcome:
        self._line = AccountLine.of(hook.connection)
        poller = new_poller(
            kirin_task_id,
            self.deadline - self.started_at,
            self.poll_interval,
            self.started_at,
            external_task_id=self.external_task_id,
            # dag.test() runs a trigger without a task instance, which no callback would find.
            callbacks=callback_health(self.kirin_conn_id) if self.awaits_callback and self.task_instance else None,
            is_awaited=self._line.has_waiters,
        )
        with self._line.watch() as watch:
            try:
                return await hook.run(poller)
            finally:
                watch.has_ended = poller.has_seen_it_end


def deferral_until_done(
    kirin_task_ids: Sequence[str], *, kirin_conn_id: str, timeout: float, **options: Any
) -> dict[str, Any]:
    """Return the arguments of an operator's ``defer()`` for a wait; it resumes in ``execute_complete``.

    :param kirin_task_ids: the generations
    :param kirin_conn_id: the Airflow connection
    :param timeout: seconds to wait at most, from now
    :param options: further arguments of the trigger
    """
    now, shortest = time.time(), deferral.min_deferral()
    return {
        "trigger": KirinTaskTrigger(
            kirin_task_ids=kirin_task_ids,
            kirin_conn_id=kirin_conn_id,
            started_at=now,
            deadline=now + timeout,
            earliest_event=now + shortest,
            **options,
        ),
        "method_name": "execute_complete",
        "timeout": timedelta(seconds=max(timeout, shortest) + BACKSTOP),
    }
