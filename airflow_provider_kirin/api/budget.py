"""Whether a DAG run may buy one more generation: what it has spent, from the notes of its tasks, against its budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.pricing import Estimate, billed, show_usd
from airflow_provider_kirin.api.task import parse_decimal
from airflow_provider_kirin.exceptions import KirinBudgetError

_REMEDY = (
    "Raise max_cost_usd, or give a cheaper payload (duration, mode); what was bought already can be used all the same"
)


@dataclass(frozen=True)
class Purchase:
    """One generation that a DAG run has bought, or holds money for.

    :param external_task_id: its name
    :param kirin_task_id: its id; None where its submission is on its way, or its answer is not on record
    :param price_key: what its price hangs on, empty where that is not on record
    :param estimate: what it was expected to cost, US dollars
    :param cost: what it did cost, US dollars; None until that is known
    """

    external_task_id: str
    kirin_task_id: str | None = None
    price_key: str = ""
    estimate: Decimal | None = None
    cost: Decimal | None = None

    def counts(self, fallback: Decimal) -> Decimal:
        """Return what it counts for: its cost, else its estimate, else a guess.

        :param fallback: the guess
        """
        known = self.estimate if self.cost is None else self.cost
        return fallback if known is None else known


def read_purchases(records: Iterable[Any], usage: Iterable[Any]) -> list[Purchase]:
    """Return what a DAG run bought, each generation once, from what its tasks left in XComs.

    :param records: mappings with ``external_task_id`` and maybe ``kirin_task_id``, ``price_key``, ``usd``; several may
        speak of the same generation. ``failed_costs`` maps the ids of generations that failed to what they cost.
    :param usage: mappings with ``kirin_task_id``, ``status`` and ``cost``, of generations that have ended
    """
    costs = {
        one["kirin_task_id"]: billed(parse_decimal(one.get("cost")), str(one.get("status")))
        for one in _mappings(usage)
        if isinstance(one.get("kirin_task_id"), str)
    }
    found: dict[str, Purchase] = {}
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
        known = found.get(external_task_id, Purchase(external_task_id))
        found[external_task_id] = Purchase(
            external_task_id,
            kirin_task_id=kirin_task_id if isinstance(kirin_task_id, str) else known.kirin_task_id,
            price_key=key if isinstance(key, str) else known.price_key,
            estimate=known.estimate if record.get("usd") is None else parse_decimal(record["usd"]),
        )
    costs |= {kirin_task_id: parse_decimal(cost) for kirin_task_id, cost in failed.items()}
    # Before Airflow 3.3 nothing else says that a generation was bought by an earlier try.
    noted = {one.kirin_task_id for one in found.values()}
    forgotten = [Purchase(one, kirin_task_id=one) for one in failed if one not in noted]
    return [replace(one, cost=costs.get(one.kirin_task_id or "")) for one in [*found.values(), *forgotten]]


def _mappings(entries: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in entries if isinstance(entry, Mapping))


def estimate_from_history(purchases: Iterable[Purchase], price_key: str) -> Estimate | None:
    """Return what such a generation cost before: the most, where it was not always the same.

    :param purchases: of this run, and of earlier ones
    :param price_key: what is bought now
    """
    costs = [one.cost for one in purchases if one.price_key == price_key and one.cost]
    return Estimate(max(costs), "what such a generation cost before") if costs else None


def over_budget(
    budget: Decimal, estimate: Estimate, others: Iterable[Purchase], *, external_task_id: str
) -> KirinBudgetError | None:
    """Return the error where one more generation would exceed the budget, None where it may be bought.

    What others hold money for counts as spent, so that no two tasks spend the same money; where that alone tips the
    scales, the error may be retried.

    :param budget: US dollars for the whole DAG run
    :param estimate: what this generation would cost
    :param others: what the run bought; an entry of this generation's own is left out
    :param external_task_id: this generation's external task id
    """
    others = [one for one in others if one.external_task_id != external_task_id]
    spent = sum((one.counts(estimate.usd) for one in others), Decimal(0))
    if spent + estimate.usd <= budget:
        return None
    pending = [one for one in others if one.kirin_task_id is None]
    held = sum((one.counts(estimate.usd) for one in pending), Decimal(0))
    open_ones = [one for one in others if one.kirin_task_id and one.cost is None]
    text = (
        f"max_cost_usd = {show_usd(budget)}: this DAG run has spent {show_usd(spent)} USD"
        f"{_details(others, open_ones)}, and this generation would cost {show_usd(estimate.usd)} USD (says "
        f"{estimate.source}). Nothing was submitted, nothing was spent. "
    )
    waits = spent - held + estimate.usd <= budget
    if waits:
        text += f"{show_usd(held)} USD of it are held for submissions of other tasks that are under way; try again."
    return KirinBudgetError(
        text if waits else f"{text}{_REMEDY}.",
        budget=show_usd(budget),
        spent=show_usd(spent),
        estimate=show_usd(estimate.usd),
        source=estimate.source,
        retryable=waits,
    )


def _details(others: list[Purchase], open_ones: list[Purchase]) -> str:
    if not others:
        return ""
    count = f"{len(others)} generation{'s' if len(others) != 1 else ''}"
    return f" ({count}, {len(open_ones)} of which count by an estimate)" if open_ones else f" ({count})"


def no_estimate(budget: Decimal, price_key: str, why: str, *, retryable: bool) -> KirinBudgetError:
    """Return the error for a generation of which nobody can say what it costs.

    :param budget: US dollars
    :param price_key: what its price hangs on
    :param why: what the gateway said
    :param retryable: whether it may say more another time
    """
    return KirinBudgetError(
        f"max_cost_usd = {show_usd(budget)} cannot be kept: nobody says what {price_key} costs; {why}, and no such "
        "generation of this task has ended before. Nothing was submitted, nothing was spent. Put its price into the "
        f'Kirin connection\'s extra, {{"prices": {{"{price_key}": "0.50"}}}} for example, or leave max_cost_usd out.',
        budget=show_usd(budget),
        retryable=retryable,
    )
