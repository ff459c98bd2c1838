"""Wait for a step's generation and download its videos. Imported inside ``execute()``, to keep DAG parsing fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.download.destination import fetch_finished, save_videos
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.hooks.poller_factory import new_poller
from airflow_provider_kirin.lineage import Provenance
from airflow_provider_kirin.operators.destinations import step_destination
from airflow_provider_kirin.operators.failures import record_failure
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from airflow_provider_kirin.state.usage import as_result, record_files, record_outcomes
from airflow_provider_kirin.triggers.events import load_event
from airflow_provider_kirin.utils.hook_lineage import report_lineage

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.api.video_file import VideoFile
    from airflow_provider_kirin.operators.specs import DownloadSpec, FilesSpec, WaitSpec


@dataclass(frozen=True)
class VideoResult:
    """A finished generation.

    :param value: what the task returns
    :param provenance: what the videos were made from, and where they are
    """

    value: Any
    provenance: Provenance


def check_destination(files: FilesSpec | None, context: Context) -> None:
    """Check the destination, if there is one, before anything is submitted."""
    if files is not None:
        step_destination(files, context["ti"]).check()


def wait(spec: WaitSpec, context: Context, kirin_task: KirinTask) -> VideoResult:
    """Wait on the worker for a generation that this run has submitted or adopted."""
    with closing(KirinHook(spec.kirin_conn_id)) as hook:
        poller = new_poller(
            kirin_task.id, spec.timeout, spec.poll_interval, external_task_id=kirin_task.external_task_id
        )
        return _conclude(spec, context, hook, hook.run(poller))


def resume_after_wait(spec: WaitSpec, context: Context, event: Any) -> VideoResult:
    """Resume after a deferral.

    :param spec: how the step waited, and what is left to do
    :param context: the running task's context
    :param event: the payload of the trigger's event
    """
    (outcome,) = load_event(event, expected=1)
    with closing(KirinHook(spec.kirin_conn_id)) as hook:
        return _conclude(spec, context, hook, outcome, is_resumed=True)


def download(spec: DownloadSpec, context: Context) -> VideoResult:
    """Download the videos of a finished generation; the task returns the files' URIs."""
    with closing(KirinHook(spec.kirin_conn_id)) as hook:
        remedy = "Wait for it with KirinTaskSensor before this task."
        asked_for = validate_task_id(spec.kirin_task_id)
        kirin_task = fetch_finished(hook, asked_for, remedy=remedy)
        submission: Mapping[str, Any] = (
            SubmissionRecord(context).find_submission(kirin_task.id, spec.submitters) if spec.submitters else {}
        )
        # Not what the gateway reports, which not every response does: file names must not depend on it.
        external_task_id = asked_for if asked_for != kirin_task.id else submission.get("external_task_id")
        files = save_videos(
            hook,
            replace(kirin_task, external_task_id=external_task_id),
            step_destination(spec.files, context["ti"]),
            _order(spec.files, context, kirin_task.id, spec.submitters),
        )
        record_files(context, kirin_task.id, files)
    return VideoResult([file.uri for file in files], Provenance.of(kirin_task, files, submission))


def _conclude(
    spec: WaitSpec, context: Context, hook: KirinHook, outcome: Outcome, *, is_resumed: bool = False
) -> VideoResult:
    """Return the task's result, or raise the reason for having no video, wherever the wait took place."""
    if isinstance(outcome, KirinError):
        record_failure(outcome, context, hook, model=spec.model)
        raise outcome
    kirin_task = outcome
    record_outcomes(context, [kirin_task], kirin_conn_id=spec.kirin_conn_id, model=spec.model)
    submission = SubmissionRecord(context).find_submission(kirin_task.id)
    hook.log.info(kirin_task.describe_end())
    if is_resumed:
        # The images were read before the deferral, in a process that is gone.
        report_lineage(hook, inputs=submission.get("images") or ())
    files: list[VideoFile] = []
    if spec.files is not None:
        destination = step_destination(spec.files, context["ti"])
        # Links expire, and the task may have been queued for a long time since the trigger received them.
        kirin_task = fetch_finished(
            hook,
            kirin_task.id,
            remedy="It was reported as finished before: the gateway lags.",
            is_kirin_id=True,
            external_task_id=kirin_task.external_task_id,
        )
        files = save_videos(hook, kirin_task, destination, _order(spec.files, context, kirin_task.id))
        record_files(context, kirin_task.id, files)
    value = kirin_task.to_dict() | ({} if spec.files is None else as_result(files))
    return VideoResult(value, Provenance.of(kirin_task, files, submission))


def _order(
    files: FilesSpec, context: Context, kirin_task_id: str, submitters: Sequence[tuple[str, int]] = ()
) -> Mapping[str, Any]:
    """Return what a generation was ordered with, if that is to be written beside its video, and known."""
    return SubmissionRecord(context).find_order(kirin_task_id, submitters) if files.sidecar else {}
