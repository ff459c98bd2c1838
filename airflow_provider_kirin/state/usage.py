"""Record how generations ended: emit metrics, and push the `kirin_usage` and `kirin_files` XComs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinAPIError, KirinError, KirinUnfinishedError
from airflow_provider_kirin.metrics import report_outcome
from airflow_provider_kirin.state.keys import FILES_KEY, USAGE_KEY, USAGE_STATE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.video_file import VideoFile


def usage_entries(
    outcomes: Sequence[KirinTask | KirinError], recorded: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Return the :data:`USAGE_KEY` entries of the generations that have ended, including those that failed.

    :param outcomes: finished generations and errors; an error counts if it carries a finished generation
    :param recorded: entries recorded before, by Kirin task id: their first timestamp is kept when a task is cleared
    """
    now, recorded = datetime.now(UTC).isoformat(timespec="seconds"), recorded or {}
    return [
        _entry(kirin_task) | {"at": recorded.get(kirin_task.id, {}).get("at") or now}
        for kirin_task in map(ended, outcomes)
        if kirin_task is not None
    ]


def ended(outcome: KirinTask | KirinError) -> KirinTask | None:
    """Return the finished generation of an outcome; None for an error without one.

    :param outcome: the result of a wait
    """
    kirin_task = outcome.kirin_task if isinstance(outcome, KirinAPIError) else outcome
    return kirin_task if isinstance(kirin_task, KirinTask) and kirin_task.is_final else None


def _entry(kirin_task: KirinTask) -> dict[str, Any]:
    fields = kirin_task.to_dict()
    usage, completed_at = fields["usage"], kirin_task.metadata.get("completed_at")
    details = {
        "error": fields["error"],
        "created_at": kirin_task.created_at,
        "completed_at": completed_at if isinstance(completed_at, (int, float)) else None,
    }
    return {
        "kirin_task_id": kirin_task.id,
        "model": kirin_task.model,
        "status": kirin_task.status,
        "cost": usage and usage["cost"],
        **{name: value for name, value in details.items() if value},
    }


def record_files(context: Context, kirin_task_id: str, files: Sequence[VideoFile]) -> None:
    """Push the XCom of the files that a task wrote, whatever ``do_xcom_push`` says about its result.

    :param context: the running task's context
    :param kirin_task_id: the generation
    :param files: its videos
    """
    ti: Any = context["ti"]
    ti.xcom_push(FILES_KEY, {"kirin_task_id": kirin_task_id, **as_result(files)})


def as_result(files: Sequence[VideoFile]) -> dict[str, Any]:
    """Return the fields of a task's result that describe the files it wrote.

    :param files: its videos
    """
    return {"files": [file.uri for file in files], "file_details": [file.to_dict() for file in files]}


def record_outcomes(
    context: Context,
    outcomes: Sequence[KirinTask | KirinError],
    *,
    kirin_conn_id: str,
    model: str | None = None,
    since: float | None = None,
) -> None:
    """Push the XCom and emit the metrics of generations that this task instance saw end, each of them once.

    On Airflow 3.3 and later a cleared task does not count the same generation again.

    :param context: the running task's context
    :param outcomes: finished generations and errors
    :param kirin_conn_id: the connection id, for the metrics' tags
    :param model: the model, for errors that do not name it
    :param since: when the wait began, in seconds since the epoch; None for the start of the task's try
    """
    fields: Mapping[str, Any] = context
    ti, store = fields["ti"], fields.get("task_state_store")
    known = _recorded(store) if any(map(ended, outcomes)) else {}
    if entries := usage_entries(outcomes, known):
        ti.xcom_push(USAGE_KEY, entries)
    # Airflow keeps a try's start date across its deferral.
    began_at = since or (ti.start_date.timestamp() if ti.start_date else None)
    seconds = None if began_at is None else time.time() - began_at
    for outcome in outcomes:
        kirin_task = ended(outcome)
        # Unfinished generations (fail_fast) have not ended; recorded ones were counted before.
        if not isinstance(outcome, KirinUnfinishedError) and (kirin_task is None or kirin_task.id not in known):
            report_outcome(outcome, ti=ti, kirin_conn_id=kirin_conn_id, model=model, seconds=seconds)
    new_entries = [entry for entry in entries if entry["kirin_task_id"] not in known]
    if store is not None and new_entries:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # loaded lazily

        # Kept as long as the record of the submission.
        store.set(USAGE_STATE_KEY, [*known.values(), *new_entries], retention=NEVER_EXPIRE)


def _recorded(store: Any) -> dict[str, dict[str, Any]]:
    """Return what this task instance has recorded, by Kirin task id."""
    recorded = store.get(USAGE_STATE_KEY) if store is not None else None
    entries = [entry for entry in recorded if isinstance(entry, dict)] if isinstance(recorded, list) else []
    return {entry["kirin_task_id"]: entry for entry in entries if isinstance(entry.get("kirin_task_id"), str)}
