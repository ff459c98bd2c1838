"""The trigger that waits for generations without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.triggers.encoding import make_event
from airflow_provider_kirin.triggers.end import end_task
from airflow_provider_kirin.triggers.events import Outcome, abandoned_by_fail_fast

#: How a trigger that ends its task itself returns the result: as of one generation or as a list; None leaves it to
#: a worker.
ResultShape = Literal["one", "list"] | None


def serialize_arguments(trigger: BaseTrigger) -> tuple[str, dict[str, Any]]:
    """Return what Airflow needs to make a trigger anew, whose attributes are named as its arguments.

    :param trigger: the trigger
    """
    trigger_class = type(trigger)
    return f"{trigger_class.__module__}.{trigger_class.__qualname__}", {
        name: getattr(trigger, name) for name in signature(trigger_class).parameters
    }


class KirinTaskTrigger(BaseTrigger):
    """Wait for one or more generations, and fire once when all of them have ended or the time is over.

    Its arguments are plain and small: no key, no image. The deadline is wall-clock time, so that a restart of the
    triggerer does not grant the whole timeout again. All triggers of a process that use the same connection share one
    session, one pace and one view of the gateway's health.

    :param kirin_task_ids: the generations
    :param kirin_conn_id: the connection
    :param started_at: when the waiting began, in seconds since the epoch
    :param deadline: when it has to end, in seconds since the epoch
    :param poll_interval: seconds between looks at one generation; None adapts them to what is known
    :param fail_fast: whether to fire as soon as one generation gave no video
    :param result_shape: whether to end the task here once all have their videos, with a result as ``"one"`` or as a
        ``"list"``; whatever else happens goes to a worker. None lets a worker do it in any case.
    :param do_xcom_push: whether that result goes to XCom
    :param external_task_id: the caller's own id, for a result of one: the gateway does not repeat it
    :param earliest_event: when a worker may be woken, in seconds since the epoch: the scheduler must have learned
        before that the worker that deferred has ended. It delays no poll, nor the end of a task that ends here.
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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to make this trigger anew, in any triggerer."""
        return serialize_arguments(self)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all generations and fire one event with every outcome, in the order of the ids."""
        yield await self.wait()

    async def wait(self) -> TriggerEvent:
        """Wait for all generations, and return the event."""
        may_wake = asyncio.get_running_loop().time() + self._seconds_to_hold()
        outcomes = await self._wait_for_all()
        if event := await self._end_here(outcomes):
            return event
        await asyncio.sleep(may_wake - asyncio.get_running_loop().time())
        # In a thread: there may be thousands.
        return await asyncio.to_thread(make_event, outcomes)

    def _seconds_to_hold(self) -> float:
        """Return how long from now no worker may be woken."""
        if self.task_instance is None:
            # dag.test() runs a trigger without one, and without a scheduler.
            return 0.0
        # Clocks may differ: if this one is behind the worker's, it is held for as long as if they agreed.
        return min(max(self.earliest_event - time.time(), 0.0), max(self.earliest_event - self.started_at, 0.0))

    async def _end_here(self, outcomes: Sequence[Outcome]) -> TriggerEvent | None:
        """Return the event that ends the task without a worker; None if a worker has to end it."""
        done = [outcome for outcome in outcomes if isinstance(outcome, KirinTask)]
        if self.result_shape is None or len(done) != len(outcomes):
            return None
        if self.result_shape == "one" and self.external_task_id:
            done = [replace(done[0], external_task_id=self.external_task_id)]
        # What was asked for twice is returned twice, and reported once.
        distinct = list(dict(zip(self.kirin_task_ids, done, strict=True)).values())
        for kirin_task in distinct:
            self.log.info(kirin_task.describe_end())
        results = [kirin_task.to_dict() for kirin_task in done]
        return await end_task(self, distinct, results[0] if self.result_shape == "one" else results)

    async def on_kill(self) -> None:
        """Say what may go on at Kirin. Airflow calls this on a clear or a mark, and if the task is woken otherwise."""
        self.log.warning(
            "The wait for Kirin generation(s) %s ended from outside. What is not finished may go on at Kirin, and be "
            "billed: the generation API documents no way to cancel it. Wait for the same id to pick it up.",
            ", ".join(self.kirin_task_ids[:10]) + (", …" if len(self.kirin_task_ids) > 10 else ""),
        )

    async def _wait_for_all(self) -> list[Outcome]:
        try:
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                return await self._gather(hook)
        except KirinError as error:
            # The connection cannot be used: that is the outcome of every wait.
            return [error] * len(self.kirin_task_ids)

    async def _gather(self, hook: KirinAsyncHook) -> list[Outcome]:
        # An id that was given twice is waited for once.
        ids = dict.fromkeys(self.kirin_task_ids)
        waits = {one: asyncio.ensure_future(self._wait_for(hook, one)) for one in ids}
        try:
            for ended in asyncio.as_completed(waits.values()):
                if isinstance(await ended, KirinError) and self.fail_fast:
                    break
        finally:
            for wait in waits.values():
                wait.cancel()
            await asyncio.gather(*waits.values(), return_exceptions=True)
        return [
            abandoned_by_fail_fast(one) if waits[one].cancelled() else waits[one].result()
            for one in self.kirin_task_ids
        ]

    async def _wait_for(self, hook: KirinAsyncHook, kirin_task_id: str) -> Outcome:
        try:
            return await hook.wait(
                kirin_task_id,
                timeout=self.deadline - self.started_at,
                poll_interval=self.poll_interval,
                started_at=self.started_at,
                # Who knows both ids has bought it, and waits by the gateway's own.
                is_kirin_id=self.external_task_id is not None,
            )
        except KirinError as error:
            return error
