"""The wait between two waves of a batch, in the process that works on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.pauses import pause
from airflow_provider_kirin.hooks.poller_factory import new_poller

if TYPE_CHECKING:
    from airflow_provider_kirin.hooks.kirin import KirinHook
    from airflow_provider_kirin.operators.batch_run import BatchRun

#: Seconds after which the time is checked at the latest.
_CHECK_EVERY = 1.0


def wait_for_ends(run: BatchRun, hook: KirinHook, *, timeout: float, poll_interval: float | None = None) -> None:
    """Poll what is in flight until something has ended, or it is time to try again what was refused.

    :param run: the batch
    :param hook: polls
    :param timeout: seconds for the whole batch
    :param poll_interval: seconds between polls of a generation; None adapts it to its progress
    """
    wait = run.wait(at_once=True)
    pollers = {
        str(state.kirin_task_id): new_poller(
            str(state.kirin_task_id),
            # The wait itself has a deadline; a poll only has to see an end.
            2 * timeout,
            poll_interval,
            state.since,
            is_kirin_id=True,
        )
        for state in run.rows.having("sent")
    }
    due = dict.fromkeys(pollers, 0.0)
    ended: list[float] = []
    while (left := wait.wake_at(len(pollers), ended) - (now := time.time())) > 0:
        for kirin_task_id in [each for each, at in due.items() if at <= now]:
            polled = hook.poll_once(pollers[kirin_task_id])
            due[kirin_task_id] = time.time() + polled.delay
            if polled.outcome is not None:
                del pollers[kirin_task_id], due[kirin_task_id]
                ended.append(time.time())
        next_poll = min(due.values(), default=now + left) - time.time()
        pause(max(min(left, next_poll, _CHECK_EVERY), 0.0))
