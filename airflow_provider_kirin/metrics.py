"""Metrics, through Airflow's own Stats: StatsD, Datadog or OpenTelemetry, as the deployment is configured.

=====================  =======  ================================================================================
``kirin.submissions``  counter  submitted generations, each counted once
``kirin.completions``  counter  generations that ended with a video
``kirin.failures``     counter  submissions that failed and waits that ended without a video, by ``code``
``kirin.wait``         timer    from the start of a task's try (of a sensor's first poll) to the end of its wait
``kirin.cost_usd``     counter  US dollars, as reported by the gateway
``kirin.callbacks``    counter  callbacks that reached Airflow, by ``result``
=====================  =======  ================================================================================

Tags of all but the last: those of Airflow's own task metrics (``dag_id``, ``task_id``, ``team_name``), ``model``,
``conn_id``, and for failures ``code`` and ``error``. No tag contains the id of a run or of a generation, so the number
of series stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_kirin.api.errors import CODES
from airflow_provider_kirin.api.models import model_names
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinAPIError, KirinError


def report_submission(*, ti: Any, kirin_conn_id: str, model: str) -> None:
    """Count a submitted generation."""
    _stats().incr("kirin.submissions", tags=_tags(ti, kirin_conn_id, model))


def report_outcome(
    outcome: KirinTask | KirinError,
    *,
    ti: Any,
    kirin_conn_id: str,
    model: str | None = None,
    seconds: float | None = None,
) -> None:
    """Count the outcome and the cost of a generation, or of the attempt to get one. Call it once for each.

    :param outcome: the finished generation, or the error
    :param ti: the task instance, or anything with a DAG id and a task id
    :param kirin_conn_id: the connection
    :param model: the model, for an error that does not name it
    :param seconds: the duration of the wait
    """
    stats = _stats()
    kirin_task = outcome if isinstance(outcome, KirinTask) else getattr(outcome, "kirin_task", None)
    tags = _tags(ti, kirin_conn_id, (kirin_task and kirin_task.model) or model)
    if isinstance(outcome, KirinError):
        stats.incr("kirin.failures", tags={**tags, "code": _code(outcome), "error": type(outcome).__name__})
    else:
        stats.incr("kirin.completions", tags=tags)
    cost = kirin_task.usage.cost if kirin_task and kirin_task.usage else None
    if cost is not None and cost > 0:
        stats.incr("kirin.cost_usd", float(cost), tags=tags)
    if seconds is not None:
        stats.timing("kirin.wait", timedelta(seconds=max(seconds, 0.0)), tags=tags)


def report_callbacks(counts: Mapping[str, int]) -> None:
    """Count callbacks that have reached Airflow's API server.

    :param counts: numbers by result
    """
    for result, count in counts.items():
        _stats().incr("kirin.callbacks", count, tags={"result": result})


def _stats() -> Any:
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _tags(ti: Any, kirin_conn_id: str, model: str | None) -> dict[str, str]:
    own = getattr(ti, "stats_tags", None) or {"dag_id": ti.dag_id, "task_id": ti.task_id}
    # The gateway may report any model, and each new one would be a new series.
    known = {"model": model if model in model_names() else "other"} if model else {}
    return {**own, "conn_id": kirin_conn_id, **known}


def _code(error: KirinError) -> str:
    """Return one of a small set of codes: the API's known ones, else the HTTP status, else ``none``."""
    if isinstance(error, KirinAPIError):
        if error.code in CODES:
            return error.code
        if error.http_status is not None:
            return f"http_{error.http_status}"
        return "unknown" if error.code else "none"
    return "none"
