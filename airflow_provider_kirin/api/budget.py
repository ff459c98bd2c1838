"""Check one more generation against a DAG run's budget, given the costs that its tasks have recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.pricing import Estimate, as_usd, billed, show_usd
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.exceptions import KirinBudgetError

_REMEDY = (
    "Raise max_cost_usd, or use a cheaper payload (duration, mode); generations that were already submitted stay usable"
)
_BATCH_REMEDY = "Raise max_cost_usd to continue with the rest"
_NOTHING = "Nothing was submitted, nothing was spent."


def parse_budget(value: Any) -> Decimal:
    """Return ``max_cost_usd`` as an amount.

    :param value: the argument, or the result of its template
    :raises KirinBudgetError: it is not an amount
    """
    try:
        return as_usd(value, "max_cost_usd = ")
    except ValueError as error:
        raise KirinBudgetError(f"{error}. {_NOTHING}") from None


@dataclass(frozen=True)
class Charge:
    """What one generation, submitted or about to be, counts against the budget of a DAG run.

    :param external_task_id: its external task id
    :param kirin_task_id: its Kirin task id; None while it is being submitted, or if the response was not recorded
    :param price_key: what :func:`~airflow_provider_kirin.api.pricing.price_key` returned; empty if not recorded
    :param estimate: the estimated cost in US dollars
    :param cost: the actual cost in US dollars; None until it is known
    """

    external_task_id: str
    kirin_task_id: str | None = None
    price_key: str = ""
    estimate: Decimal | None = None
    cost: Decimal | None = None

    def amount(self, fallback: Decimal) -> Decimal:
        """Return the amount to count: the cost if known, else the estimate, else the fallback.

        :param fallback: US dollars to count if neither is known
        """
        known = self.estimate if self.cost is None else self.cost
        return fallback if known is None else known


@dataclass(frozen=True)
class BatchRow:
    """A row of a batch that is about to be submitted, while others may have been.

    :param key: the row
    :param spent: US dollars that the batch counts for its other rows, with those in flight
    """

    key: str
    spent: Decimal


def read_charges(records: Iterable[Any], usage: Iterable[Any]) -> list[Charge]:
    """Return the charges of a DAG run, one for each generation, from the XComs of its tasks.

    :param records: mappings with ``external_task_id`` and maybe ``kirin_task_id``, ``price_key``, ``usd``; several may
        describe the same generation. ``failed_costs`` maps the ids of failed generations to their costs.
    :param usage: mappings with ``kirin_task_id``, ``status`` and ``cost``, of generations that have ended
    """
    costs = {
        entry["kirin_task_id"]: billed(parse_decimal(entry.get("cost")), str(entry.get("status")))
        for entry in _mappings(usage)
        if isinstance(entry.get("kirin_task_id"), str)
    }
    found: dict[str, Charge] = {}
    failed: dict[str, Any] = {}
    for record in _mappings(records):
        failed |= record["failed_costs"] if isinstance(record.get("failed_costs"), Mapping) else {}
        external_task_id, kirin_task_id, key = (
            record.get("external_task_id"),
            record.get("kirin_task_id"),
            record.get("price_key"),
        )
        if not isinstance(external_task_id, str):
            continue
        known = found.get(external_task_id, Charge(external_task_id))
        found[external_task_id] = Charge(
            external_task_id,
            kirin_task_id=kirin_task_id if isinstance(kirin_task_id, str) else known.kirin_task_id,
            price_key=key if isinstance(key, str) else known.price_key,
            estimate=known.estimate if record.get("usd") is None else parse_decimal(record["usd"]),
        )
    costs |= {kirin_task_id: parse_decimal(cost) for kirin_task_id, cost in failed.items()}
    # Before Airflow 3.3 this is the only trace of a generation that an earlier try submitted.
    recorded = {charge.kirin_task_id for charge in found.values()}
    unrecorded = [Charge(task_id, kirin_task_id=task_id) for task_id in failed if task_id not in recorded]
    return [replace(charge, cost=costs.get(charge.kirin_task_id or "")) for charge in [*found.values(), *unrecorded]]


def _mappings(entries: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in entries if isinstance(entry, Mapping))


def estimate_from_history(charges: Iterable[Charge], price_key: str) -> Estimate | None:
    """Return an estimate from what such a generation cost before: the highest cost, if they differ.

    :param charges: those of this run and of earlier ones
    :param price_key: the price key of the generation to estimate
    """
    costs = [charge.cost for charge in charges if charge.price_key == price_key and charge.cost]
    return Estimate(max(costs), "what such a generation cost before") if costs else None


def over_budget(
    budget: Decimal,
    estimate: Estimate,
    others: Iterable[Charge],
    *,
    external_task_id: str,
    row: BatchRow | None = None,
) -> KirinBudgetError | None:
    """Return the error if one more generation would exceed the budget, None if it may be submitted.

    Money that other tasks have reserved counts as spent, so that two tasks cannot spend the same money. If the budget
    is exceeded only because of such reservations, the error is retryable.

    :param budget: US dollars for the whole DAG run
    :param estimate: the expected cost of this generation
    :param others: the charges of the run; one for this generation itself is ignored
    :param external_task_id: this generation's external task id
    :param row: the row of a batch that it is for
    """
    others = [charge for charge in others if charge.external_task_id != external_task_id]
    spent = sum((charge.amount(estimate.usd) for charge in others), Decimal(0))
    if spent + estimate.usd <= budget:
        return None
    pending = [charge for charge in others if charge.kirin_task_id is None]
    held = sum((charge.amount(estimate.usd) for charge in pending), Decimal(0))
    would_cost = f"would cost {show_usd(estimate.usd)} USD (according to {estimate.source})"
    text = f"max_cost_usd = {show_usd(budget)}: "
    if row is None:
        estimated = [charge for charge in others if charge.kirin_task_id and charge.cost is None]
        text += (
            f"this DAG run has spent {show_usd(spent)} USD{_details(others, estimated)}, and this generation "
            f"{would_cost}. {_NOTHING} "
        )
    else:
        text += f"{_of_batch(row, spent)}, and row {row.key} {would_cost}. {_left_out(row.key)} "
    waits = spent - held + estimate.usd <= budget
    if waits:
        text += f"{show_usd(held)} USD of it are reserved for other tasks' submissions in progress; try again."
    return KirinBudgetError(
        text if waits else f"{text}{_REMEDY if row is None else _BATCH_REMEDY}.",
        budget=show_usd(budget),
        spent=show_usd(spent),
        estimate=show_usd(estimate.usd),
        source=estimate.source,
        retryable=waits,
    )


def _details(others: list[Charge], estimated: list[Charge]) -> str:
    if not others:
        return ""
    count = f"{len(others)} generation{'s' if len(others) != 1 else ''}"
    return f" ({count}, {len(estimated)} of which at an estimated cost)" if estimated else f" ({count})"


def _left_out(row: str) -> str:
    return f"Row {row} was not submitted, and costs nothing; the videos of rows submitted before are stored."


def _of_batch(row: BatchRow, spent: Decimal) -> str:
    """Return what a batch has spent, and other tasks of its DAG run."""
    others = f", other tasks of the DAG run {show_usd(spent - row.spent)} USD" if spent > row.spent else ""
    return f"this batch has spent {show_usd(row.spent)} USD, with what is in flight{others}"


def no_estimate(
    budget: Decimal, price_key: str, why: str, *, retryable: bool, row: str | None = None
) -> KirinBudgetError:
    """Return the error for a generation whose cost cannot be estimated.

    :param budget: US dollars
    :param price_key: the price key of the generation
    :param why: why the gateway gave no price
    :param retryable: whether it may give one later
    :param row: the key of the row of a batch that it is for
    """
    return KirinBudgetError(
        f"max_cost_usd = {show_usd(budget)} cannot be enforced: the cost of {price_key} is unknown; {why}, and no "
        f"such generation of this task has ended before. {_NOTHING if row is None else _left_out(row)} Add "
        f'its price to the Kirin connection\'s extra, for example {{"prices": {{"{price_key}": "0.50"}}}}, or remove '
        "max_cost_usd.",
        budget=show_usd(budget),
        retryable=retryable,
    )
