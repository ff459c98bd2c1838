"""Defaults and limits of waiting, shared by all deferrable operators."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.common.compat.sdk import conf

from airflow_provider_kirin.api.redaction import short_repr

#: Seconds. Public clients wait up to ten minutes for a generation; a queue may come before it.
DEFAULT_WAIT = 3600.0
#: Ten years, in seconds. A longer time is a mistake, and overflows a date.
_MAX_SECONDS = 10 * 365 * 86400
#: Minimum seconds between a deferral and the event that ends it: see :func:`min_deferral`.
_MIN_DEFERRAL = 10.0
#: Seconds by which the scheduler may notice the end of a worker later than the worker's supervisor does.
_REPORT_SECONDS = 5.0


def deferrable_default() -> bool:
    """Return whether operators defer by default: yes, unless the environment says no.

    ``[operators] default_deferrable`` counts only in the environment. Airflow 3 writes its own default, false, into
    each airflow.cfg that it generates, so a false in the file is not necessarily a choice.
    """
    if "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE" in os.environ:
        return bool(conf.getboolean("operators", "default_deferrable"))
    return True


def as_seconds(value: float | timedelta, name: str) -> float:
    """Return a time span in seconds.

    :param value: seconds or a timedelta
    :param name: the argument's name, for the error message
    :raises ValueError: if the value is anything else, negative, or longer than ten years
    """
    number: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= _MAX_SECONDS:
        raise ValueError(f"{name} = {short_repr(value)} must be a number of seconds, 0 or more, or a timedelta.")
    return float(number)


def min_deferral() -> float:
    """Return the seconds for which a task that a worker defers must stay deferred.

    A quarter of all workers report the end of a run one ``[workers] min_heartbeat_interval`` late, because their
    supervisor sleeps once more before it checks. If the task is queued or running again by then, the scheduler takes
    the report for that of the new run and fails the try (apache/airflow #67287, #71580, #72716).
    """
    interval: float = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
    return max(_MIN_DEFERRAL, interval + _REPORT_SECONDS)
