"""Operator runtime, imported inside `execute()` to keep DAG parsing fast."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.idempotency import make_external_task_id
from airflow_provider_kirin.api.pricing import billed_cost, price_key, show_usd
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS
from airflow_provider_kirin.api.submission import GenerationClient, Submission, Submitted
from airflow_provider_kirin.api.task import parse_decimal
from airflow_provider_kirin.download.destination import Destination, fetch_finished, save_videos
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinBudgetError,
    KirinConfigError,
    KirinError,
    KirinIdError,
    KirinNotFoundError,
    KirinPayloadError,
    KirinTaskFailedError,
)
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.lineage import Provenance, add_asset_events, inputs_of
from airflow_provider_kirin.metrics import report_outcome, report_submission
from airflow_provider_kirin.operators.generation_client import HookClient
from airflow_provider_kirin.operators.run_budget import BudgetedClient, RunBudget, parse_budget
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from airflow_provider_kirin.state.usage import record_outcomes
from airflow_provider_kirin.triggers.events import Outcome, load_event
from airflow_provider_kirin.utils.hook_lineage import report_lineage
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.operators.kirin import (
        KirinDownloadOperator,
        KirinGenerateVideoOperator,
        KirinSubmitOperator,
    )


def check_destination(operator: KirinGenerateVideoOperator, context: Context) -> None:
    """Check the destination, if the operator has one, before anything is submitted."""
    if (destination := _destination_of(operator, context)) is not None:
        destination.check()


def _destination_of(operator: KirinGenerateVideoOperator, context: Context) -> Destination | None:
    """Return the destination; None if it was left out, but not if it rendered to nothing."""
    if operator.destination is None and not operator.empty_arguments("destination"):
        return None
    return Destination.of(operator, context)


def ends_from_trigger(operator: KirinGenerateVideoOperator, context: Context) -> bool:
    """Return whether the triggerer may end the task; decided before anything is submitted.

    :raises AirflowFailException: the operator insists, the triggerer cannot, and nothing has been submitted yet
    """
    try:
        return operator._ends_from_trigger()
    except ValueError as error:
        # A mapped task cannot be checked when the DAG is parsed, and the worker's configuration may differ.
        if not SubmissionRecord(context).describe_earlier_submission():
            raise AirflowFailException(f"{error} Nothing was sent, nothing was spent.") from error
        operator.log.warning(
            "%s An earlier try has submitted, or may have, so this try continues. Falling back to completing the task "
            "on a worker.",
            error,
        )
        return False


def submit(operator: KirinSubmitOperator, context: Context) -> KirinTask:
    """Submit the step's generation, or adopt the one that an earlier try submitted."""
    with closing(KirinHook(operator.kirin_conn_id)) as hook:
        try:
            # Everything that can fail free of charge comes first: rendering, images, rules, the connection.
            operator._reject_payload()
            operator.refuse_empty_arguments(model=operator.model)
            given = operator.external_task_id
            user_id = {} if given is None or given == "" else {("external_task_id",): given}
            prepared = hook.prepare(
                operator.payload,
                model=operator.model,
                replacing=operator._images | user_id,
                fit_images=operator.fit_images,
                allow_unknown_model=operator.allow_unknown_model,
            )
        except KirinPayloadError as error:
            submitted, images = _adopt_without_payload(operator, context, hook, operator.explain_native_types(error))
        else:
            submitted, images = _submit_or_adopt(operator, context, hook, prepared)
    kirin_task = replace(submitted.kirin_task, external_task_id=submitted.external_task_id)
    operator._kirin_task_id = kirin_task.id
    operator._provenance = Provenance(kirin_task.id, inputs=images)
    if submitted.adopted and not operator._payload_identifies_step:
        operator.log.info("The function's return value is not used: this step already has its generation.")
    if kirin_task.status == "failed" and (failed := error_from_task(kirin_task)):
        _report(operator, context, failed)
        _add_cost_of_failures(operator, context, failed)
        raise failed
    return kirin_task


def _submit_or_adopt(
    operator: KirinSubmitOperator, context: Context, hook: KirinHook, prepared: PreparedPayload
) -> tuple[Submitted, Sequence[str]]:
    """Submit or adopt the generation of a payload; return it with the URIs of its images."""
    _connect(hook)
    hook.refuse_key(prepared)
    is_user_id = "external_task_id" in prepared.params
    external_task_id = prepared.params.get("external_task_id") or _make_external_task_id(
        operator, context, hook, operator._fingerprint(prepared)
    )
    operator.log.info("Kirin, %s, external task id %s: %s", prepared.model, external_task_id, prepared.describe())
    record = SubmissionRecord(
        context,
        {"kirin_conn_id": operator.kirin_conn_id, "price_key": price_key(prepared.model, prepared.params)},
        inputs=(inputs := inputs_of(prepared)),
        inputs_known=operator._payload_identifies_step and not is_user_id,
        model="" if is_user_id else prepared.model,
    )
    client = _client(operator, context, record, hook, prepared)
    submission = operator._submission = _submission(
        operator, client, record, external_task_id, is_user_id=is_user_id, model=prepared.model
    )
    try:
        submitted = submission.submit_or_adopt()
    except KirinError as error:
        _add_cost_of_failures(operator, context, error, record.failed_costs)
        report_outcome(error, ti=context["ti"], kirin_conn_id=operator.kirin_conn_id, model=prepared.model)
        raise
    if record.submitted_in_this_try(submitted.external_task_id):
        report_submission(ti=context["ti"], kirin_conn_id=operator.kirin_conn_id, model=prepared.model)
    return submitted, inputs["images"]


def _connect(hook: KirinHook) -> None:
    """Look up the connection, retrying for 15 s: Airflow reports "not found" also if a secrets backend is down."""
    for delay in LOOKUP_RETRY_DELAYS:
        try:
            _ = hook.connection
        except KirinConfigError as error:
            if not error.retryable:
                raise
            hook.log.warning("Connection lookup failed; retrying in %s s: %s", delay, error)
            time.sleep(delay)
        else:
            return
    _ = hook.connection


def _adopt_without_payload(
    operator: KirinSubmitOperator, context: Context, hook: KirinHook, error: KirinPayloadError
) -> tuple[Submitted, Sequence[str]]:
    """Return the generation that an earlier try submitted, which needs no payload; raise the error if there is none.

    If the payload is part of the external task id, only a submission on record from this round of tries can be found.
    """
    record = SubmissionRecord(context, {"kirin_conn_id": operator.kirin_conn_id}, inputs_known=False)
    user_id = _user_id(operator)
    external_task_id = user_id
    if user_id or not operator._payload_identifies_step:
        _connect(hook)
        external_task_id = user_id or _make_external_task_id(operator, context, hook, operator._fingerprint(None))
    try:
        submitted = _submission(
            operator, HookClient(hook, None), record, external_task_id, is_user_id=bool(user_id)
        ).find_existing()
    except KirinIdError:
        # The rejected payload value is the id itself.
        raise error from None
    if submitted is None:
        raise KirinPayloadError(
            error.problems, model=error.model, earlier=record.describe_earlier_submission()
        ) from None
    operator.log.warning("This try's payload is not needed, and could not be sent. %s", error)
    return submitted, record.inputs_of(submitted.external_task_id).get("images") or ()


def _submission(
    operator: KirinSubmitOperator,
    client: GenerationClient,
    record: SubmissionRecord,
    external_task_id: str,
    *,
    is_user_id: bool,
    model: str = "",
) -> Submission:
    return Submission(
        client,
        record,
        external_task_id=external_task_id,
        is_user_id=is_user_id,
        model=model,
        on_unknown_submit=operator.on_unknown_submit,
        conn_id=operator.kirin_conn_id,
        log=operator.log,
    )


def _user_id(operator: KirinSubmitOperator) -> str:
    """Return the user's own external task id: the operator's, or else the payload's."""
    may_be_in_payload = operator._payload_identifies_step and isinstance(operator.payload, Mapping)
    payload = operator.payload if may_be_in_payload else {}
    candidates = [operator.external_task_id, payload.get("external_task_id")]
    return next((str(user_id) for user_id in candidates if user_id is not None and user_id != ""), "")


def wait(operator: KirinGenerateVideoOperator, context: Context, kirin_task: KirinTask) -> dict[str, Any]:
    """Wait on the worker, and return the task's result."""
    outcome: Outcome
    try:
        with closing(KirinHook(operator.kirin_conn_id)) as hook:
            outcome = hook.wait(
                kirin_task.id, timeout=operator.timeout, poll_interval=operator.poll_interval, is_kirin_id=True
            )
    except KirinError as error:
        outcome = error
    return _after_wait(operator, context, outcome)


def resume_after_wait(operator: KirinGenerateVideoOperator, context: Context, event: Any) -> dict[str, Any]:
    """Resume after a deferral, and return the task's result.

    :param operator: a new instance of the operator that deferred
    :param context: the running task's context
    :param event: the payload of the trigger's event
    """
    (outcome,) = load_event(event, expected=1)
    return _after_wait(operator, context, outcome)


def download(operator: KirinDownloadOperator, context: Context) -> list[str]:
    """Download the videos of a finished generation, and return the files' URIs."""
    with closing(KirinHook(operator.kirin_conn_id)) as hook:
        remedy = "Wait for it with KirinTaskSensor before this task."
        asked_for = validate_task_id(operator.kirin_task_id)
        kirin_task = fetch_finished(hook, asked_for, remedy=remedy)
        submitters = list(_upstream_submitters(operator, context["ti"].map_index))
        submission: Mapping[str, Any] = (
            SubmissionRecord(context).find_submission(kirin_task.id, submitters) if submitters else {}
        )
        # The gateway's responses do not repeat it. An id other than the Kirin task id is the external task id.
        external_task_id = asked_for if asked_for != kirin_task.id else submission.get("external_task_id")
        files = save_videos(
            hook, replace(kirin_task, external_task_id=external_task_id), Destination.of(operator, context)
        )
    operator._provenance = Provenance.of(kirin_task, files, submission)
    add_asset_events(context, operator.outlets, operator._provenance, operator.log)
    operator._result = files
    return files


def _upstream_submitters(operator: KirinDownloadOperator, map_index: int | None) -> Iterator[tuple[str, int]]:
    """Yield id and map index of the direct upstream tasks that submit generations."""
    from airflow_provider_kirin.operators.kirin import KirinSubmitOperator

    for task in operator.upstream_list:
        # A mapped operator has its class as an attribute; a task mapped over a mapped one shares its map index.
        mapped_class = getattr(task, "operator_class", None)
        if isinstance(mapped_class or type(task), type) and issubclass(mapped_class or type(task), KirinSubmitOperator):
            is_mapped = mapped_class is not None or task.get_closest_mapped_task_group() is not None
            yield task.task_id, map_index if is_mapped and map_index is not None else -1


def _after_wait(operator: KirinGenerateVideoOperator, context: Context, outcome: Outcome) -> dict[str, Any]:
    """Return the task's result, or raise the reason for having no video, wherever the wait took place."""
    _report(operator, context, outcome)
    try:
        if isinstance(outcome, KirinError):
            _add_cost_of_failures(operator, context, outcome)
            raise outcome
        return _finish(operator, context, outcome)
    except KirinNotFoundError as error:
        # This step submitted it: the lookup may lag, and the next try has the id on record.
        error.retryable = True
        raise


def _finish(operator: KirinGenerateVideoOperator, context: Context, kirin_task: KirinTask) -> dict[str, Any]:
    submission = SubmissionRecord(context).find_submission(kirin_task.id)
    # The gateway's responses do not repeat it.
    kirin_task = replace(kirin_task, external_task_id=submission.get("external_task_id"))
    operator.log.info(kirin_task.describe_end())
    files: list[str] = []
    with closing(KirinHook(operator.kirin_conn_id)) as hook:
        if operator._submission is None:
            # The images were read before the deferral, in a process that is gone.
            report_lineage(hook, inputs=submission.get("images") or ())
        if (destination := _destination_of(operator, context)) is not None:
            # Links expire, and the task may have been queued for a long time since the trigger received them.
            fresh = fetch_finished(
                hook, kirin_task.id, remedy="It was reported as finished before: the gateway lags.", is_kirin_id=True
            )
            kirin_task = replace(fresh, external_task_id=kirin_task.external_task_id)
            files = save_videos(hook, kirin_task, destination)
    operator._provenance = Provenance.of(kirin_task, files, submission)
    add_asset_events(context, operator.outlets, operator._provenance, operator.log)
    operator._result = kirin_task.to_dict() | ({} if destination is None else {"files": files})
    return operator._result


def _client(
    operator: KirinSubmitOperator,
    context: Context,
    record: SubmissionRecord,
    hook: KirinHook,
    prepared: PreparedPayload,
) -> GenerationClient:
    if empty := operator.empty_arguments("max_cost_usd"):
        raise KirinBudgetError(f"{empty[0]} Nothing was submitted by this try.")
    if operator.max_cost_usd is None:
        return HookClient(hook, prepared)
    budget = RunBudget(parse_budget(operator.max_cost_usd), context, record, hook, prepared)
    budget.restore()
    return BudgetedClient(hook, prepared, budget)


def _make_external_task_id(operator: KirinSubmitOperator, context: Context, hook: KirinHook, fingerprint: str) -> str:
    ti = context["ti"]
    return make_external_task_id(
        conn_id=operator.kirin_conn_id,
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=map_index_of(ti),
        take=operator.take,
        payload=fingerprint,
        namespace=hook.connection.namespace,
    )


def _report(operator: KirinSubmitOperator, context: Context, outcome: Outcome) -> None:
    """Record the generation's outcome and cost."""
    record_outcomes(context, [outcome], kirin_conn_id=operator.kirin_conn_id, model=operator.model)


def _add_cost_of_failures(
    operator: KirinSubmitOperator, context: Context, error: KirinError, failed_costs: Mapping[str, Any] | None = None
) -> None:
    """Append the cost of the step's failed generations to the last one's error: each retry submits one more."""
    kirin_task = error.kirin_task if isinstance(error, KirinAPIError) else None
    if not isinstance(error, KirinTaskFailedError) and kirin_task is None:
        return
    if kirin_task is not None:
        failed_costs = {
            **(SubmissionRecord(context).find_submission(kirin_task.id).get("failed_costs") or {}),
            kirin_task.id: show_usd(billed_cost(kirin_task) or Decimal(0)),
        }
    costs = [parse_decimal(cost) or Decimal(0) for cost in (failed_costs or {}).values()]
    if total := sum(costs, Decimal(0)):
        which = "generation of this step that" if len(costs) == 1 else f"{len(costs)} generations of this step that"
        summary = f"The {which} failed cost {show_usd(total)} USD{' in total' if len(costs) > 1 else ''}."
        operator.log.warning(summary)
        error.message = f"{error.message} {summary}"
        error.args = (error.message,)
