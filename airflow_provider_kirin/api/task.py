"""What came back: a generation as the gateway reports it, read tolerantly.

Sources: the task object of doc.vtrix.ai (page kirin-v1-6-i2v), and what public clients of the gateway were seen to
accept: numbers as text, errors as text, other words for the same status, fields that are missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

from airflow_provider_kirin.api.text import one_line, safe_url
from airflow_provider_kirin.exceptions import KirinReplyError

Status = Literal["in_progress", "completed", "failed"]

#: The one table of statuses. Documented are ``in_progress``, ``completed`` and ``failed``; the other words come from
#: the older envelope, internal services and public clients. A word that is not here counts as in progress.
STATUSES: dict[str, Status] = {
    "in_progress": "in_progress",
    "in_queue": "in_progress",
    "processing": "in_progress",
    "pending": "in_progress",
    "queued": "in_progress",
    "running": "in_progress",
    "submitted": "in_progress",
    "completed": "completed",
    "success": "completed",
    "succeed": "completed",
    "succeeded": "completed",
    "done": "completed",
    "failed": "failed",
}


@dataclass(frozen=True)
class KirinVideo:
    """One video of a finished generation.

    :param url: where it lies; may be signed, and expires
    :param type: ``video``
    :param duration: seconds, None where the gateway does not say
    :param job_id: the id of the job behind it (the API's ``jobId``)
    """

    url: str
    type: str = "video"
    duration: float | None = None
    job_id: str | None = None

    def __repr__(self) -> str:
        return f"KirinVideo(url={safe_url(self.url)!r}, duration={self.duration!r}, job_id={self.job_id!r})"


@dataclass(frozen=True)
class KirinUsage:
    """What a generation cost.

    :param cost: US dollars, exactly; None where the gateway does not say
    :param discount: the factor that was applied, None where the gateway does not say
    """

    cost: Decimal | None = None
    discount: float | None = None


@dataclass(frozen=True)
class KirinTaskError:
    """Why a generation failed.

    :param code: the API's code as text (some start with 0), empty where there is none
    :param message: the API's own words
    """

    code: str
    message: str


@dataclass(frozen=True)
class KirinTask:
    """A generation at Kirin (not to be confused with an Airflow task).

    :param id: the Kirin task id
    :param status: ``in_progress``, ``completed`` or ``failed``
    :param model: the model that makes it
    :param created_at: as the gateway says it; the unit is not documented (seconds and milliseconds were seen)
    :param progress: 0 to 1, None where the gateway does not say
    :param videos: the result, empty until completed
    :param usage: what it cost, None where the gateway does not say
    :param error: why it failed, None unless it did
    :param metadata: whatever else the gateway reports (``completed_at``, ``in_queue_at``...)
    :param external_task_id: the caller's own id, None where the gateway does not repeat it
    :param raw_status: the gateway's own word, for the log
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

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status != "in_progress"

    @property
    def has_unknown_status(self) -> bool:
        """Whether the gateway used a word for the status that this provider does not know."""
        return self.raw_status.strip().lower() not in STATUSES

    @classmethod
    def from_reply(cls, reply: Any, *, asked_for: str | None = None) -> KirinTask:
        """Read a reply of the gateway.

        :param reply: decoded JSON
        :param asked_for: the id that was asked for, for a reply that does not repeat it
        :raises KirinReplyError: where no id can be found, or neither status nor output
        """
        fields = _unwrap(reply)
        kirin_task_id = _text(fields.get("id")) or _text(fields.get("task_id")) or asked_for
        raw_status = _text(fields.get("status"))
        if not kirin_task_id:
            raise KirinReplyError("The gateway's reply holds no task id.")
        if not raw_status and asked_for is not None:
            raise KirinReplyError(f"The gateway's reply about {asked_for} holds no status.")
        status = STATUSES.get(raw_status.strip().lower(), "in_progress")
        metadata = fields.get("metadata")
        return cls(
            id=kirin_task_id,
            status=status,
            model=_text(fields.get("model")),
            created_at=_whole(fields.get("created_at")),
            progress=_fraction(fields.get("progress")),
            videos=list(_videos(fields.get("output"))) if status == "completed" else [],
            usage=_usage(fields.get("usage")),
            error=_error(fields.get("error")) if status == "failed" else None,
            metadata=dict(metadata) if isinstance(metadata, Mapping) else {},
            external_task_id=_text(fields.get("external_task_id")) or None,
            raw_status=raw_status,
        )

    def describe_end(self) -> str:
        """Return that it is done, and what it cost, as a line for the log."""
        cost = self.usage.cost if self.usage else None
        return f"Kirin generation {self.id} is done; cost: {'unknown' if cost is None else f'{cost:f} USD'}."

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-safe dict that goes to XCom; the cost is a string, so that no cent is lost."""
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
        """Read what :meth:`to_dict` wrote, after a trip through XCom or a trigger event.

        :param data: the dict
        :raises KirinReplyError: where it is not such a dict
        """
        data = data if isinstance(data, Mapping) else {}
        status = next((word for word in get_args(Status) if word == data.get("status")), None)
        metadata = data.get("metadata") or {}
        if not _text(data.get("id")) or status is None or not isinstance(metadata, Mapping):
            raise KirinReplyError("This is not the result of a Kirin generation.")
        return cls(
            id=_text(data["id"]),
            status=status,
            model=_text(data.get("model")),
            created_at=_whole(data.get("created_at")),
            progress=_fraction(data.get("progress")),
            videos=list(_videos(data.get("videos"))),
            usage=_usage(data.get("usage")),
            error=_error(data.get("error")),
            metadata=dict(metadata),
            external_task_id=_text(data.get("external_task_id")) or None,
            raw_status=status,
        )


def _unwrap(reply: Any) -> Mapping[str, Any]:
    if not isinstance(reply, Mapping):
        raise KirinReplyError(f"The gateway answered with {type(reply).__name__} where a task object belongs.")
    # The older envelope, and the page of kirin_v1_5_i2v, put everything into `data`.
    inner = reply.get("data")
    return inner if isinstance(inner, Mapping) and "id" not in reply else reply


def _videos(output: Any) -> Iterator[KirinVideo]:
    """Find the videos in ``output[].content[]``, or in the older, flat ``output[]``."""
    for item in output if isinstance(output, list) else []:
        if not isinstance(item, Mapping):
            continue
        content = item.get("content")
        for entry in content if isinstance(content, list) else [item]:
            if not isinstance(entry, Mapping):
                continue
            url, kind = _text(entry.get("url")).strip(), _text(entry.get("type")) or "video"
            if url and kind.lower() == "video":
                job_id = _text(entry.get("jobId")) or _text(entry.get("job_id")) or None
                yield KirinVideo(url=url, duration=_number(entry.get("duration")), job_id=job_id)


def _usage(usage: Any) -> KirinUsage | None:
    if not isinstance(usage, Mapping):
        return None
    return KirinUsage(cost=read_decimal(usage.get("cost")), discount=_number(usage.get("discount")))


def _error(error: Any) -> KirinTaskError | None:
    if isinstance(error, str) and error:
        return KirinTaskError(code="", message=one_line(error))
    if not isinstance(error, Mapping):
        return None
    message = error.get("error_message") or error.get("message") or ""
    return KirinTaskError(code=one_line(_text(error.get("code")), 80), message=one_line(message))


def _text(value: Any) -> str:
    """Return a text, or a whole number as text: ids and codes were seen as either."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30 else ""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _fraction(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else min(max(number, 0.0), 1.0)


def read_decimal(value: Any) -> Decimal | None:
    """Return an amount exactly, None for what is none: the API says it as text, or as a number.

    :param value: a JSON value
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    # str() of a float is its shortest exact form: 0.28 stays 0.28.
    text = str(value).strip() if not isinstance(value, int) else format(value if abs(value) < 10**30 else 0, "d")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < 30 else None
