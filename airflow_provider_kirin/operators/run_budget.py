"""The budget of a DAG run, checked before each submission: write the reservation first, then sum all of them.

Of two tasks that submit at the same time at least one reads what the other wrote, so together they cannot exceed the
budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.budget import (
    Charge,
    estimate_from_history,
    no_estimate,
    over_budget,
    parse_budget,
    read_charges,
)
from airflow_provider_kirin.api.pricing import Estimate, billed_cost, estimate_cost, price_key, show_usd
from airflow_provider_kirin.api.retry import SubmissionOutcome, classify_submission_error
from airflow_provider_kirin.exceptions import KirinBudgetError, KirinError
from airflow_provider_kirin.state.keys import BUDGET_KEY, SUBMISSION_KEY, USAGE_KEY
from airflow_provider_kirin.state.submission_record import SubmissionRecord

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.submission import GenerationClient
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.kirin import KirinHook
    from airflow_provider_kirin.operators.arguments import Rendering

#: At most this many unfinished generations are looked up before a submission is refused.
_MAX_LOOKUPS = 100


def kirin_task_ids(context: Context) -> list[str]:
    """Return the ids of all Kirin tasks of a DAG.

    :param context: the running task's context
    """
    fields: Mapping[str, Any] = context
    # All Kirin operators and sensors, mapped or not, have a template field of this name.
    tasks = [task for task in fields["dag"].tasks if "kirin_conn_id" in (task.template_fields or ())]
    return sorted({fields["ti"].task_id, *(task.task_id for task in tasks)})


def charges_of_run(ti: Any, task_ids: Sequence[str], *more: Mapping[str, Any], **how: Any) -> list[Charge]:
    """Return what the Kirin tasks of a run have spent or reserved.

    :param ti: reads the XComs
    :param task_ids: what :func:`kirin_task_ids` returned
    :param more: further records
    :param how: arguments of ``xcom_pull``
    """

    def pull(key: str) -> Iterator[Any]:
        # An XCom may be one record or a list of them.
        pulled = ti.xcom_pull(task_ids=task_ids, key=key, **how)
        for entry in pulled if isinstance(pulled, Iterable) else []:
            yield from entry if isinstance(entry, list) else [entry]

    return list(read_charges([*pull(BUDGET_KEY), *pull(SUBMISSION_KEY), *more], pull(USAGE_KEY)))


def budget_limit(max_cost_usd: Any, rendering: Rendering) -> Decimal | None:
    """Return the limit that a rendered ``max_cost_usd`` sets; None if it was left out.

    :param max_cost_usd: the rendered argument
    :param rendering: what rendering made of the operator's arguments
    :raises KirinBudgetError: it rendered to nothing, or is not an amount
    """
    if empty := rendering.empty_arguments("max_cost_usd"):
        raise KirinBudgetError(f"{empty[0]} Nothing was submitted by this try.")
    return None if max_cost_usd is None else parse_budget(max_cost_usd)


def find_estimate(
    hook: KirinHook,
    prepared: PreparedPayload,
    limit: Decimal,
    history: Callable[[], Iterable[Charge]],
    *,
    row: str | None = None,
) -> Estimate:
    """Return what a generation will probably cost: by the price preview, the connection's prices, or earlier ones.

    :param hook: asks for the price
    :param prepared: the payload
    :param limit: the budget, for the error
    :param history: returns what earlier generations cost, if that is needed
    :param row: the key of the row of a batch that it is for
    :raises KirinBudgetError: its price is not known
    """
    key = price_key(prepared.model, prepared.params)
    usd, why, retryable = _ask_for_price(hook, prepared)
    estimate = estimate_cost(usd, hook.connection.prices, key) or estimate_from_history(history(), key)
    if estimate is None:
        raise no_estimate(limit, key, why, retryable=retryable, row=row)
    return estimate


def _ask_for_price(hook: KirinHook, prepared: PreparedPayload) -> tuple[Decimal | None, str, bool]:
    try:
        return *hook.precharge(prepared), False
    except KirinError as error:
        # The preview cannot start a generation, so its failure leaves no submission unresolved.
        hook.log.warning("The gateway's price preview failed: %s", error)
        return None, f"the gateway's price preview failed: {error}", error.retryable


class RunBudget:
    """One task instance's view of the budget of its DAG run.

    :param limit: US dollars for the whole run
    :param context: the running task's context
    :param record: what earlier tries submitted
    :param hook: looks up prices and generations
    :param prepared: the payload to be submitted
    """

    def __init__(
        self, limit: Decimal, context: Context, record: SubmissionRecord, hook: KirinHook, prepared: PreparedPayload
    ) -> None:
        fields: Mapping[str, Any] = context
        self._limit = limit
        self._ti = fields["ti"]
        self._task_ids = kirin_task_ids(context)
        self._store = fields.get("task_state_store")
        self._record = record
        self._hook = hook
        self._prepared = prepared
        self._key = price_key(prepared.model, prepared.params)
        self._held: dict[str, dict[str, Any]] = {}
        #: What was held before the latest reservation: an earlier submission under the same id may be unresolved.
        self._before: dict[str, dict[str, Any]] = {}
        self._estimate: Estimate | None = None

    def restore(self) -> None:
        """Push again what earlier tries and takes of this task hold: Airflow deleted the XCom when the try began."""
        stored = self._store.get(BUDGET_KEY) if self._store is not None else None
        for entry in stored if isinstance(stored, list) else []:
            external_task_id = entry.get("external_task_id") if isinstance(entry, dict) else None
            if isinstance(external_task_id, str):
                self._held[external_task_id] = {**entry, "kirin_task_id": self._record.kirin_task_id(external_task_id)}
        if self._held:
            self._write()

    def reserve(self, external_task_id: str) -> None:
        """Reserve the cost of one generation, immediately before it is submitted.

        :param external_task_id: the generation's external task id
        :raises KirinBudgetError: the budget does not cover it; nothing stays reserved
        """
        estimate = self._find_estimate()
        self._before = {external_task_id: self._held[external_task_id]} if external_task_id in self._held else {}
        self._held[external_task_id] = {
            "external_task_id": external_task_id,
            "usd": show_usd(estimate.usd),
            "price_key": self._key,
        }
        self._write()
        charges = list(self._charges())
        error = over_budget(self._limit, estimate, charges, external_task_id=external_task_id)
        if error:
            # Failed generations cost nothing, and finished ones may have cost less than estimated.
            error = over_budget(
                self._limit, estimate, list(self._with_current_costs(charges)), external_task_id=external_task_id
            )
        if error:
            self.withdraw(external_task_id)
            raise error
        self._hook.log.info(
            "Estimated cost of this generation: %s USD (according to %s); max_cost_usd = %s for the DAG run.",
            show_usd(estimate.usd),
            estimate.source,
            show_usd(self._limit),
        )

    def withdraw(self, external_task_id: str) -> None:
        """Release the reservation of a submission that was rejected."""
        del self._held[external_task_id]
        self._held |= self._before
        self._write()

    def _write(self) -> None:
        entries = list(self._held.values())
        if self._store is not None:
            self._store.set(BUDGET_KEY, entries)
        self._ti.xcom_push(BUDGET_KEY, entries)

    def _charges(self, **how: Any) -> Iterator[Charge]:
        # The cost of this step's failed generations is in its XCom only once it has submitted another one.
        failed = {"failed_costs": self._record.failed_costs}
        yield from charges_of_run(self._ti, self._task_ids, failed, **how)

    def _with_current_costs(self, charges: Iterable[Charge]) -> Iterator[Charge]:
        """Look up generations whose cost is not on record, as far as the limit allows."""
        lookups_left = _MAX_LOOKUPS
        for charge in charges:
            if charge.kirin_task_id is None or charge.cost is not None or not lookups_left:
                yield charge
                continue
            lookups_left -= 1
            try:
                kirin_task = self._hook.get_task(charge.kirin_task_id, patience=0)
            except KirinError:
                yield charge
            else:
                yield replace(charge, cost=billed_cost(kirin_task))

    def _find_estimate(self) -> Estimate:
        if self._estimate is None:
            self._estimate = find_estimate(self._hook, self._prepared, self._limit, self._history)
        return self._estimate

    def _history(self) -> list[Charge]:
        # This run may have prices on record already; earlier runs have more.
        return [*self._charges(), *self._charges(include_prior_dates=True)]


class BudgetedClient:
    """A client that reserves the cost of each submission before sending it.

    :param client: sends it
    :param reserve: reserves the cost under an external task id; raises KirinBudgetError if the budget does not cover it
    :param withdraw: releases that again
    """

    def __init__(
        self, client: GenerationClient, reserve: Callable[[str], object], withdraw: Callable[[str], object]
    ) -> None:
        self._client = client
        self._reserve = reserve
        self._withdraw = withdraw

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        """Look up a generation.

        :param kirin_task_id: a Kirin task id or an external task id
        :param patience: seconds for which retryable errors are retried
        """
        return self._client.get_task(kirin_task_id, patience=patience)

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Submit the payload under an external task id if the budget covers it. Costs money.

        :raises KirinBudgetError: the budget does not cover it; nothing was sent
        """
        self._reserve(external_task_id)
        try:
            return self._client.submit_as(external_task_id)
        except KirinError as error:
            if classify_submission_error(error) is SubmissionOutcome.REJECTED:
                self._withdraw(external_task_id)
            raise
