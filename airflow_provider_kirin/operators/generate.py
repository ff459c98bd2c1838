"""The operator that submits a generation, waits for it and downloads its video."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.links.kirin import KirinGenerationLink, KirinVideoLink
from airflow_provider_kirin.operators.file_arguments import FileArguments
from airflow_provider_kirin.operators.specs import CallbackSpec, WaitSpec
from airflow_provider_kirin.operators.submit import KirinSubmitOperator
from airflow_provider_kirin.utils.deferral import DEFAULT_WAIT, as_seconds
from airflow_provider_kirin.utils.start_from_trigger import InstanceProperty, decide, why_end_on_worker
from airflow_provider_kirin.utils.task_errors import fail_without_retry
from airflow_provider_kirin.utils.task_instance import require_task_instance

if TYPE_CHECKING:
    from os import PathLike

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath


class KirinGenerateVideoOperator(FileArguments, KirinSubmitOperator):
    """Submit, wait without a worker and, with a destination, download: a whole generation as one step.

    :param destination: where the video goes (templated): a folder or a file name, local or any URI that Airflow's
        ObjectStoragePath supports, as a string, Path or ObjectStoragePath; None leaves it at Kirin
    :param filename_template: names the files in a folder (templated); docs/reference/storage.md has the placeholders
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer video is not downloaded
    :param sidecar: whether ``<name>.json`` is written beside each video: what it was ordered with, ids, cost, and what
        is known of the file
    :param poster: whether ``<name>.jpg`` is written beside each video, its first frame; needs the extra ``media``
    :param timeout: seconds (or a timedelta) to wait for the video; the generation itself continues at Kirin
    :param deferrable: whether to wait in the triggerer, for a place in a full account and for the video; the default is
        yes, unless ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` in the environment says no
    :param poll_interval: seconds between polls; None adapts it to the generation's progress
    :param end_from_trigger: whether the triggerer ends the task if nothing is left to do once the video is finished:
        None if that makes no difference otherwise, False never, True always (or the task is refused)
    :return: :meth:`.KirinTask.to_dict`, plus ``files`` (URIs) and ``file_details`` (what is known of each, see
        :class:`.VideoFile`) if it downloaded
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
        sidecar: bool = False,
        poster: bool = False,
        timeout: float | timedelta = DEFAULT_WAIT,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        end_from_trigger: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(deferrable=deferrable, **kwargs)
        self._set_files(destination, filename_template, overwrite, max_bytes, sidecar, poster)
        self.timeout = as_seconds(timeout, "timeout")
        self.poll_interval = None if poll_interval is None else as_seconds(poll_interval, "poll_interval")
        self.end_from_trigger = end_from_trigger
        if (sidecar or poster) and destination is None:
            raise ValueError("sidecar and poster are files beside the video: give a destination, or leave them out.")
        if self.callback_asset is not None:
            raise ValueError("callback_asset is for KirinSubmitOperator, which does not wait; here, use outlets.")

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """Submit, then wait on the worker or in the triggerer."""
        from airflow_provider_kirin.operators import completion

        require_task_instance(context)
        with fail_without_retry():
            completion.check_destination(self._wait_spec().files, context)
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
            video: dict[str, Any] = self._return(context, completion.wait(self._wait_spec(), context, kirin_task))
            return video

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Resume when the trigger has fired.

        :param context: the running task's context
        :param event: the payload of the trigger's event
        """
        from airflow_provider_kirin.operators import completion

        with fail_without_retry():
            video: dict[str, Any] = self._return(
                context, completion.resume_after_wait(self._wait_spec(), context, event)
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
        from airflow_provider_kirin.operators import submission

        try:
            return self._ends_from_trigger()
        except ValueError as error:
            # A mapped task cannot be checked when the DAG is parsed, and the worker's configuration may differ.
            if not submission.may_have_submitted(context):
                raise AirflowFailException(f"{error} Nothing was sent, nothing was spent.") from error
            self.log.warning(
                "%s An earlier try has submitted, or may have, so this try continues. Falling back to completing the "
                "task on a worker.",
                error,
            )
            return False
