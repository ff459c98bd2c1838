"""What the sync and the async hook do alike around a wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.polling import Poller, PollResult
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.requests import validate_task_id

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask

#: Status words that were warned about already, in this process.
_unknown_statuses: set[str] = set()
#: Unknown words that are warned about; a gateway that makes up a new one for each response stays silent after that.
_MOST_STATUSES = 100


def new_poller(
    kirin_task_id: str,
    timeout: float,
    poll_interval: float | None,
    started_at: float | None = None,
    *,
    is_kirin_id: bool = False,
) -> Poller:
    """Return the poller of a wait that begins now, or goes on.

    :param kirin_task_id: the generation
    :param timeout: seconds, counted from ``started_at``
    :param poll_interval: seconds between looks; None adapts them
    :param started_at: seconds since the epoch, None for now
    :param is_kirin_id: whether the id is the gateway's own, which each response has to repeat
    """
    started = time.time() if started_at is None else started_at
    return Poller(
        validate_task_id(kirin_task_id),
        started_at=started,
        deadline=started + timeout,
        poll_interval=poll_interval,
        is_kirin_id=is_kirin_id,
    )


def log_oddities(log: Any, kirin_task: KirinTask) -> None:
    """Warn of what a response has that cannot be used: once for each unknown status, once for each generation's end.

    :param log: a logger
    :param kirin_task: what the gateway reports
    """
    if kirin_task.dropped and kirin_task.is_final:
        log.warning(
            "The response about Kirin generation %s has values that cannot be used, and are dropped: %s.",
            kirin_task.id,
            ", ".join(kirin_task.dropped),
        )
    is_news = kirin_task.raw_status not in _unknown_statuses and len(_unknown_statuses) < _MOST_STATUSES
    if kirin_task.has_unknown_status and not kirin_task.is_final and is_news:
        _unknown_statuses.add(kirin_task.raw_status)
        log.warning(
            "Kirin reports the unknown status %s (task %s); it counts as in progress.",
            short_repr(kirin_task.raw_status),
            kirin_task.id,
        )


def log_progress(log: Any, step: PollResult) -> PollResult:
    """Say what a look has brought, where that is new, and return it.

    :param log: a logger
    :param step: what the look led to
    """
    if step.log_line:
        log.info(step.log_line)
    return step
