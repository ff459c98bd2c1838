"""Record why a step has no video, and what its failed generations cost."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinError,
    KirinTaskFailedError,
)
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from airflow_provider_kirin.state.usage import record_outcomes

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def record_failure(error: KirinError, context: Context, hook: KirinHook, *, model: str) -> None:
    """Record why there is no video, and what the failed generations cost."""
    record_outcomes(context, [error], kirin_conn_id=hook.kirin_conn_id, model=model)
    add_cost_of_failures(error, hook, SubmissionRecord(context))


def add_cost_of_failures(error: KirinError, hook: KirinHook, record: SubmissionRecord) -> None:
    """Append the cost of the step's failed generations to the last one's error: each retry submits one more."""
    kirin_task = error.kirin_task if isinstance(error, KirinAPIError) else None
    if not isinstance(error, KirinTaskFailedError) and kirin_task is None:
        return
    failed_costs: Mapping[str, Any] = record.failed_costs
    if kirin_task is not None:
        failed_costs = {
            **(record.find_submission(kirin_task.id).get("failed_costs") or {}),
            kirin_task.id: show_usd(billed_cost(kirin_task) or Decimal(0)),
        }
    costs = [parse_decimal(cost) or Decimal(0) for cost in failed_costs.values()]
    if total := sum(costs, Decimal(0)):
        which = "generation of this step that" if len(costs) == 1 else f"{len(costs)} generations of this step that"
        summary = f"The {which} failed cost {show_usd(total)} USD{' in total' if len(costs) > 1 else ''}."
        hook.log.warning(summary)
        error.append(summary)
