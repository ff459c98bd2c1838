"""What the sync and the async hook share around a wait: the poller, and what it logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.callback_health import CallbackHealth
from airflow_provider_kirin.api.polling import Poller, PollResult
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.requests import validate_task_id

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask

#: Unknown statuses that this process has logged a warning about.
_unknown_statuses: set[str] = set()
#: At most this many are logged, in case a gateway sends a new one with each response.
_MAX_UNKNOWN_STATUSES = 100
#: What this process knows about the callbacks of each connection.
_callback_health: dict[str, CallbackHealth] = {}


def new_poller(
    kirin_task_id: str,
    timeout: float,
    poll_interval: float | None,
    started_at: float | None = None,
    *,
    is_kirin_id: bool = False,
    callbacks: CallbackHealth | None = None,
    external_task_id: str | None = None,
    is_awaited: Callable[[], bool] = lambda: False,
) -> Poller:
    """Return the poller of a wait that begins now, or resumes.

    :param kirin_task_id: a Kirin task id or an external task id
    :param timeout: seconds, counted from ``started_at``
    :param poll_interval: seconds between polls; None adapts it to the progress
    :param started_at: seconds since the epoch, None for now
    :param is_kirin_id: whether the id is the gateway's own, which each response has to repeat
    :param callbacks: of the connection, if the generation was submitted with a callback URL
    :param external_task_id: the external task id, if known: the other id is then the gateway's own
    :param is_awaited: returns whether a task waits for the place that the generation takes
    """
    started = time.time() if started_at is None else started_at
    return Poller(
        validate_task_id(kirin_task_id),
        started_at=started,
        deadline=started + timeout,
        poll_interval=poll_interval,
        is_kirin_id=is_kirin_id or external_task_id is not None,
        external_task_id=external_task_id,
        callbacks=callbacks,
        is_awaited=is_awaited,
    )


def callback_health(kirin_conn_id: str) -> CallbackHealth:
    """Return what this process knows about the callbacks of a connection.

    :param kirin_conn_id: the connection
    """
    return _callback_health.setdefault(kirin_conn_id, CallbackHealth())


def log_oddities(log: Any, kirin_task: KirinTask) -> None:
    """Warn about unusable parts of a response: once for each unknown status, and once for a finished generation.

    :param log: a logger
    :param kirin_task: the parsed response
    """
    if kirin_task.dropped and kirin_task.is_final:
        log.warning(
            "Dropped unusable values from the response about Kirin generation %s: %s.",
            kirin_task.id,
            ", ".join(kirin_task.dropped),
        )
    is_new = kirin_task.raw_status not in _unknown_statuses and len(_unknown_statuses) < _MAX_UNKNOWN_STATUSES
    if kirin_task.has_unknown_status and not kirin_task.is_final and is_new:
        _unknown_statuses.add(kirin_task.raw_status)
        log.warning(
            "Kirin reports the unknown status %s (task %s), which is treated as in progress.",
            short_repr(kirin_task.raw_status),
            kirin_task.id,
        )


def log_progress(log: Any, polled: PollResult) -> PollResult:
    """Log the progress that a poll found, if any, and return the poll's result unchanged."""
    if polled.log_line:
        log.info(polled.log_line)
    return polled
