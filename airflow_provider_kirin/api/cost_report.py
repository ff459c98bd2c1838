"""Cost reports: the exact cost of generations, grouped by DAG, run, task, model or day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.generations import Generation
from airflow_provider_kirin.api.pricing import show_usd

#: What a report can be grouped by.
FIELDS = ("dag", "run", "task", "model", "day")


def summarize(generations: Iterable[Generation], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per group, sorted: the group's fields followed by its :func:`total`.

    :param generations: what to sum
    :param by: the :data:`FIELDS` to group by
    """
    groups: dict[tuple[str, ...], list[Generation]] = {}
    for generation in generations:
        groups.setdefault(tuple(_value(generation, field) for field in by), []).append(generation)
    return [dict(zip(by, key, strict=True)) | total(groups[key]) for key in sorted(groups)]


def total(generations: Sequence[Generation]) -> dict[str, Any]:
    """Return the number of generations, their cost in US dollars (a string), and the number of unknown costs.

    :param generations: what to sum
    """
    costs = [generation.cost for generation in generations if generation.cost is not None]
    return {
        "generations": len(generations),
        "usd": show_usd(sum(costs, Decimal(0))),
        "unknown": len(generations) - len(costs),
    }


def _value(generation: Generation, field: str) -> str:
    return generation.at.date().isoformat() if field == "day" else str(getattr(generation, field))
