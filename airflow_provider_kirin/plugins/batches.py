"""What the pages show of a batch, made from the record of where it stands. Pure functions; see :mod:`.records`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, get_args

from airflow_provider_kirin.api.batch.state import Status
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.plugins.media import Root, is_manifest_shown
from airflow_provider_kirin.plugins.records import End, Stored, as_text, first_ends, moment

#: The states of a batch's task that are its end.
_ENDS = {"success": "completed", "failed": "failed", "upstream_failed": "failed", "removed": "failed"}


def batch_card(batch: Stored, task_state: str | None, roots: Sequence[Root]) -> dict[str, Any]:
    """Return what the pages show of a batch, for JSON.

    :param batch: the record of where it stands
    :param task_state: the state of its task instance
    :param roots: where files may be shown from
    """
    value = batch.value
    cost, manifest = parse_decimal(value.get("cost")), as_text(value.get("manifest"))
    counts = value.get("counts")
    known = {name: _number(counts.get(name)) for name in get_args(Status)} if isinstance(counts, Mapping) else {}
    return {
        "kind": "batch",
        "dag_id": batch.dag_id,
        "run_id": batch.run_id,
        "task_id": batch.ti.task_id,
        "map_index": batch.ti.map_index,
        "status": batch_status(task_state),
        "model": as_text(value.get("model")),
        "rows": _number(value.get("rows")),
        "counts": {name: count for name, count in known.items() if count},
        "failed": _number(value.get("failed")),
        "cost": None if cost is None else f"{cost:f}",
        "manifest": {"uri": manifest, "is_home": is_manifest_shown(manifest, roots)},
        "reasons": [
            {"status": as_text(reason[0]), "code": as_text(reason[1]), "count": _number(reason[2])}
            for reason in _list(value.get("reasons"))
            if isinstance(reason, list) and len(reason) == 3
        ],
        "without_video": [
            {name: as_text(row.get(name)) for name in ("key", "status", "code", "error", "kirin_task_id")}
            for row in _list(value.get("without_video"))
            if isinstance(row, Mapping)
        ],
        "started_at": moment(value.get("started_at")),
        "at": moment(value.get("at")) or moment(batch.at),
        "seconds_left": _number(value.get("seconds_left")) or None,
    }


def batch_status(task_state: str | None) -> str:
    """Return the state of a batch in the words of a generation's."""
    return _ENDS.get(task_state or "", "in_progress")


def batch_matches(batch: Stored, task_state: str | None, *, state: str, model: str, text: str) -> bool:
    """Return whether a batch passes the gallery's filters; the text is searched in its manifest's address."""
    value = batch.value
    return (
        state in ("", batch_status(task_state))
        and model in ("", as_text(value.get("model")))
        and text.casefold() in as_text(value.get("manifest")).casefold()
    )


def batch_ends(dag_id: str, value: Mapping[str, Any]) -> Iterator[End]:
    """Yield the sums of a batch: what it has cost and made, and its failures by code.

    :param dag_id: its DAG
    :param value: the record of where it stands
    """
    day, counts = (moment(value.get("at")) or "")[:10], value.get("counts")
    saved = _number(counts.get("saved")) if isinstance(counts, Mapping) else 0
    if day:
        yield End(day, dag_id, parse_decimal(value.get("cost")) or Decimal(0), None, saved)
        for reason in _list(value.get("reasons")):
            if isinstance(reason, list) and len(reason) == 3:
                yield End(day, dag_id, Decimal(0), as_text(reason[1]) or "no code", _number(reason[2]))


def all_ends(records: Iterable[tuple[str, Any]]) -> list[End]:
    """Return the ends of all generations, those in batches as sums.

    :param records: DAG ids and values of the :data:`.USAGE_KEY` and :data:`.BATCH_KEY` XComs
    """
    batches: list[End] = []

    def others() -> Iterator[tuple[str, Any]]:
        for dag_id, value in records:
            if is_batch(value):
                batches.extend(batch_ends(dag_id, value))
            else:
                yield dag_id, value

    return [*first_ends(others()), *batches]


def is_batch(value: Any) -> bool:
    """Return whether this is the record of a batch."""
    return isinstance(value, Mapping) and isinstance(value.get("manifest"), str)


def _number(value: Any) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 10**12 else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
