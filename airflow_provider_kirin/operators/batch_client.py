"""Connects a batch to the gateway and to its destination, through a hook. It knows nothing of a DAG run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kirin.api.idempotency import StepIdentity, payload_fingerprint
from airflow_provider_kirin.api.payload import FitImages, prepare_payload
from airflow_provider_kirin.download.destination import Destination, fetch_finished, save_videos
from airflow_provider_kirin.download.storage import open_uri
from airflow_provider_kirin.operators.batch_settings import QuietLog
from airflow_provider_kirin.operators.callback import PARAMETER, MakeUrl
from airflow_provider_kirin.operators.generation_client import HookClient
from airflow_provider_kirin.state.order import order_of

if TYPE_CHECKING:
    from airflow_provider_kirin.api.batch.record import RowRecord
    from airflow_provider_kirin.api.batch.row import Row
    from airflow_provider_kirin.api.batch.state import RowState
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.submission import GenerationClient
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.api.video_file import VideoFile
    from airflow_provider_kirin.exceptions import KirinError
    from airflow_provider_kirin.hooks.kirin import KirinHook
    from airflow_provider_kirin.operators.batch_budget import BatchBudget

#: What the identity of a batch itself is made from, instead of a payload.
BATCH = "batch"

Report = Callable[[Literal["submitted", "ended"], "RowState", "KirinTask | KirinError"], None]


class HookBatchClient:
    """Prepares, submits, polls and stores rows, for :class:`.BatchRun`.

    :param hook: does the I/O
    :param identity: of the batch
    :param destination: where the videos go; a row's key is one of its placeholders
    :param model: the model
    :param fit_images: what to do with an image that breaks a limit
    :param allow_unknown_model: whether to submit to a model without a schema, and names that resemble a parameter
    :param budget: the budget, if there is one
    :param make_callback_url: makes the callback URL of an external task id; None for no callbacks
    :param report: counts submissions and ends
    """

    def __init__(
        self,
        hook: KirinHook,
        identity: StepIdentity,
        destination: Destination,
        *,
        model: str,
        fit_images: FitImages = "error",
        allow_unknown_model: bool = False,
        budget: BatchBudget | None = None,
        make_callback_url: MakeUrl | None = None,
        report: Report,
    ) -> None:
        self._hook = hook
        self._identity = identity
        self._destination = destination
        self._model = model
        self._fit_images: FitImages = fit_images
        self._allow_unknown_model = allow_unknown_model
        self._budget = budget
        self._make_callback_url = make_callback_url
        self._warned: set[str] = set()
        self.report = report

    def prepare(self, row: Row) -> PreparedPayload:
        """Read a row's images, check all of it, and return what would be sent.

        :param row: a row
        :raises KirinPayloadError: the row cannot be sent
        """
        prepared = prepare_payload(
            row.payload,
            self._model,
            open_uri=open_uri,
            fit_images=self._fit_images,
            allow_unknown_model=self._allow_unknown_model,
        )
        self._hook.refuse_key(prepared)
        for warning in prepared.warnings:
            # What is true of one row is usually true of all.
            if warning not in self._warned:
                self._warned.add(warning)
                self._hook.log.warning("Row %s, and perhaps others: %s", row.key, warning)
        return prepared

    def external_task_id(self, row: Row, prepared: PreparedPayload) -> str:
        """Return a row's external task id."""
        return self._identity.external_task_id(json.dumps([row.key, payload_fingerprint(prepared)]))

    def sender(self, prepared: PreparedPayload | None, record: RowRecord) -> GenerationClient:
        """Return the client that submits one payload; without a payload, it only looks up."""
        has_own_callback = prepared is not None and PARAMETER in prepared.params
        if prepared is not None and self._destination.sidecar:
            record.order = order_of(prepared)
        client = HookClient(self._hook, prepared, None if has_own_callback else self._make_callback_url)
        if self._budget is None or prepared is None:
            return client
        return self._budget.client(client, prepared, record)

    def get_task(self, kirin_task_id: str, *, external_task_id: str | None) -> KirinTask:
        """Ask for a generation, once; the response need not repeat its external task id."""
        return self._hook.get_task(kirin_task_id, external_task_id=external_task_id, patience=0)

    def save(self, state: RowState, kirin_task: KirinTask | None, *, file_key: str) -> list[VideoFile]:
        """Store the videos of a finished generation, and return what is known of them."""
        client = _QuietClient(self._hook, state.key)
        fresh = kirin_task or fetch_finished(
            client, str(state.kirin_task_id), pauses=(), is_kirin_id=True, external_task_id=state.external_task_id
        )
        named = replace(self._destination, step={**self._destination.step, "key": state.key}, file_key=file_key)
        return save_videos(client, fresh, named, state.order)


class _QuietClient:
    """The hook as a :class:`.VideoClient`, with a :class:`.QuietLog`."""

    def __init__(self, hook: KirinHook, key: str) -> None:
        self.log: Any = QuietLog(hook.log, key)
        self.get_task = hook.get_task
        self.save_video = hook.save_video
