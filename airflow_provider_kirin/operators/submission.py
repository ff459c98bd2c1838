"""Submit a step's generation. Imported inside ``execute()``, to keep DAG parsing fast.

Each step of a run is a function that takes a frozen description (:mod:`.specs`) and returns what it made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.capacity import CapacityWait, no_place
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.idempotency import payload_fingerprint
from airflow_provider_kirin.api.pricing import price_key
from airflow_provider_kirin.api.record import InFlight
from airflow_provider_kirin.api.submission import GenerationClient, Submission, Submitted
from airflow_provider_kirin.exceptions import (
    KirinCapacityError,
    KirinError,
    KirinIdError,
    KirinPayloadError,
)
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.lineage import Provenance, inputs_of
from airflow_provider_kirin.metrics import report_outcome, report_submission
from airflow_provider_kirin.operators.callback import MakeUrl, url_maker
from airflow_provider_kirin.operators.failures import add_cost_of_failures, record_failure
from airflow_provider_kirin.operators.generation_client import HookClient, connect
from airflow_provider_kirin.operators.run_budget import BudgetedClient, RunBudget, budget_limit
from airflow_provider_kirin.state.order import order_of
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from airflow_provider_kirin.utils.hook_lineage import report_lineage
from airflow_provider_kirin.utils.task_instance import identity_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.operators.specs import SubmitSpec


@dataclass(frozen=True)
class SubmitResult:
    """The generation that a step submitted or adopted.

    :param kirin_task: the generation, with the external task id it was submitted under
    :param provenance: what it is made from
    :param error: why there will be no video, if it has failed already
    :param has_callback: whether this task run asked the gateway to call back
    """

    kirin_task: KirinTask
    provenance: Provenance
    error: KirinError | None = None
    has_callback: bool = False


def may_have_submitted(context: Context) -> bool:
    """Return whether an earlier try of this task has submitted a generation, or may have."""
    return bool(SubmissionRecord(context).describe_earlier_submission())


def submit(spec: SubmitSpec, context: Context, in_flight: InFlight) -> SubmitResult:
    """Submit the step's generation, or adopt the one that an earlier try submitted.

    :param spec: what to submit
    :param context: the running task's context
    :param in_flight: kept up to date with what is in progress, for ``on_kill``
    :raises KirinError: there is no generation, or none that can be found now
    """
    with closing(KirinHook(spec.kirin_conn_id)) as hook:
        try:
            prepared = _prepare(spec, hook)
        except KirinPayloadError as error:
            has_callback = False
            submitted, images = _adopt_without_payload(spec, context, hook, spec.rendering.explain_native_types(error))
        else:
            submitted, images, has_callback = _submit_or_adopt(spec, context, hook, prepared, in_flight)
        kirin_task = submitted.kirin_task
        if submitted.adopted and not spec.payload_identifies_step:
            hook.log.info("The function's return value is not used: this step already has its generation.")
        failed = error_from_task(kirin_task) if kirin_task.status == "failed" else None
        if failed:
            record_failure(failed, context, hook, model=spec.model)
    return SubmitResult(kirin_task, Provenance(kirin_task.id, inputs=images), failed, has_callback)


def _prepare(spec: SubmitSpec, hook: KirinHook) -> PreparedPayload:
    """Do everything that can fail free of charge first: rendering, images, rules."""
    if spec.problems:
        raise KirinPayloadError(list(spec.problems), model=spec.model)
    given = spec.external_task_id
    user_id = {} if given is None or given == "" else {("external_task_id",): given}
    return hook.prepare(
        spec.payload,
        model=spec.model,
        replacing={**spec.hidden, **user_id},
        fit_images=spec.fit_images,
        allow_unknown_model=spec.allow_unknown_model,
    )


def _submit_or_adopt(
    spec: SubmitSpec, context: Context, hook: KirinHook, prepared: PreparedPayload, in_flight: InFlight
) -> tuple[Submitted, Sequence[str], bool]:
    """Submit or adopt the generation of a payload; return it with the URIs of its images, and :attr:`.has_callback`."""
    connect(hook)
    hook.refuse_key(prepared)
    ti = context["ti"]
    is_user_id = "external_task_id" in prepared.params
    external_task_id = prepared.params.get("external_task_id") or _make_external_task_id(
        spec, ti, hook, spec.arguments_fingerprint or payload_fingerprint(prepared)
    )
    hook.log.info("Kirin, %s, external task id %s: %s", prepared.model, external_task_id, prepared.describe())
    record = SubmissionRecord(
        context,
        {"kirin_conn_id": spec.kirin_conn_id, "price_key": price_key(prepared.model, prepared.params)},
        inputs=(inputs := inputs_of(prepared)) | {"order": order_of(prepared)},
        inputs_known=spec.payload_identifies_step and not is_user_id,
        model="" if is_user_id else prepared.model,
    )
    make_callback_url = url_maker(
        spec.callback,
        ti=ti,
        kirin_conn_id=spec.kirin_conn_id,
        connection=hook.connection,
        model=prepared.model,
        params=prepared.params,
        log=hook.log,
    )
    submission = Submission(
        _client(spec, context, record, hook, prepared, make_callback_url),
        record,
        external_task_id=external_task_id,
        is_user_id=is_user_id,
        model=prepared.model,
        on_unknown_submit=spec.on_unknown_submit,
        conn_id=spec.kirin_conn_id,
        in_flight=in_flight,
        capacity_patience=0.0 if spec.waiting else spec.capacity_timeout,
        log=hook.log,
    )
    try:
        submitted = _submit_before_deadline(submission, spec.waiting)
    except KirinError as error:
        # A wait that continues elsewhere is not a failure.
        if not (spec.waiting and isinstance(error, KirinCapacityError) and error.retryable):
            add_cost_of_failures(error, hook, record)
            report_outcome(error, ti=ti, kirin_conn_id=spec.kirin_conn_id, model=prepared.model)
        raise
    if record.submitted_in_this_try(submitted.external_task_id):
        report_submission(ti=ti, kirin_conn_id=spec.kirin_conn_id, model=prepared.model)
    # An earlier try may have submitted without a callback, or received it already.
    return submitted, inputs["images"], make_callback_url is not None and not submitted.adopted


def _submit_before_deadline(submission: Submission, waiting: CapacityWait | None) -> Submitted:
    """Submit or adopt; a full account ends a wait for a place whose time is up, and only then."""
    try:
        return submission.submit_or_adopt()
    except KirinCapacityError as error:
        if waiting and (now := time.time()) >= waiting.deadline:
            raise no_place(error, now - waiting.since) from error
        raise


def _adopt_without_payload(
    spec: SubmitSpec, context: Context, hook: KirinHook, error: KirinPayloadError
) -> tuple[Submitted, Sequence[str]]:
    """Return the generation that an earlier try submitted, which needs no payload; raise the error if there is none.

    If the payload is part of the external task id, only a submission on record from this round of tries can be found.
    """
    record = SubmissionRecord(context, {"kirin_conn_id": spec.kirin_conn_id}, inputs_known=False)
    external_task_id = spec.user_id
    if external_task_id or spec.arguments_fingerprint:
        connect(hook)
    if not external_task_id and spec.arguments_fingerprint:
        external_task_id = _make_external_task_id(spec, context["ti"], hook, spec.arguments_fingerprint)
    submission = Submission(
        HookClient(hook, None),
        record,
        external_task_id=external_task_id,
        is_user_id=bool(spec.user_id),
        on_unknown_submit=spec.on_unknown_submit,
        conn_id=spec.kirin_conn_id,
        log=hook.log,
    )
    try:
        submitted = submission.find_existing()
    except KirinIdError:
        # The rejected payload value is the id itself.
        raise error from None
    if submitted is None:
        raise KirinPayloadError(
            error.problems, model=error.model, earlier=record.describe_earlier_submission()
        ) from None
    hook.log.warning("This try's payload is not needed, and could not be sent. %s", error)
    images = record.inputs_of(submitted.external_task_id).get("images") or ()
    # An earlier try read them.
    report_lineage(hook, inputs=images)
    return submitted, images


def _client(
    spec: SubmitSpec,
    context: Context,
    record: SubmissionRecord,
    hook: KirinHook,
    prepared: PreparedPayload,
    make_callback_url: MakeUrl | None,
) -> GenerationClient:
    limit = budget_limit(spec.max_cost_usd, spec.rendering)
    client = HookClient(hook, prepared, make_callback_url)
    if limit is None:
        return client
    budget = RunBudget(limit, context, record, hook, prepared)
    budget.restore()
    return BudgetedClient(client, budget.reserve, budget.withdraw)


def _make_external_task_id(spec: SubmitSpec, ti: Any, hook: KirinHook, fingerprint: str) -> str:
    identity = identity_of(ti, conn_id=spec.kirin_conn_id, take=spec.take, namespace=hook.connection.namespace)
    return identity.external_task_id(fingerprint)
