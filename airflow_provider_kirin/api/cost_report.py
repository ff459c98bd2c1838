"""Cost reports: the exact cost of every generation, counted once and grouped by DAG, run, task, model or day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.pricing import billed, show_usd
from airflow_provider_kirin.api.task import parse_decimal

#: What a report can be grouped by.
FIELDS = ("dag", "run", "task", "model", "day")
#: The fields that are kept of a record: all records of a deployment are in memory at once, and they may hold more.
_READ = ("kirin_task_id", "model", "price_key", "kirin_conn_id", "status", "cost")


@dataclass(frozen=True)
class GenerationCost:
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


@dataclass(frozen=True, slots=True)
class CostRecord:
    """What one task instance recorded about generations.

    :param dag: the DAG id
    :param run: the DAG run id
    :param task: the task id
    :param at: when it was written; an entry's own ``at`` takes precedence
    :param is_submission: whether it records a submission; otherwise it records the end of a generation
    :param value: the stored value: a mapping, or a list of mappings
    """

    dag: str
    run: str
    task: str
    at: datetime
    is_submission: bool
    value: Any


def merge_records(records: Iterable[CostRecord]) -> list[GenerationCost]:
    """Return every generation once: credited to the task that submitted it, with the cost that was seen at its end.

    :param records: in any order; the submitting task, sensors, and every clear may record the same generation
    """
    found: dict[str, GenerationCost] = {}
    single = (part for record in records for part in _single(record))
    for record in sorted(single, key=lambda part: (not part.is_submission, part.at)):
        kirin_task_id = record.value["kirin_task_id"]
        known = found.get(kirin_task_id) or GenerationCost(
            kirin_task_id, record.dag, record.run, record.task, record.at
        )
        found[kirin_task_id] = _with(known, record)
    return list(found.values())


def _single(record: CostRecord) -> Iterator[CostRecord]:
    """Yield a record for each generation in it, dated by the entry itself, as the row may have been rewritten since."""
    for entry in record.value if isinstance(record.value, list) else [record.value]:
        if isinstance(entry, Mapping) and isinstance(entry.get("kirin_task_id"), str):
            value = {field: entry[field] for field in _READ if field in entry}
            yield replace(record, at=_time(entry.get("at")) or record.at, value=value)


def _with(known: GenerationCost, record: CostRecord) -> GenerationCost:
    entry = record.value
    model, conn_id = _text(entry.get("model")), _text(entry.get("kirin_conn_id"))
    if record.is_submission:
        # A price key starts with the model.
        return replace(
            known,
            model=known.model or _text(entry.get("price_key")).partition("/")[0],
            conn_id=known.conn_id or conn_id or None,
        )
    cost = billed(parse_decimal(entry.get("cost")), _text(entry.get("status")))
    # If several tasks recorded the same end, the first record dates it.
    at = known.at if known.ended else record.at
    return replace(known, model=model or known.model, cost=known.cost if cost is None else cost, at=at, ended=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(_text(value)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def select(
    spent: Iterable[GenerationCost],
    *,
    dag: str | None = None,
    run: str | None = None,
    first: date | None = None,
    last: date | None = None,
) -> list[GenerationCost]:
    """Return the generations of a DAG, a run, or a period; None means no restriction.

    :param spent: merged from the records of all DAGs, as a DAG other than the submitting one may have recorded the end
    :param dag: the DAG id
    :param run: the DAG run id
    :param first: the first day, inclusive
    :param last: the last day, inclusive
    """
    return [
        generation
        for generation in spent
        if dag in (None, generation.dag)
        and run in (None, generation.run)
        and (first or date.min) <= generation.at.date() <= (last or date.max)
    ]


def summarize(spent: Iterable[GenerationCost], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per group, sorted: the group's fields followed by its :func:`total`.

    :param spent: generations
    :param by: the :data:`FIELDS` to group by
    """
    groups: dict[tuple[str, ...], list[GenerationCost]] = {}
    for generation in spent:
        groups.setdefault(tuple(_value(generation, field) for field in by), []).append(generation)
    return [dict(zip(by, key, strict=True)) | total(groups[key]) for key in sorted(groups)]


def total(spent: Sequence[GenerationCost]) -> dict[str, Any]:
    """Return the number of generations, their cost in US dollars (a string), and the number of unknown costs.

    :param spent: generations
    """
    costs = [generation.cost for generation in spent if generation.cost is not None]
    return {
        "generations": len(spent),
        "usd": show_usd(sum(costs, Decimal(0))),
        "unknown": len(spent) - len(costs),
    }


def _value(generation: GenerationCost, field: str) -> str:
    return generation.at.date().isoformat() if field == "day" else str(getattr(generation, field))
