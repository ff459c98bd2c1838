"""Frozen descriptions of a step, which an operator builds from its rendered arguments.

They have no repr: a payload may contain image bytes and signed URLs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.capacity import DEFAULT_CAPACITY_TIMEOUT, CapacityWait
from airflow_provider_kirin.api.payload.paths import FieldPath
from airflow_provider_kirin.operators.arguments import Rendering

if TYPE_CHECKING:
    from airflow_provider_kirin.api.payload import FitImages
    from airflow_provider_kirin.api.submission_errors import OnUnknownSubmit
    from airflow_provider_kirin.exceptions import Problem


@dataclass(frozen=True, kw_only=True)
class CallbackSpec:
    """A request for a callback of the gateway.

    :param asset: name and URI of the asset that gets an event then; None for none
    """

    asset: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class SubmitSpec:
    """What a step submits. See :class:`.KirinSubmitOperator` for the arguments.

    :param hidden: images and signed URLs that were taken out of the payload, by field path
    :param problems: found while rendering; if there are any, nothing is submitted
    :param arguments_fingerprint: identifies the step instead of its payload, which may differ on each try
    :param rendering: what rendering made of the arguments
    :param waiting: a wait for a place that takes place elsewhere, so that a full account is an error at once; None to
        wait for ``capacity_timeout`` on the worker
    :param callback: whether and for what the gateway is to call back
    """

    payload: Any
    model: str
    kirin_conn_id: str
    external_task_id: str | None = None
    fit_images: FitImages = "error"
    take: int | str = 1
    on_unknown_submit: OnUnknownSubmit = "stop"
    allow_unknown_model: bool = False
    max_cost_usd: Any = None
    hidden: Mapping[FieldPath, Any] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    arguments_fingerprint: str | None = None
    rendering: Rendering = field(default_factory=Rendering)
    capacity_timeout: float = DEFAULT_CAPACITY_TIMEOUT
    waiting: CapacityWait | None = None
    callback: CallbackSpec | None = None

    @property
    def payload_identifies_step(self) -> bool:
        """Whether another payload is another step."""
        return self.arguments_fingerprint is None

    @property
    def user_id(self) -> str:
        """The user's own external task id: the operator's, or else the payload's; empty if there is none."""
        payload = self.payload if self.payload_identifies_step and isinstance(self.payload, Mapping) else {}
        candidates = (self.external_task_id, payload.get("external_task_id"))
        return next((str(user_id) for user_id in candidates if user_id is not None and user_id != ""), "")


@dataclass(frozen=True, kw_only=True, repr=False)
class FilesSpec:
    """Where a step's videos go. See :class:`.KirinDownloadOperator` for the arguments."""

    destination: Any
    filename_template: str | None
    overwrite: bool
    max_bytes: int
    sidecar: bool = False
    poster: bool = False
    rendering: Rendering = field(default_factory=Rendering)


@dataclass(frozen=True, kw_only=True, repr=False)
class WaitSpec:
    """How a step waits for its generation, and where the videos go then; None leaves them at Kirin."""

    kirin_conn_id: str
    model: str
    timeout: float
    poll_interval: float | None
    files: FilesSpec | None


@dataclass(frozen=True, kw_only=True, repr=False)
class DownloadSpec:
    """Which generation to download.

    :param submitters: ids and map indexes of the upstream tasks that may have submitted it
    """

    kirin_task_id: Any
    kirin_conn_id: str
    files: FilesSpec
    submitters: Sequence[tuple[str, int]] = ()
