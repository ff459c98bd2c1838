"""Wait for a generation in a shell."""

from __future__ import annotations

import time

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.cli._runner import fail
from airflow_provider_kirin.cli.progress import progress_bar
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.hooks.poller_factory import new_poller


def follow(hook: KirinHook, kirin_task_id: str, *, timeout: float, is_shown: bool) -> KirinTask:
    """Wait until a generation has its video; show its progress in a terminal.

    :param hook: polls
    :param kirin_task_id: a Kirin task id or an external task id
    :param timeout: seconds
    :param is_shown: whether to show a progress bar
    :raises KirinTimeoutError: it did not end in time; it may continue at Kirin
    :raises KirinTaskFailedError: it failed, or completed without a video
    """
    poller = new_poller(kirin_task_id, timeout, None)
    try:
        with progress_bar(is_shown=is_shown) as bar:
            bar(0, 1, f"waiting for {kirin_task_id}")
            while True:
                try:
                    kirin_task = hook.get_task(kirin_task_id, patience=0)
                    done = 1.0 if kirin_task.is_final else kirin_task.progress or 0.0
                    bar(done, 1, f"{kirin_task_id}: {kirin_task.status}")
                    polled = poller.on_response(kirin_task, time.time())
                except KirinError as error:
                    polled = poller.on_error(error, time.time())
                if isinstance(polled.outcome, KirinError):
                    raise polled.outcome
                if polled.outcome is not None:
                    return polled.outcome
                time.sleep(polled.delay)
    except KeyboardInterrupt:
        fail(f"interrupted; the generation continues, and is billed. Resume waiting with `wait {kirin_task_id}`.")
