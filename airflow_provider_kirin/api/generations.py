"""Every generation once, from what task instances recorded about it: one view for costs and for the list of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal

from airflow_provider_kirin.api.pricing import billed
from airflow_provider_kirin.api.task_fields import parse_decimal

#: The fields that are kept of a record: all records of a deployment are in memory at once, and they may hold more.
_READ = ("kirin_task_id", "external_task_id", "model", "price_key", "kirin_conn_id", "status", "cost", "error", "files")
#: What a record is about.
About = Literal["submission", "end", "files"]
#: Records of one generation are read in this order.
_ORDER: dict[About, int] = {"submission": 0, "end": 1, "files": 2}


@dataclass(frozen=True)
class Generation:
    """One generation, its cost, and the task that submitted it.

    :param kirin_task_id: the Kirin task id
    :param dag: the DAG id
    :param run: the DAG run id
    :param task: the task id
    :param at: when its end was recorded; until then, when it was submitted
    :param model: the model's id; empty if not recorded
    :param conn_id: the Airflow connection id; None if not recorded
    :param cost: US dollars; None if not known
    :param ended: whether its end is on record
    :param map_index: of the task; -1 if it is not mapped
    :param external_task_id: its external task id; empty if not recorded
    :param status: ``completed`` or ``failed``, once its end is on record; until then ``in_progress``
    :param code: the error's code, if it failed
    :param files: URIs of its videos, as they were stored last
    """

    kirin_task_id: str
    dag: str
    run: str
    task: str
    at: datetime
    model: str = ""
    conn_id: str | None = None
    cost: Decimal | None = None
    ended: bool = False
    map_index: int = -1
    external_task_id: str = ""
    status: str = "in_progress"
    code: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """What one task instance recorded about generations.

    :param dag: the DAG id
    :param run: the DAG run id
    :param task: the task id
    :param at: when it was written; an entry's own ``at`` takes precedence
    :param about: what it records of them
    :param value: the stored value: a mapping, or a list of mappings
    :param map_index: of the task
    """

    dag: str
    run: str
    task: str
    at: datetime
    about: About
    value: Any
    map_index: int = -1


def merge_records(records: Iterable[GenerationRecord]) -> list[Generation]:
    """Return every generation once: credited to the task that submitted it, with the cost that was seen at its end.

    :param records: in any order; the submitting task, sensors, and every clear may record the same generation
    """
    found: dict[str, Generation] = {}
    single = (part for record in records for part in _single(record))
    for record in sorted(single, key=lambda part: (_ORDER[part.about], part.at)):
        kirin_task_id = record.value["kirin_task_id"]
        known = found.get(kirin_task_id) or Generation(
            kirin_task_id, record.dag, record.run, record.task, record.at, map_index=record.map_index
        )
        found[kirin_task_id] = _with(known, record)
    return list(found.values())


def _single(record: GenerationRecord) -> Iterator[GenerationRecord]:
    """Yield a record for each generation in it, dated by the entry itself, as the row may have been rewritten since."""
    for entry in record.value if isinstance(record.value, list) else [record.value]:
        if isinstance(entry, Mapping) and isinstance(entry.get("kirin_task_id"), str):
            value = {field: entry[field] for field in _READ if field in entry}
            yield replace(record, at=_time(entry.get("at")) or record.at, value=value)


def _with(known: Generation, record: GenerationRecord) -> Generation:
    entry = record.value
    if record.about == "files":
        files = entry.get("files")
        uris = tuple(uri for uri in files if isinstance(uri, str)) if isinstance(files, list) else ()
        return replace(known, files=uris or known.files)
    model, conn_id = _text(entry.get("model")), _text(entry.get("kirin_conn_id"))
    if record.about == "submission":
        # A price key starts with the model.
        return replace(
            known,
            model=known.model or _text(entry.get("price_key")).partition("/")[0],
            conn_id=known.conn_id or conn_id or None,
            external_task_id=known.external_task_id or _text(entry.get("external_task_id")),
        )
    status, error = _text(entry.get("status")), entry.get("error")
    cost = billed(parse_decimal(entry.get("cost")), status)
    return replace(
        known,
        model=model or known.model,
        cost=known.cost if cost is None else cost,
        # If several tasks recorded the same end, the first record dates it.
        at=known.at if known.ended else record.at,
        ended=True,
        status=status or known.status,
        code=_text(error.get("code")) if isinstance(error, Mapping) and status == "failed" else known.code,
    )


def select(
    generations: Iterable[Generation],
    *,
    dag: str | None = None,
    run: str | None = None,
    task: str | None = None,
    status: str | None = None,
    first: date | None = None,
    last: date | None = None,
) -> list[Generation]:
    """Return the generations of a DAG, a run, a task, a status or a period; None means no restriction.

    :param generations: merged from the records of all DAGs, as a DAG other than the submitting one may have recorded
        the end
    :param dag: the DAG id
    :param run: the DAG run id
    :param task: the task id
    :param status: the status
    :param first: the first day, inclusive
    :param last: the last day, inclusive
    """
    return [
        generation
        for generation in generations
        if dag in (None, generation.dag)
        and run in (None, generation.run)
        and task in (None, generation.task)
        and status in (None, generation.status)
        and (first or date.min) <= generation.at.date() <= (last or date.max)
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
