"""Operators that submit generations, wait for them and download their videos."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_kirin.api.capacity import DEFAULT_CAPACITY_TIMEOUT, CapacityWait
from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.payload import FitImages, check_fit_images, check_static
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.exceptions import KirinCapacityError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.lineage import OpenLineageMixin
from airflow_provider_kirin.links.kirin import KirinGenerationLink, KirinVideoLink
from airflow_provider_kirin.operators.arguments import TemplatedArguments
from airflow_provider_kirin.operators.file_arguments import FileArguments
from airflow_provider_kirin.operators.payload_templates import extract_inline_images, is_dynamic, reject_inline_images
from airflow_provider_kirin.operators.specs import CallbackSpec, DownloadSpec, SubmitSpec, WaitSpec
from airflow_provider_kirin.utils.deferral import DEFAULT_WAIT, as_seconds, deferrable_default
from airflow_provider_kirin.utils.retry_defaults import RetriedByDefault
from airflow_provider_kirin.utils.start_from_trigger import InstanceProperty, decide, why_end_on_worker
from airflow_provider_kirin.utils.task_errors import fail_without_retry
from airflow_provider_kirin.utils.task_instance import require_task_instance

if TYPE_CHECKING:
    from decimal import Decimal
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_kirin.api.payload.paths import FieldPath
    from airflow_provider_kirin.api.record import InFlight
    from airflow_provider_kirin.api.submission_errors import OnUnknownSubmit
    from airflow_provider_kirin.operators.execution import SubmitResult


#: What the capacity trigger's event says.
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
        storage URI, bytes or Base64. See docs/reference/models.md for the models and their parameters.
    :param model: the model's id (templated)
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param external_task_id: your own id for this generation, unique within the account (templated). None derives one
        that is the same on every try of this step, so that no try pays for what another one submitted.
    :param fit_images: what to do with an image that breaks a limit of the model: ``"error"``, or ``"auto"`` to scale,
        pad and re-encode it until it fits
    :param take: increase it for a new, paid take of the same payload in the same run (templated)
    :param on_unknown_submit: what to do if a submission may have been accepted and the gateway's lookup is not proven
        to work: ``"stop"`` with an error that names the id, or ``"resubmit"`` and possibly pay twice
    :param allow_unknown_model: whether to submit to a model that this provider does not know, parameters unchecked
    :param max_cost_usd: the budget of the DAG run, in US dollars (templated): refuse to submit if the run's Kirin
        tasks would exceed it, including this one. None for no budget.
    :param deferrable: whether to wait in the triggerer for a place in a full account; the default is yes, unless
        ``[operators] default_deferrable`` is set
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
        if callback not in ("auto", None):
            raise ValueError(f'callback = {callback!r} must be "auto" or None.')
        if not (callback_asset is None or isinstance(callback_asset, Asset)):
            raise ValueError(f"callback_asset = {short_repr(callback_asset)} must be an Asset.")
        if on_unknown_submit not in ("stop", "resubmit"):
            raise ValueError(f'on_unknown_submit = {on_unknown_submit!r} must be "stop" or "resubmit".')
        # On the worker a mapped operator is created again from rendered values, which execute() validates: an error
        # raised here would be retried.
        if not is_unmapped_copy(self):
            check_static(payload, model, is_dynamic=is_dynamic, allow_unknown_model=allow_unknown_model)
            if max_cost_usd is not None and not is_dynamic(max_cost_usd):
                from airflow_provider_kirin.operators.run_budget import parse_budget

                parse_budget(max_cost_usd)
        self.payload = payload
        self.model = model
        self.kirin_conn_id = kirin_conn_id
        self.external_task_id = external_task_id
        self.fit_images: FitImages = check_fit_images(fit_images)
        self.take = take
        self.on_unknown_submit: OnUnknownSubmit = on_unknown_submit
        self.allow_unknown_model = allow_unknown_model
        self.max_cost_usd = max_cost_usd
        self.deferrable = deferrable_default() if deferrable is None else deferrable
        self.capacity_timeout = as_seconds(capacity_timeout, "capacity_timeout")
        self._waiting: CapacityWait | None = None
        self.callback = callback
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
        # As Airflow calls it, which in 2.11 takes a call from inside for a mistake.
        return inspect.unwrap(type(self).execute)(self, context)

    def _submit(self, context: Context) -> SubmitResult:
        """Submit or adopt the generation, and keep what OpenLineage and ``on_kill`` need."""
        from airflow_provider_kirin.api.record import InFlight
        from airflow_provider_kirin.operators import execution

        self._in_flight = InFlight()
        spec = self._submit_spec()
        try:
            result = execution.submit(spec, context, self._in_flight)
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


class KirinGenerateVideoOperator(FileArguments, KirinSubmitOperator):
    """Submit, wait without a worker and, with a destination, download: a whole generation as one step.

    :param destination: where the video goes (templated): a folder or a file name, local or any URI that Airflow's
        ObjectStoragePath supports, as a string, Path or ObjectStoragePath; None leaves it at Kirin
    :param filename_template: names the files in a folder (templated); docs/reference/storage.md has the placeholders
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer video is not downloaded
    :param timeout: seconds (or a timedelta) to wait for the video; the generation itself continues at Kirin
    :param deferrable: whether to wait in the triggerer, for a place in a full account and for the video; the default is
        yes, unless ``[operators] default_deferrable`` is set
    :param poll_interval: seconds between polls; None adapts it to the generation's progress
    :param end_from_trigger: whether the triggerer ends the task if nothing is left to do once the video is finished:
        None if that makes no difference otherwise, False never, True always (or the task is refused)
    :return: :meth:`.KirinTask.to_dict`, plus ``files`` (URIs) if it downloaded
    """

    template_fields: Sequence[str] = (*KirinSubmitOperator.template_fields, "destination", "filename_template")
    checked_fields = template_fields
    operator_extra_links = (KirinGenerationLink(), KirinVideoLink())
    end_from_trigger: bool | None = None

    def __init__(
        self,
        *,
        destination: str | PathLike[str] | ObjectStoragePath | None = None,
        filename_template: str | None = None,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float | timedelta = DEFAULT_WAIT,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        end_from_trigger: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, **kwargs)
        self._set_files(destination, filename_template, overwrite, max_bytes)
        self.timeout = as_seconds(timeout, "timeout")
        self.poll_interval = None if poll_interval is None else as_seconds(poll_interval, "poll_interval")
        self.end_from_trigger = end_from_trigger
        if self.callback_asset is not None:
            raise ValueError("callback_asset is for KirinSubmitOperator, which does not wait; here, use outlets.")

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """Submit, then wait on the worker or in the triggerer."""
        from airflow_provider_kirin.operators import execution

        require_task_instance(context)
        with fail_without_retry():
            execution.check_destination(self._wait_spec().files, context)
            ends_from_trigger = self._may_end_from_trigger(context)
            result = self._submit(context)
            kirin_task = result.kirin_task
            if self.deferrable and not kirin_task.is_final:
                from airflow_provider_kirin.triggers.kirin import deferral_until_done

                self.defer(
                    **deferral_until_done(
                        [kirin_task.id],
                        kirin_conn_id=self.kirin_conn_id,
                        timeout=self.timeout,
                        poll_interval=self.poll_interval,
                        result_shape="one" if ends_from_trigger else None,
                        do_xcom_push=self.do_xcom_push,
                        external_task_id=kirin_task.external_task_id,
                        awaits_callback=result.has_callback,
                    )
                )
            video: dict[str, Any] = self._return(context, execution.wait(self._wait_spec(), context, kirin_task))
            return video

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Resume when the trigger has fired.

        :param context: the running task's context
        :param event: the payload of the trigger's event
        """
        from airflow_provider_kirin.operators import execution

        with fail_without_retry():
            video: dict[str, Any] = self._return(
                context, execution.resume_after_wait(self._wait_spec(), context, event)
            )
            return video

    def _callback_spec(self) -> CallbackSpec | None:
        # A callback cannot end a wait on a worker.
        return super()._callback_spec() if self.deferrable else None

    def _wait_spec(self) -> WaitSpec:
        # A destination that was left out is None; one that rendered to nothing is an error.
        is_left_out = self.destination is None and not self._rendering.empty_arguments("destination")
        return WaitSpec(
            kirin_conn_id=self.kirin_conn_id,
            model=self.model,
            timeout=self.timeout,
            poll_interval=self.poll_interval,
            files=None if is_left_out else self._files_spec(),
        )

    def _starts_from_trigger(self) -> bool:
        # Always False. But Airflow reads the property after the constructor and when it serializes the DAG, when
        # everything is known that the check below needs, and nothing has been submitted.
        if self.end_from_trigger and not is_unmapped_copy(self):
            # Raises if the triggerer cannot end the task.
            self._ends_from_trigger()
        return False

    start_from_trigger = InstanceProperty(_starts_from_trigger, on_class=False)

    def _ends_from_trigger(self) -> bool:
        reasons = why_end_on_worker(self)
        if self.destination is not None:
            reasons = chain(["it downloads the video, which only a worker does"], reasons)
        return decide(self.end_from_trigger, reasons, argument="end_from_trigger", task_id=self.task_id)

    def _may_end_from_trigger(self, context: Context) -> bool:
        """Return whether the triggerer may end the task; decided before anything is submitted.

        :raises AirflowFailException: the user insists, the triggerer cannot, and nothing has been submitted yet
        """
        from airflow_provider_kirin.operators import execution

        try:
            return self._ends_from_trigger()
        except ValueError as error:
            # A mapped task cannot be checked when the DAG is parsed, and the worker's configuration may differ.
            if not execution.may_have_submitted(context):
                raise AirflowFailException(f"{error} Nothing was sent, nothing was spent.") from error
            self.log.warning(
                "%s An earlier try has submitted, or may have, so this try continues. Falling back to completing the "
                "task on a worker.",
                error,
            )
            return False


class KirinDownloadOperator(FileArguments, RetriedByDefault):
    """Copy the videos of a finished generation to a folder or file, and return the files' URIs.

    The generation is looked up again, so a link that expired in an XCom does not matter. Repeating it is free.

    :param kirin_task_id: the generation (templated)
    :param destination: a folder or a file name, local or any URI that Airflow's ObjectStoragePath supports
        (templated), as a string, Path or ObjectStoragePath. In a folder the video is named
        ``{dag_id}/{run_id}/{kirin_task_id}-{index}.mp4``.
    :param filename_template: names the files in a folder (templated); docs/reference/storage.md has the placeholders
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer video is not downloaded
    """

    template_fields: Sequence[str] = ("kirin_task_id", "destination", "filename_template", "kirin_conn_id")
    checked_fields = template_fields
    operator_extra_links = (KirinGenerationLink(), KirinVideoLink())
    ui_color = "#ece3fb"

    def __init__(
        self,
        *,
        kirin_task_id: str,
        destination: str | PathLike[str] | ObjectStoragePath,
        filename_template: str | None = None,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kirin_task_id = kirin_task_id
        self.kirin_conn_id = kirin_conn_id
        self._set_files(destination, filename_template, overwrite, max_bytes)

    def execute(self, context: Context) -> list[str]:
        """Look up the generation, then download its videos."""
        from airflow_provider_kirin.operators import execution

        require_task_instance(context)
        with fail_without_retry():
            spec = DownloadSpec(
                kirin_task_id=self.kirin_task_id,
                kirin_conn_id=self.kirin_conn_id,
                files=self._files_spec(),
                submitters=list(self._submitters(context["ti"].map_index)),
            )
            files: list[str] = self._return(context, execution.download(spec, context))
            return files

    def _submitters(self, map_index: int | None) -> Iterator[tuple[str, int]]:
        """Yield id and map index of the direct upstream tasks that submit generations."""
        for task in self.upstream_list:
            # A mapped operator has its class as an attribute; a task mapped over a mapped one shares its map index.
            mapped_class = getattr(task, "operator_class", None)
            task_class = mapped_class or type(task)
            if isinstance(task_class, type) and issubclass(task_class, KirinSubmitOperator):
                is_mapped = mapped_class is not None or task.get_closest_mapped_task_group() is not None
                yield task.task_id, map_index if is_mapped and map_index is not None else -1
