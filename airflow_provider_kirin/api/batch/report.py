"""What a batch reports: its progress, its summary, its costs, and the error of one that ended without all videos."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import SCHEMA_VERSION, RowState
from airflow_provider_kirin.api.generations import About
from airflow_provider_kirin.api.pricing import show_usd
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.exceptions import KirinBatchError

#: What an error says about a row that nothing went wrong with: it was only left behind.
_WITHOUT_ERROR = "it was, or may have been, submitted; another try looks it up"
#: How many rows an error names.
_MAX_NAMED = 10


def progress_line(rows: Rows, places: int) -> str:
    """Return the line that a log gets once a wave: what is done, in flight and failed, the cost, and the time left.

    :param rows: the states
    :param places: how many generations may be in flight
    """
    parts = [
        f"{rows.count('saved'):,} of {rows.total:,} done",
        f"{rows.in_flight:,} in flight",
        f"{rows.failed:,} failed",
    ]
    if stored := rows.count("done"):
        parts.append(f"{stored:,} to download")
    parts.append(f"{show_usd(rows.cost)} USD")
    if (seconds := seconds_left(rows, places)) is not None:
        minutes = math.ceil(seconds / 60)
        parts.append(f"about {minutes} min left" if minutes < 120 else f"about {seconds / 3600:.1f} h left")
    return ", ".join(parts)


def seconds_left(rows: Rows, places: int) -> float | None:
    """Return roughly how long the batch will take; None if nothing is left, or nothing has ended yet.

    :param rows: the states
    :param places: how many generations may be in flight
    """
    took = [state.seconds for state in rows.states.values() if state.seconds and state.status in ("done", "saved")]
    if not took or not (rows.left or rows.in_flight):
        return None
    mean = sum(took) / len(took)
    # Those in flight are half done, on average.
    return mean * max((rows.left + rows.in_flight / 2) / max(places, 1), 0.5)


def failure(
    rows: Rows,
    *,
    max_failed_rows: float,
    refused_count: bool,
    manifest: str,
    why: str = "",
    remedy: str = "Clear the task",
) -> KirinBatchError | None:
    """Return the error of a batch that has ended; None if it is a success.

    :param rows: the states
    :param max_failed_rows: how many rows may have no video: a number, or a share of all
    :param refused_count: whether rows that broke a rule count
    :param manifest: the URI of the manifest
    :param why: why rows were left out, if they were
    :param remedy: what submits the rest
    """
    unsaved = [state for state in rows.states.values() if state.status not in ("saved", "todo", "gone")]
    counted = [state for state in unsaved if refused_count or state.status != "refused"]
    missing = max(rows.total - rows.count("saved") - len(unsaved), 0)
    allowed = max_failed_rows if isinstance(max_failed_rows, int) else math.floor(max_failed_rows * rows.total)
    if len(counted) + missing <= allowed and not why:
        return None
    reasons = Counter(f"{state.status} ({state.code})" if state.code else state.status for state in counted)
    by_reason = [f"{count:,} {reason}" for reason, count in reasons.most_common()]
    if missing:
        by_reason.append(f"{missing:,} not submitted")
    named = "".join(
        f"\n  - {state.key}: {state.status}: {state.error or _WITHOUT_ERROR}" for state in counted[:_MAX_NAMED]
    )
    more = f"\n  and {len(counted) - _MAX_NAMED:,} more." if len(counted) > _MAX_NAMED else ""
    skipped = len(unsaved) - len(counted)
    refused = f" {skipped:,} more were refused, which on_bad_row='skip' allows." if skipped else ""
    allows = (f" max_failed_rows allows {allowed:,}." if allowed else "") + refused
    return KirinBatchError(
        f"{len(counted) + missing:,} of {rows.total:,} rows have no video: {', '.join(by_reason) or 'none'}.{allows} "
        f"{why + ' ' if why else ''}The other {rows.count('saved'):,} are saved; see {manifest}. {remedy} to submit "
        f"what is missing, and only that.{named}{more}",
        retryable=any(_may_change(state) for state in counted),
    )


def _may_change(state: RowState) -> bool:
    """Return whether another try, without a clear, can produce the row's video."""
    return state.status in ("done", "timeout", "sent", "intent") or (state.status == "unknown" and state.retryable)


def generation_entries(state: RowState) -> Iterator[tuple[About, dict[str, Any]]]:
    """Yield what a row records about its generations, for ``kirin costs`` and ``kirin list``.

    :param state: the row
    """
    latest = {str(state.external_task_id): {"kirin_task_id": state.kirin_task_id, "cost": state.cost}}
    at = None if state.since is None else iso(state.since + (state.seconds or 0.0))
    for external_task_id, entry in {**latest, **state.earlier}.items():
        kirin_task_id, cost = entry.get("kirin_task_id"), entry.get("cost")
        if not kirin_task_id:
            continue
        common = {"kirin_task_id": kirin_task_id, "at": at}
        ids = {"external_task_id": external_task_id, "kirin_conn_id": state.conn_id}
        yield "submission", {**common, **ids, "price_key": state.model}
        is_latest = kirin_task_id == state.kirin_task_id
        if cost is not None:
            # Of an earlier one only its cost is on record; a generation that failed is refunded.
            has_failed = state.status == "failed" if is_latest else not parse_decimal(cost)
            reason = {"error": {"code": state.code}} if has_failed and is_latest else {}
            status = "failed" if has_failed else "completed"
            yield "end", {**common, "model": state.model, "status": status, "cost": cost, **reason}
        if is_latest and state.files:
            yield "files", {**common, "files": list(state.files)}


def iso(seconds: float) -> str:
    """Return a time in ISO format, in UTC.

    :param seconds: since the epoch
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def summary(rows: Rows, *, manifest: str, folder: str, seconds: float) -> dict[str, Any]:
    """Return what the task returns: a fixed shape, however many rows there are.

    :param rows: the states
    :param manifest: the URI of the manifest
    :param folder: the URI of the folder that it is in
    :param seconds: since the batch began
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "manifest": manifest,
        "folder": folder,
        "rows": rows.total,
        "counts": rows.counts(),
        "cost_usd": show_usd(rows.cost),
        "seconds": round(seconds),
    }
