"""Operators that buy a video, and that bring it home."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.payload import check_static
from airflow_provider_kirin.deferring import as_seconds, defer_until_done, deferrable_default
from airflow_provider_kirin.exceptions import KirinError, KirinNotFoundError, KirinUnfinishedError
from airflow_provider_kirin.failing import failing_for_good
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.operators.payloads import is_dynamic, refuse_images, take_out_images
from airflow_provider_kirin.workerless import decide, why_end_on_worker

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.submitting import OnUnknownSubmit, Submission

#: Ten minutes are the longest generation that public clients wait for; a queue may come before it. Seconds.
DEFAULT_WAIT = 3600.0


class KirinSubmitOperator(BaseOperator):
    """Start a Kirin generation and return its task id, for :class:`.KirinTaskSensor` to wait for.

    What can be judged of the payload is judged when the DAG is parsed, the rest after rendering; all of it before
    anything is sent. Bytes and Base64 images never show in the rendered templates.

    :param payload: the model's parameters (templated): ``image`` and/or ``image_tail`` as URL, path, storage URI, bytes
        or Base64; ``prompt``, ``mode``, ``duration``... See the model's page in the docs.
    :param model: the model's id (templated)
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param external_task_id: your own id for this generation, unique for the account (templated). None makes one that
        is the same on every try of this step, so that no try pays for what another one bought.
    :param take: raise it for a new, paid take of the same payload in the same run (templated)
    :param on_unknown_submit: what to do where a submission may have been accepted and the gateway's look-up is not
        proven to work: ``"stop"`` with an error that names the id, or ``"resubmit"`` and maybe pay twice
    :raises KirinPayloadError: when the DAG is parsed, with everything that is wrong already
    """

    template_fields: Sequence[str] = ("payload", "model", "kirin_conn_id", "external_task_id", "take")
    template_fields_renderers = {"payload": "json"}  # noqa: RUF012 - as Airflow's own operators declare it
    ui_color = "#ece3fb"

    def __init__(
        self,
        *,
        payload: Any,
        model: str = DEFAULT_MODEL,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        external_task_id: str | None = None,
        take: int | str = 1,
        on_unknown_submit: OnUnknownSubmit = "stop",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_unknown_submit not in ("stop", "resubmit"):
            raise ValueError(f'on_unknown_submit = {on_unknown_submit!r} must be "stop" or "resubmit".')
        # On the worker a mapped operator is made anew, from values that execute() judges with all the others: what is
        # raised here would be retried. Airflow marks such an operator only by this private name.
        if not getattr(self, "_BaseOperator__from_mapped", False):
            check_static(payload, model, is_dynamic=is_dynamic)
        self.payload = payload
        self.model = model
        self.kirin_conn_id = kirin_conn_id
        self.external_task_id = external_task_id
        self.take = take
        self.on_unknown_submit: OnUnknownSubmit = on_unknown_submit
        self._submission: Submission | None = None
        self._kirin_task_id: str | None = None
        self._kind = ""
        self._images: dict[str, Any] = {}
        self._hide_images()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Check what a mapped task holds fixed, as for any other task, then go on as Airflow does."""
        if "payload" in kwargs:
            model = kwargs.get("model", DEFAULT_MODEL)
            check_static(kwargs["payload"], model, is_dynamic=is_dynamic)
            refuse_images(kwargs["payload"], model)
        return super().partial(**kwargs)

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """Render as any operator does, mapped or not, then hide images that a template or an XCom brought along."""
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self:
            self._hide_images()

    def execute(self, context: Context) -> str:
        """Submit, and return the Kirin task id."""
        with failing_for_good():
            return self._submit(context).id

    def _hide_images(self) -> None:
        self.payload, found = take_out_images(self.payload, self.model)
        self._images.update(found)

    def on_kill(self) -> None:
        """Say what goes on at Kirin: the generation API documents no way to cancel a generation."""
        in_flight = self._submission.in_flight if self._submission else None
        if self._kirin_task_id:
            self.log.warning(
                "Kirin generation %s goes on, and is billed: it cannot be cancelled. The next try of this task, or "
                "KirinTaskSensor with this id, picks it up.",
                self._kirin_task_id,
            )
        elif in_flight:
            self.log.warning(
                "A generation with the external task id %s may have been accepted, and be billed. The next try of "
                "this task looks for it before it pays.",
                in_flight,
            )

    def _submit(self, context: Context) -> KirinTask:
        from airflow_provider_kirin.api.errors import error_from_task
        from airflow_provider_kirin.hooks.kirin import KirinHook
        from airflow_provider_kirin.operators.gateway import HookGateway
        from airflow_provider_kirin.operators.records import StepRecord
        from airflow_provider_kirin.submitting import Submission

        with closing(KirinHook(self.kirin_conn_id)) as hook:
            own_id = {"external_task_id": self.external_task_id} if self.external_task_id else {}
            # All that can fail without money comes first: rendering, images, rules, the connection.
            ready = hook.prepare(self.payload, model=self.model, replacing=self._images | own_id)
            external_task_id = ready.params.get("external_task_id") or self._step_id(context, ready)
            self._kind = " ".join(str(ready.params[name]) for name in ("mode", "duration") if name in ready.params)
            self.log.info("Kirin, %s, external task id %s: %s", ready.model, external_task_id, ready.describe())
            self._submission = Submission(
                HookGateway(hook, ready),
                StepRecord(context),
                external_task_id=external_task_id,
                is_own_id="external_task_id" in ready.params,
                on_unknown_submit=self.on_unknown_submit,
                conn_id=self.kirin_conn_id,
                log=self.log,
            )
            submitted = self._submission.run()
        self._kirin_task_id = submitted.kirin_task.id
        if not submitted.adopted:
            self.log.info("Kirin generation %s is submitted.", submitted.kirin_task.id)
        if submitted.kirin_task.status == "failed" and (error := error_from_task(submitted.kirin_task)):
            raise error
        return replace(submitted.kirin_task, external_task_id=submitted.external_task_id)

    def _step_id(self, context: Context, ready: PreparedPayload) -> str:
        from airflow_provider_kirin.api.identity import digest, step_id

        ti = context["ti"]
        return step_id(
            conn_id=self.kirin_conn_id,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
            take=self.take,
            payload=digest(ready),
        )


class KirinGenerateVideoOperator(KirinSubmitOperator):
    """Submit, wait without a worker and, with a destination, download: a whole generation as one step.

    :param destination: where the video goes (templated): a folder or a file name, local or any URI that Airflow's
        ObjectStoragePath knows; None leaves it at Kirin
    :param overwrite: whether a file that is there may be replaced
    :param timeout: seconds (or a timedelta) to wait for the video; the generation itself goes on at Kirin
    :param deferrable: whether to wait in the triggerer; the default is yes, unless ``[operators]
        default_deferrable`` is set
    :param poll_interval: seconds between looks; None adapts them to what is known of the generation
    :param end_from_trigger: whether the triggerer ends the task when the video is there and nothing is left to do:
        None where that makes no difference, False never, True insists
    :return: what :meth:`.KirinTask.to_dict` says, plus ``files`` (URIs) where it downloaded
    """

    template_fields: Sequence[str] = (*KirinSubmitOperator.template_fields, "destination")

    def __init__(
        self,
        *,
        destination: str | None = None,
        overwrite: bool = True,
        timeout: float | timedelta = DEFAULT_WAIT,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        end_from_trigger: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.overwrite = overwrite
        self.timeout = as_seconds(timeout, "timeout")
        self.deferrable = deferrable_default() if deferrable is None else deferrable
        self.poll_interval = None if poll_interval is None else as_seconds(poll_interval, "poll_interval")
        self.end_from_trigger = end_from_trigger
        if end_from_trigger:
            # Raises where that cannot be.
            self._ends_from_trigger()

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """Submit, then wait: here, or in the triggerer."""
        from airflow_provider_kirin.hooks.kirin import KirinHook
        from airflow_provider_kirin.operators.files import check_destination

        with failing_for_good():
            if self.destination is not None:
                check_destination(self.destination, overwrite=self.overwrite)
            kirin_task = self._submit(context)
            if self.deferrable and not kirin_task.is_final:
                defer_until_done(
                    self,
                    [kirin_task.id],
                    kirin_conn_id=self.kirin_conn_id,
                    timeout=self.timeout,
                    poll_interval=self.poll_interval,
                    kind=self._kind,
                    ends="one" if self._ends_from_trigger() else None,
                    push=self.do_xcom_push,
                    external_task_id=kirin_task.external_task_id,
                )
            with closing(KirinHook(self.kirin_conn_id)) as hook:
                done = hook.wait(kirin_task.id, timeout=self.timeout, poll_interval=self.poll_interval)
            return self._finish(done, context)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Go on where the trigger ended.

        :param context: Airflow's
        :param event: the trigger's
        """
        from airflow_provider_kirin.triggers.events import read_event

        with failing_for_good():
            (outcome,) = read_event(event, expected=1)
            if isinstance(outcome, KirinNotFoundError):
                # It was bought a moment ago: the look-up may lag, and the next try knows the id.
                outcome.retryable = True
            if isinstance(outcome, KirinError):
                raise outcome
            return self._finish(outcome, context)

    def _ends_from_trigger(self) -> bool:
        reasons = why_end_on_worker(self, "execute", "execute_complete")
        if self.destination is not None:
            reasons = chain(["it downloads the video, which a worker does"], reasons)
        return decide(self.end_from_trigger, reasons, argument="end_from_trigger", task_id=self.task_id)

    def _finish(self, kirin_task: KirinTask, context: Context) -> dict[str, Any]:
        from airflow_provider_kirin.hooks.kirin import KirinHook
        from airflow_provider_kirin.operators.files import save_videos
        from airflow_provider_kirin.operators.records import StepRecord

        # The gateway's replies do not repeat it.
        kirin_task = replace(kirin_task, external_task_id=StepRecord(context).external_task_id(kirin_task.id))
        self.log.info(kirin_task.describe_end())
        if self.destination is None:
            return kirin_task.to_dict()
        with closing(KirinHook(self.kirin_conn_id)) as hook:
            # Links expire, and this task may have queued for long since the trigger saw them.
            kirin_task = replace(hook.get_task(kirin_task.id), external_task_id=kirin_task.external_task_id)
            files = save_videos(hook, kirin_task, self.destination, overwrite=self.overwrite)
        return {**kirin_task.to_dict(), "files": files}


class KirinDownloadOperator(BaseOperator):
    """Copy the videos of a finished generation to a folder or file, and return the files' URIs.

    The task is fetched afresh, so a link that expired in an XCom does not matter. Repeating it is free.

    :param kirin_task_id: the generation (templated)
    :param destination: a folder or a file name, local or any URI that Airflow's ObjectStoragePath knows (templated).
        In a folder the video is named ``{kirin_task_id}-{index}.mp4``.
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param overwrite: whether a file that is there may be replaced
    """

    template_fields: Sequence[str] = ("kirin_task_id", "destination", "kirin_conn_id")
    ui_color = "#ece3fb"

    def __init__(
        self,
        *,
        kirin_task_id: str,
        destination: str,
        kirin_conn_id: str = DEFAULT_CONN_ID,
        overwrite: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kirin_task_id = kirin_task_id
        self.destination = destination
        self.kirin_conn_id = kirin_conn_id
        self.overwrite = overwrite

    def execute(self, context: Context) -> list[str]:
        """Fetch the task, then its videos."""
        from airflow_provider_kirin.api.errors import error_from_task
        from airflow_provider_kirin.hooks.kirin import KirinHook
        from airflow_provider_kirin.operators.files import save_videos

        with failing_for_good():
            hook = KirinHook(self.kirin_conn_id)
            kirin_task = hook.get_task(self.kirin_task_id)
            if not kirin_task.is_final:
                raise KirinUnfinishedError(
                    f"Kirin generation {kirin_task.id} is not finished ({kirin_task.raw_status}). "
                    "Wait for it with KirinTaskSensor before this task."
                )
            if error := error_from_task(kirin_task):
                raise error
            return save_videos(hook, kirin_task, self.destination, overwrite=self.overwrite)
