"""The trigger that waits for generations without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.triggers.events import Outcome, write_event

#: No event comes sooner after the deferral, in seconds: a scheduler that has not yet heard of the worker's end when the
#: task is woken takes the task for one that died, and a try is lost (seen on Airflow 3.3.2 with LocalExecutor, after
#: 2 s on a loaded machine).
EARLIEST_EVENT = 5.0


class KirinTaskTrigger(BaseTrigger):
    """Wait for one or more generations, and fire once when all of them have ended or the time is over.

    Its arguments are plain and small: no key, no image. The deadline is wall-clock time, so that a restart of the
    triggerer does not grant the whole timeout again.

    :param kirin_task_ids: the generations
    :param kirin_conn_id: the connection
    :param started_at: when the waiting began, in seconds since the epoch
    :param deadline: when it has to end, in seconds since the epoch
    :param poll_interval: seconds between looks at one generation; None adapts them to its progress
    """

    def __init__(
        self,
        *,
        kirin_task_ids: Sequence[str],
        kirin_conn_id: str,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()
        self.kirin_task_ids = list(kirin_task_ids)
        self.kirin_conn_id = kirin_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to make this trigger anew, in any triggerer."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "kirin_task_ids": self.kirin_task_ids,
                "kirin_conn_id": self.kirin_conn_id,
                "started_at": self.started_at,
                "deadline": self.deadline,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all generations and fire one event with every outcome, in the order of the ids."""
        event = TriggerEvent(write_event(await self._wait_for_all()))
        await asyncio.sleep(max(self.started_at + EARLIEST_EVENT - time.time(), 0.0))
        yield event

    async def on_kill(self) -> None:
        """Say what goes on at Kirin. Airflow calls this on a clear or a mark, and when the task is woken otherwise."""
        self.log.warning(
            "The wait for Kirin generation(s) %s ended from outside. What is not finished goes on at Kirin, and is "
            "billed: the generation API documents no way to cancel it. Wait for the same id to pick it up.",
            ", ".join(self.kirin_task_ids[:10]) + (", …" if len(self.kirin_task_ids) > 10 else ""),
        )

    async def _wait_for_all(self) -> list[Outcome]:
        try:
            async with KirinAsyncHook(self.kirin_conn_id) as hook:
                return list(await asyncio.gather(*(self._wait_for(hook, one) for one in self.kirin_task_ids)))
        except KirinError as error:
            # The connection cannot be used: that is the outcome of every wait.
            return [error] * len(self.kirin_task_ids)

    async def _wait_for(self, hook: KirinAsyncHook, kirin_task_id: str) -> Outcome:
        try:
            return await hook.wait(
                kirin_task_id,
                timeout=self.deadline - self.started_at,
                poll_interval=self.poll_interval,
                started_at=self.started_at,
            )
        except KirinError as error:
            return error
