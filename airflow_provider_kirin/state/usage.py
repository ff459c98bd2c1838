"""Record the cost of finished generations: emit metrics and push the `kirin_usage` XCom."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinAPIError, KirinError, KirinUnfinishedError
from airflow_provider_kirin.metrics import report_outcome
from airflow_provider_kirin.state.keys import USAGE_KEY, USAGE_STATE_KEY

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def usage_entries(
    outcomes: Sequence[KirinTask | KirinError], recorded: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Return what :data:`USAGE_KEY` holds about generations that have ended, also those that failed.

    :param outcomes: finished generations, and errors; an error counts where it is about a generation
    :param recorded: what was noted before, by id: the time of the first note stays, whenever a task is cleared
    """
    now, recorded = datetime.now(UTC).isoformat(timespec="seconds"), recorded or {}
    return [
        _entry(one) | {"at": recorded.get(one.id, {}).get("at") or now}
        for one in map(ended, outcomes)
        if one is not None
    ]


def ended(outcome: KirinTask | KirinError) -> KirinTask | None:
    """Return the generation that an outcome is about; None for an error that came from elsewhere.

    :param outcome: how a wait ended
    """
    kirin_task = outcome.kirin_task if isinstance(outcome, KirinAPIError) else outcome
    return kirin_task if isinstance(kirin_task, KirinTask) and kirin_task.is_final else None


def _entry(kirin_task: KirinTask) -> dict[str, Any]:
    usage = kirin_task.to_dict()["usage"]
    return {
        "kirin_task_id": kirin_task.id,
        "model": kirin_task.model,
        "status": kirin_task.status,
        "cost": usage and usage["cost"],
    }


def record_outcomes(
    context: Context,
    outcomes: Sequence[KirinTask | KirinError],
    *,
    kirin_conn_id: str,
    model: str | None = None,
    since: float | None = None,
) -> None:
    """Push the XCom and emit the metrics of generations whose end this task instance has learnt, each once.

    On Airflow 3.3 and later a task that is cleared does not count the same generation again.

    :param context: Airflow's
    :param outcomes: finished generations, and errors
    :param kirin_conn_id: the connection
    :param model: the model, for errors that do not name it
    :param since: when the wait began, in seconds since the epoch; None for when the task's try began
    """
    fields: Mapping[str, Any] = context
    ti, store = fields["ti"], fields.get("task_state_store")
    known = _recorded(store) if any(map(ended, outcomes)) else {}
    if entries := usage_entries(outcomes, known):
        ti.xcom_push(USAGE_KEY, entries)
    # Airflow keeps the start of a try while it is deferred.
    began_at = since or (ti.start_date.timestamp() if ti.start_date else None)
    seconds = None if began_at is None else time.time() - began_at
    for outcome in outcomes:
        kirin_task = ended(outcome)
        # What goes on (fail_fast) has not ended, and what was told is told.
        if not isinstance(outcome, KirinUnfinishedError) and (kirin_task is None or kirin_task.id not in known):
            report_outcome(outcome, ti=ti, kirin_conn_id=kirin_conn_id, model=model, seconds=seconds)
    new_entries = [entry for entry in entries if entry["kirin_task_id"] not in known]
    if store is not None and new_entries:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # loaded lazily

        # As long as what was bought is on record.
        store.set(USAGE_STATE_KEY, [*known.values(), *new_entries], retention=NEVER_EXPIRE)


def _recorded(store: Any) -> dict[str, dict[str, Any]]:
    """Return what this task instance has told, by id."""
    recorded = store.get(USAGE_STATE_KEY) if store is not None else None
    entries = [one for one in recorded if isinstance(one, dict)] if isinstance(recorded, list) else []
    return {one["kirin_task_id"]: one for one in entries if isinstance(one.get("kirin_task_id"), str)}
