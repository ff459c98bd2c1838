"""A generation: what the gateway reports about it, and what goes to XCom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, get_args

from airflow_provider_kirin.api.reasons import read_reason
from airflow_provider_kirin.api.redaction import redact_url
from airflow_provider_kirin.api.sanitize import sanitize
from airflow_provider_kirin.api.task_fields import (
    STATUSES,
    Status,
    read_failure,
    read_fraction,
    read_id,
    read_ids,
    read_integer,
    read_metadata,
    read_name,
    read_status,
    read_unreadable,
    read_usage,
    read_videos,
    search_failure,
    unwrap,
)
from airflow_provider_kirin.exceptions import KirinResponseError

_UNREADABLE = "its output has no video that this provider can read"


@dataclass(frozen=True)
class KirinVideo:
    """One video of a finished generation.

    :param url: the download URL; it may be signed, and it expires
    :param type: ``video``
    :param duration: seconds; None if the gateway does not report it
    :param job_id: the id of the job behind it (the API's ``jobId``)
    """

    url: str
    type: str = "video"
    duration: float | None = None
    job_id: str | None = None

    def __repr__(self) -> str:
        return f"KirinVideo(url={redact_url(self.url)!r}, duration={self.duration!r}, job_id={self.job_id!r})"


@dataclass(frozen=True)
class KirinUsage:
    """What a generation cost.

    :param cost: the exact amount in US dollars; None if the gateway does not report it
    :param discount: the factor that was applied; None if the gateway does not report it
    """

    cost: Decimal | None = None
    discount: float | None = None


@dataclass(frozen=True)
class KirinTaskError:
    """Why a generation failed.

    :param code: the API's error code as a string (some start with 0); empty if there is none
    :param message: the API's error message
    """

    code: str
    message: str


@dataclass(frozen=True)
class KirinTask:
    """A generation at Kirin (not to be confused with an Airflow task).

    :param id: the Kirin task id
    :param status: ``in_progress``, ``completed`` or ``failed``
    :param model: the model's id
    :param created_at: as the gateway reports it; the unit is not documented (both seconds and milliseconds occur)
    :param progress: 0 to 1; None if the gateway does not report it
    :param videos: the result; empty until completed
    :param usage: what it cost; None if the gateway does not report it
    :param error: why it failed; None unless it did
    :param metadata: whatever else the gateway reports (``completed_at``, ``in_queue_at``...)
    :param external_task_id: the caller's own id; None if it is not known, and the gateway does not report it
    :param raw_status: the status in the gateway's own words, for the log
    :param dropped: descriptions of reported values that were dropped, for the log
    """

    id: str
    status: Status
    model: str = ""
    created_at: int | None = None
    progress: float | None = None
    videos: list[KirinVideo] = field(default_factory=list)
    usage: KirinUsage | None = None
    error: KirinTaskError | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    external_task_id: str | None = None
    raw_status: str = field(default="", compare=False, repr=False)
    dropped: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def is_final(self) -> bool:
        """Whether the status can no longer change."""
        return self.status != "in_progress"

    @property
    def has_unreadable_output(self) -> bool:
        """Whether it completed with an output in which no video was recognized."""
        return self.error is not None and self.error.message.startswith(_UNREADABLE)

    @property
    def has_unknown_status(self) -> bool:
        """Whether the gateway reported a status that this provider does not know."""
        return self.raw_status.strip().lower() not in STATUSES

    @classmethod
    def from_response(
        cls,
        response: Any,
        *,
        asked_for: str | None = None,
        external_task_id: str | None = None,
        is_sanitized: bool = False,
    ) -> KirinTask:
        """Read a response of the gateway. Whatever is in it, the result can be stored and sent by Airflow.

        :param response: decoded JSON
        :param asked_for: the id that was asked for; None for a submission
        :param external_task_id: its external task id, if the caller knows it
        :param is_sanitized: whether the response comes from :func:`.parse_body`
        :raises KirinResponseError: if it names no usable id, or another generation than the one that was asked for, or
            has no status
        """
        fields = unwrap(response if is_sanitized else sanitize(response))
        kirin_task_id, external_task_id = read_ids(fields, asked_for, external_task_id)
        status, raw_status = read_status(fields)
        if not raw_status and asked_for is not None:
            raise KirinResponseError(f"The gateway's response about {asked_for} has no status.")
        dropped: list[str] = []
        videos = _videos(fields.get("output"), dropped) if status == "completed" else []
        # A generation that completed without a video may say why.
        error = None if status == "in_progress" or videos else _error(read_failure(fields, status))
        if status == "completed" and not videos and (unreadable := read_unreadable(fields.get("output"))):
            code, words = (error.code, error.message) if error else ("", "")
            error = KirinTaskError(code, ": ".join(filter(None, (_UNREADABLE, words, unreadable))))
        if status != "in_progress" and not (videos or (error and error.message)):
            error = _error((error.code if error else "", search_failure(fields, status)))
        return cls(
            id=kirin_task_id,
            status=status,
            model=read_name(fields.get("model")),
            created_at=read_integer(fields.get("created_at")),
            progress=read_fraction(fields.get("progress")),
            videos=videos,
            usage=_usage(fields.get("usage"), dropped),
            error=error,
            metadata=read_metadata(fields.get("metadata"), dropped),
            external_task_id=external_task_id,
            raw_status=raw_status,
            dropped=tuple(dropped),
        )

    def describe_end(self) -> str:
        """Return a log line that it is done, and what it cost."""
        cost = self.usage.cost if self.usage else None
        return f"Kirin generation {self.id} is done; cost: {'unknown' if cost is None else f'{cost:f} USD'}."

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-safe dict that goes to XCom; the cost is a string, so that it stays exact."""
        usage, error = self.usage, self.error
        return {
            "id": self.id,
            "status": self.status,
            "model": self.model,
            "created_at": self.created_at,
            "progress": self.progress,
            "videos": [
                {"url": video.url, "type": video.type, "duration": video.duration, "job_id": video.job_id}
                for video in self.videos
            ],
            "usage": usage
            and {"cost": None if usage.cost is None else format(usage.cost, "f"), "discount": usage.discount},
            "error": error and {"code": error.code, "message": error.message},
            "metadata": self.metadata,
            "external_task_id": self.external_task_id,
        }

    @classmethod
    def from_dict(cls, data: Any) -> KirinTask:
        """Restore a generation from :meth:`to_dict`, after a round trip through XCom or a trigger event.

        :param data: the dict
        :raises KirinResponseError: it is not such a dict
        """
        data = sanitize(data) if isinstance(data, Mapping) else {}
        status = next((word for word in get_args(Status) if word == data.get("status")), None)
        metadata = data.get("metadata") or {}
        kirin_task_id = read_id(data.get("id"))
        if not kirin_task_id or status is None or not isinstance(metadata, Mapping):
            raise KirinResponseError("This is not the result of a Kirin generation.")
        return cls(
            id=kirin_task_id,
            status=status,
            model=read_name(data.get("model")),
            created_at=read_integer(data.get("created_at")),
            progress=read_fraction(data.get("progress")),
            videos=_videos(data.get("videos"), []),
            usage=_usage(data.get("usage"), []),
            error=_error(read_reason(data.get("error"))),
            metadata=read_metadata(metadata, []),
            external_task_id=read_id(data.get("external_task_id")) or None,
            raw_status=status,
        )


def _videos(output: Any, dropped: list[str]) -> list[KirinVideo]:
    return [KirinVideo(url, duration=duration, job_id=job_id) for url, duration, job_id in read_videos(output, dropped)]


def _usage(usage: Any, dropped: list[str]) -> KirinUsage | None:
    amounts = read_usage(usage, dropped)
    return KirinUsage(*amounts) if amounts else None


def _error(reason: tuple[str, str]) -> KirinTaskError | None:
    return KirinTaskError(*reason) if any(reason) else None
