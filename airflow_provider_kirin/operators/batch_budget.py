"""The budget of a DAG run, for a batch: one reservation for all of its rows.

As for a single generation, a reservation is written before those of other tasks are read, so that of two tasks at least
one sees the other. A batch writes and reads once for several rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.budget import BatchRow, Charge, over_budget
from airflow_provider_kirin.api.pricing import Estimate, price_key, show_usd
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.operators.run_budget import BudgetedClient, find_estimate

if TYPE_CHECKING:
    from airflow_provider_kirin.api.batch.record import RowRecord
    from airflow_provider_kirin.api.batch.rows import Rows
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.submission import GenerationClient
    from airflow_provider_kirin.hooks.kirin import KirinHook

#: Rows that one reservation covers.
_ROWS_AT_ONCE = 10


class BatchBudget:
    """What a batch may still spend.

    :param limit: US dollars for the whole DAG run
    :param batch: the batch's identity, under which it reserves
    :param hook: looks up prices
    :param push: replaces what the batch has reserved, for other tasks to see
    :param others: returns what the other tasks of the run have spent or reserved, or of earlier runs too
    """

    def __init__(
        self,
        limit: Decimal,
        batch: str,
        hook: KirinHook,
        *,
        push: Callable[[list[dict[str, Any]]], None],
        others: Callable[..., Iterable[Charge]],
    ) -> None:
        self._limit = limit
        self._batch = batch
        self._hook = hook
        self._push = push
        self._read_others = others
        self._lock = threading.Lock()
        self._spent = Decimal(0)
        #: External task id -> the estimate of a generation whose cost is not known yet; None if it is not on record.
        self._open: dict[str, Decimal | None] = {}
        self._reserved = Decimal(0)
        self._others: list[Charge] = []
        self._estimates: dict[str, Estimate] = {}

    def begin(self, rows: Rows) -> None:
        """Take over what is on record about the rows, and reserve it: Airflow deletes the XCom when a try begins."""
        states = rows.states.values()
        self._spent = sum((state.money for state in states), Decimal(0))
        self._open = {
            str(state.external_task_id): parse_decimal(state.usd)
            for state in states
            if state.external_task_id and state.cost is None and state.status not in ("todo", "failed", "refused")
        }
        self._reserve(self._total(Decimal(0)))

    def client(self, client: GenerationClient, prepared: PreparedPayload, record: RowRecord) -> GenerationClient:
        """Return a client that reserves the cost of a submission before it sends it."""

        def reserve(external_task_id: str) -> None:
            record.usd = show_usd(self.reserve(record.state.key, external_task_id, prepared))

        return BudgetedClient(client, reserve, self.withdraw)

    def reserve(self, key: str, external_task_id: str, prepared: PreparedPayload) -> Decimal:
        """Reserve the cost of one generation of a row, and return its estimate.

        :raises KirinBudgetError: the budget does not cover it; nothing stays reserved
        """
        with self._lock:
            estimate = self._find_estimate(prepared, key)
            self._open[external_task_id] = estimate.usd
            total = self._total(estimate.usd)
            if total > self._reserved:
                self._reserve(min(total + (_ROWS_AT_ONCE - 1) * estimate.usd, max(total, self._limit)))
                self._others = list(self._read_others())
            row = BatchRow(key, spent=total - estimate.usd)
            own = Charge(self._batch, kirin_task_id=self._batch, cost=row.spent)
            error = over_budget(self._limit, estimate, [*self._others, own], external_task_id=external_task_id, row=row)
            if error is not None:
                del self._open[external_task_id]
                raise error
            return estimate.usd

    def withdraw(self, external_task_id: str) -> None:
        """Release the reservation of a submission that was rejected."""
        with self._lock:
            self._open.pop(external_task_id, None)

    def _total(self, fallback: Decimal) -> Decimal:
        held = (fallback if usd is None else usd for usd in self._open.values())
        return self._spent + sum(held, Decimal(0))

    def _reserve(self, total: Decimal) -> None:
        self._reserved = total
        self._push([{"external_task_id": self._batch, "usd": show_usd(total)}])

    def _find_estimate(self, prepared: PreparedPayload, row: str) -> Estimate:
        key = price_key(prepared.model, prepared.params)
        if key not in self._estimates:
            estimate = find_estimate(
                self._hook, prepared, self._limit, lambda: self._read_others(include_prior_dates=True), row=row
            )
            self._hook.log.info(
                "Estimated cost of a generation (%s): %s USD, according to %s; max_cost_usd = %s for the DAG run.",
                key,
                show_usd(estimate.usd),
                estimate.source,
                show_usd(self._limit),
            )
            self._estimates[key] = estimate
        return self._estimates[key]
