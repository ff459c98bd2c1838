"""Sums of what generations have cost: each generation once, exactly, by whatever a report is grouped by."""

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
#: What is read of a note. It may hold much else, and all notes of a deployment are in memory at once.
_READ = ("kirin_task_id", "model", "price_key", "kirin_conn_id", "status", "cost")


@dataclass(frozen=True)
class GenerationCost:
    """One generation, and who bought it.

    :param kirin_task_id: its id
    :param dag: the DAG's id
    :param run: the run's id
    :param task: the task's id
    :param at: when its end was noted; as long as it has none, when it was bought
    :param model: the model's id, empty where that is not on record
    :param conn_id: the connection, None where that is not on record
    :param cost: US dollars; None where that is not known
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
    """What one task instance left about generations.

    :param dag: the DAG's id
    :param run: the run's id
    :param task: the task's id
    :param at: when it was written; an entry with a time of its own, ``at``, is of that time
    :param bought: it says what was bought, and not how something ended
    :param value: as it was stored: a mapping, or a list of them
    """

    dag: str
    run: str
    task: str
    at: datetime
    bought: bool
    value: Any


def merge_records(records: Iterable[CostRecord]) -> list[GenerationCost]:
    """Return every generation once: bought by whoever submitted it, its cost from whoever saw it end.

    :param records: in any order; a generation may be noted by its buyer, by sensors, and after each clear again
    """
    found: dict[str, GenerationCost] = {}
    single = (one for record in records for one in _single(record))
    for record in sorted(single, key=lambda one: (not one.bought, one.at)):
        kirin_task_id = record.value["kirin_task_id"]
        known = found.get(kirin_task_id) or GenerationCost(
            kirin_task_id, record.dag, record.run, record.task, record.at
        )
        found[kirin_task_id] = _with(known, record)
    return list(found.values())


def _single(record: CostRecord) -> Iterator[CostRecord]:
    """Yield a note for each generation that it speaks of, dated by what that says: a row may be written again."""
    for entry in record.value if isinstance(record.value, list) else [record.value]:
        if isinstance(entry, Mapping) and isinstance(entry.get("kirin_task_id"), str):
            value = {field: entry[field] for field in _READ if field in entry}
            yield replace(record, at=_time(entry.get("at")) or record.at, value=value)


def _with(known: GenerationCost, record: CostRecord) -> GenerationCost:
    entry = record.value
    model, conn_id = _text(entry.get("model")), _text(entry.get("kirin_conn_id"))
    if record.bought:
        # The model stands first in a price key.
        return replace(
            known,
            model=known.model or _text(entry.get("price_key")).partition("/")[0],
            conn_id=known.conn_id or conn_id or None,
        )
    cost = billed(parse_decimal(entry.get("cost")), _text(entry.get("status")))
    # Of several looks at the same end the first one dates it.
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
    """Return the generations that a DAG or a run bought, or that belong to some days; None means all.

    :param spent: generations, merged from the notes of all DAGs: another one than the buyer may have seen the end
    :param dag: the DAG's id
    :param run: the run's id
    :param first: the first day
    :param last: the last day
    """
    return [
        one
        for one in spent
        if dag in (None, one.dag)
        and run in (None, one.run)
        and (first or date.min) <= one.at.date() <= (last or date.max)
    ]


def summarize(spent: Iterable[GenerationCost], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row a group, sorted: its fields, and how many generations, US dollars (text), unknown costs.

    :param spent: generations
    :param by: some of :data:`FIELDS`
    """
    groups: dict[tuple[str, ...], list[GenerationCost]] = {}
    for one in spent:
        groups.setdefault(tuple(_value(one, field) for field in by), []).append(one)
    return [dict(zip(by, key, strict=True)) | total(groups[key]) for key in sorted(groups)]


def total(spent: Sequence[GenerationCost]) -> dict[str, Any]:
    """Return how many generations, US dollars (text), and how many whose cost is not known.

    :param spent: generations
    """
    costs = [one.cost for one in spent if one.cost is not None]
    return {
        "generations": len(spent),
        "usd": show_usd(sum(costs, Decimal(0))),
        "unknown": len(spent) - len(costs),
    }


def _value(one: GenerationCost, field: str) -> str:
    return one.at.date().isoformat() if field == "day" else str(getattr(one, field))
