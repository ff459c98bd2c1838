"""Where a batch stands, for the Kirin pages: bounded, however many rows there are."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow_provider_kirin.api.batch.report import iso, seconds_left
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.pricing import show_usd

#: Rows without a video that are named, the reasons that are counted, and the characters of a key and an error.
MAX_ROWS, MAX_REASONS, MAX_KEY, MAX_ERROR = 30, 20, 120, 300


def progress(rows: Rows, *, manifest: str, model: str, places: int, started_at: float, now: float) -> dict[str, Any]:
    """Return where a batch stands.

    :param rows: the states
    :param manifest: the URI of the manifest
    :param model: the model
    :param places: how many generations may be in flight
    :param started_at: when the batch began, in seconds since the epoch
    :param now: the time, in seconds since the epoch
    """
    # A row that is submitted again is not one without a video yet.
    without_video = [
        state for state in rows.having("failed", "refused", "unknown", "timeout") if not rows.is_again(state)
    ]
    reasons = Counter((state.status, state.code or "") for state in without_video)
    left = seconds_left(rows, places)
    return {
        "manifest": manifest,
        "model": model,
        "rows": rows.total,
        "counts": rows.counts(),
        "failed": rows.failed,
        "cost": show_usd(rows.cost),
        "started_at": iso(started_at),
        "at": iso(now),
        "seconds_left": None if left is None else round(left),
        "reasons": [[*reason, count] for reason, count in reasons.most_common(MAX_REASONS)],
        "without_video": [_named(state) for state in without_video[:MAX_ROWS]],
    }


def _named(state: RowState) -> dict[str, Any]:
    return {
        "key": state.key[:MAX_KEY],
        "status": state.status,
        "code": (state.code or "")[:MAX_KEY],
        "error": (state.error or "")[:MAX_ERROR],
        "kirin_task_id": state.kirin_task_id,
    }
