"""The operator that submits a generation, or adopts the one that an earlier try submitted."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_kirin.api.capacity import DEFAULT_CAPACITY_TIMEOUT, CapacityWait
from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.payload import FitImages, check_fit_images, check_static
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.exceptions import KirinCapacityError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.lineage import OpenLineageMixin
from airflow_provider_kirin.links.kirin import KirinGenerationLink
from airflow_provider_kirin.operators.arguments import TemplatedArguments, check_budget, one_of
from airflow_provider_kirin.operators.payload_templates import extract_inline_images, is_dynamic, reject_inline_images
from airflow_provider_kirin.operators.specs import CallbackSpec, SubmitSpec
from airflow_provider_kirin.utils.deferral import as_seconds, deferrable_default
from airflow_provider_kirin.utils.retry_defaults import RetriedByDefault
from airflow_provider_kirin.utils.task_errors import fail_without_retry
from airflow_provider_kirin.utils.task_instance import require_task_instance

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload.paths import FieldPath
    from airflow_provider_kirin.api.record import InFlight
    from airflow_provider_kirin.api.submission_errors import OnUnknownSubmit
    from airflow_provider_kirin.operators.submission import SubmitResult

#: The reasons in the capacity trigger's event, for the log.
_WOKEN_BECAUSE = {
    "end": "a generation of this account has ended",
    "time": "it is time to ask again",
    "deadline": "the wait is over",
}


class KirinSubmitOperator(TemplatedArguments, OpenLineageMixin, RetriedByDefault):
    """Start a Kirin generation and return its task id, for :class:`.KirinTaskSensor` to wait for.

    Static parts of the payload are validated when the DAG is parsed, the rest after rendering, and everything before
    anything is sent. Bytes and Base64 images never show in the rendered templates.

    :param payload: the model's parameters (templated): ``prompt``, ``mode``, ``duration``...; images as URL, path,
        storage URI, bytes or Base64. ``airflow kirin models`` lists the models and their parameters.
    :param model: the model's id (templated)
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param external_task_id: your own id for this generation, unique within the account (templated). None derives one
        that is the same on every try of this step, so that no try pays for what another one submitted.
    :param fit_images: what to do with an image that breaks a limit of the model: ``"error"``, or ``"auto"`` to scale,
        pad and re-encode it until it fits
    :param take: increase it for a new, paid take of the same payload in the same run (templated)
    :param on_unknown_submit: what to do if a submission may have been accepted and the gateway's lookup is not proven
        to work: ``"stop"`` with an error that names the id, or ``"resubmit"`` and possibly pay twice
    :param allow_unknown_model: whether to submit to a model that this provider does not know, parameters unchecked, and
        to send parameters that look like a misspelling of a known one
    :param max_cost_usd: the budget of the DAG run, in US dollars (templated): refuse to submit if the run's Kirin
        tasks would exceed it, including this one. None for no budget.
    :param deferrable: whether to wait in the triggerer for a place in a full account; the default is yes, unless
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` in the environment says no
    :param capacity_timeout: seconds (or a timedelta) to wait for a place in a full account, in one try; 0 leaves it to
        the task's retries
    :param callback: ``"auto"`` for a callback of the gateway that ends the wait, of this task or of a
        :class:`.KirinTaskSensor` in the same run; needs Airflow 3.1 and the connection's extra ``callback_base_url``
    :param callback_asset: an asset that gets an event as soon as the gateway has called back and the video is there,
        without any task that waits
    :raises KirinPayloadError: when the DAG is parsed, with every problem that is known by then
    """

    template_fields: Sequence[str] = ("payload", "model", "kirin_conn_id", "external_task_id", "take", "max_cost_usd")
    checked_fields = template_fields
    template_fields_renderers = {"payload": "json"}  # noqa: RUF012 - as Airflow's own operators declare it
    operator_extra_links: Sequence[Any] = (KirinGenerationLink(),)
    ui_color = "#ece3fb"

    def __init__(
        self,
        *,
        payload: Any,
        model: str = DEFAULT_MODEL,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        external_task_id: str | None = None,
        fit_images: FitImages = "error",
        take: int | str = 1,
        on_unknown_submit: OnUnknownSubmit = "stop",
        allow_unknown_model: bool = False,
        max_cost_usd: float | str | Decimal | None = None,
        deferrable: bool | None = None,
        capacity_timeout: float | timedelta = DEFAULT_CAPACITY_TIMEOUT,
        callback: Literal["auto"] | None = None,
        callback_asset: Asset | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not (callback_asset is None or isinstance(callback_asset, Asset)):
            raise ValueError(f"callback_asset = {short_repr(callback_asset)} must be an Asset.")
        # On the worker a mapped operator is created again from rendered values, which execute() validates: an error
        # raised here would be retried.
        if not is_unmapped_copy(self):
            check_static(payload, model, is_dynamic=is_dynamic, allow_unknown_model=allow_unknown_model)
            check_budget(max_cost_usd)
        self.payload = payload
        self.model = model
        self.kirin_conn_id = kirin_conn_id
        self.external_task_id = external_task_id
        self.fit_images: FitImages = check_fit_images(fit_images)
        self.take = take
        self.on_unknown_submit: OnUnknownSubmit = one_of(on_unknown_submit, "on_unknown_submit", "stop", "resubmit")
        self.allow_unknown_model = allow_unknown_model
        self.max_cost_usd = max_cost_usd
        self.deferrable = deferrable_default() if deferrable is None else deferrable
        self.capacity_timeout = as_seconds(capacity_timeout, "capacity_timeout")
        self._waiting: CapacityWait | None = None
        self.callback = one_of(callback, "callback", "auto", None)
        self.callback_asset = callback_asset
        self._in_flight: InFlight | None = None
        self._kirin_task_id: str | None = None
        self._images: dict[FieldPath, Any] = {}
        self._hide_images()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Validate the fixed arguments of a mapped task as for any other task."""
        if "payload" in kwargs:
            model = kwargs.get("model", DEFAULT_MODEL)
            # A model that is missing here may come from expand() or from default_args.
            if "model" in kwargs:
                allowed = bool(kwargs.get("allow_unknown_model", False))
                check_static(kwargs["payload"], model, is_dynamic=is_dynamic, allow_unknown_model=allowed)
            reject_inline_images(kwargs["payload"], model)
        return super().partial(**kwargs)

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render the fields, then hide images and signed URLs that came from a template or an XCom."""
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self:
            self._hide_images()

    def execute(self, context: Context) -> str:
        """Submit, and return the Kirin task id."""
        require_task_instance(context)
        with fail_without_retry():
            return self._submit(context).kirin_task.id

    def resume_submission(self, context: Context, event: dict[str, Any]) -> Any:
        """Execute again when there may be a place in the account, which was full: nothing was submitted.

        :param context: the running task's context
        :param event: the payload of the trigger's event
        """
        from airflow_provider_kirin.triggers.capacity import resumed_wait

        self._waiting = resumed_wait(event, try_number=context["ti"].try_number)
        if self._waiting:
            self.log.info(
                "Waited %.0f s for a place; refusals so far: %s. Submitting again, as %s.",
                time.time() - self._waiting.since,
                self._waiting.refusals,
                _WOKEN_BECAUSE[event["reason"]],
            )
        # Unwrapped: Airflow 2.11 refuses a call of execute() from another method.
        return inspect.unwrap(type(self).execute)(self, context)

    def _submit(self, context: Context) -> SubmitResult:
        """Submit or adopt the generation, and keep what OpenLineage and ``on_kill`` need."""
        from airflow_provider_kirin.api.record import InFlight
        from airflow_provider_kirin.operators import submission

        self._in_flight = InFlight()
        spec = self._submit_spec()
        try:
            result = submission.submit(spec, context, self._in_flight)
        except KirinCapacityError as error:
            if not (spec.waiting and error.retryable):
                raise
            self._wait_for_place(context, spec.waiting, error)
        self._kirin_task_id = result.kirin_task.id
        self._provenance = result.provenance
        if result.error:
            raise result.error
        return result

    def _submit_spec(self) -> SubmitSpec:
        """Describe the submission; a subclass may add to it."""
        return SubmitSpec(
            payload=self.payload,
            model=self.model,
            kirin_conn_id=self.kirin_conn_id,
            external_task_id=self.external_task_id,
            fit_images=self.fit_images,
            take=self.take,
            on_unknown_submit=self.on_unknown_submit,
            allow_unknown_model=self.allow_unknown_model,
            max_cost_usd=self.max_cost_usd,
            hidden=self._images,
            problems=self._empty_values(),
            rendering=self._rendering,
            capacity_timeout=self.capacity_timeout,
            waiting=(self._waiting or self._new_wait()) if self.deferrable and self.capacity_timeout else None,
            callback=self._callback_spec(),
        )

    def _new_wait(self) -> CapacityWait:
        now = time.time()
        return CapacityWait(since=now, deadline=now + self.capacity_timeout)

    def _wait_for_place(self, context: Context, waiting: CapacityWait, error: KirinCapacityError) -> NoReturn:
        from airflow_provider_kirin.triggers.capacity import deferral_until_place

        self.log.info(
            "Nothing was submitted: the account is full. Waiting for a place, without a worker, for at most %.0f s. %s",
            waiting.deadline - time.time(),
            error,
        )
        deferral = deferral_until_place(
            replace(waiting, refusals=waiting.refusals + 1),
            kirin_conn_id=self.kirin_conn_id,
            try_number=context["ti"].try_number,
            retry_after=error.retry_after,
        )
        self.defer(**deferral)
        raise AssertionError("defer() does not return")

    def _callback_spec(self) -> CallbackSpec | None:
        asset = self.callback_asset
        if asset is None:
            return CallbackSpec() if self.callback else None
        # Airflow 2 has no names of assets, nor callbacks.
        return CallbackSpec(asset=(getattr(asset, "name", asset.uri), asset.uri))

    def _hide_images(self) -> None:
        self.payload, found = extract_inline_images(self.payload)
        # A new mapping: Airflow runs copies of the operator, which would share a mutated one.
        self._images = {**self._images, **found}

    def on_kill(self) -> None:
        """Log what continues at Kirin: the API documents no way to cancel a generation."""
        in_flight = self._in_flight.external_task_id if self._in_flight else None
        if self._kirin_task_id:
            self.log.warning(
                "Kirin generation %s may continue and be billed: it cannot be cancelled. The next try of this task, or "
                "KirinTaskSensor with this id, picks it up.",
                self._kirin_task_id,
            )
        elif in_flight:
            self.log.warning(
                "A generation with the external task id %s may have been accepted and be billed. The next try of "
                "this task looks it up before submitting.",
                in_flight,
            )
