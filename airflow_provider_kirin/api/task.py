"""A generation as the gateway reports it, parsed leniently.

Sources: the task object of doc.vtrix.ai (page kirin-v1-6-i2v), and what public clients of the gateway accept: numbers
as strings, errors as strings, synonyms for a status, missing fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.api.sanitize import sanitize
from airflow_provider_kirin.exceptions import KirinIdError, KirinResponseError

Status = Literal["in_progress", "completed", "failed"]

#: The table of statuses. Only ``in_progress``, ``completed`` and ``failed`` are documented; the others come from the
#: older envelope, internal services and public clients. An unknown status counts as in progress.
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

#: Maximum length of an amount of money.
_LONGEST_AMOUNT = 64
#: Maximum number of videos of one generation. The models make one; some related ones, up to nine.
MAX_VIDEOS = 100
#: Maximum length of a video's URL. Signed URLs have some hundred characters, rarely two thousand.
MAX_URL = 8192
#: Maximum length of ``metadata`` as JSON; larger metadata is dropped as a whole.
MAX_METADATA = 16_384


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
        kirin_task_id, external_task_id = _identify(fields, asked_for, external_task_id)
        raw_status = _text(fields.get("status"))
        if not raw_status and asked_for is not None:
            raise KirinResponseError(f"The gateway's response about {asked_for} has no status.")
        reason = _error(fields.get("error")) or _error(fields.get("errors"))
        ends = bool(reason and raw_status) and not _is_success(fields.get("error"))
        status = STATUSES.get(raw_status.strip().lower(), "failed" if ends else "in_progress")
        dropped: list[str] = []
        videos = _bounded(list(_videos(fields.get("output"))), dropped) if status == "completed" else []
        return cls(
            id=kirin_task_id,
            status=status,
            model=_name(fields.get("model")),
            created_at=_whole(fields.get("created_at")),
            progress=_fraction(fields.get("progress")),
            videos=videos,
            usage=_usage(fields.get("usage"), dropped),
            # A generation that completed without a video may say why.
            error=None if status == "in_progress" or videos else reason or _reason_beside(status, fields),
            metadata=_metadata(fields.get("metadata"), dropped),
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
        kirin_task_id = _usable_id(data.get("id"))
        if not kirin_task_id or status is None or not isinstance(metadata, Mapping):
            raise KirinResponseError("This is not the result of a Kirin generation.")
        return cls(
            id=kirin_task_id,
            status=status,
            model=_name(data.get("model")),
            created_at=_whole(data.get("created_at")),
            progress=_fraction(data.get("progress")),
            videos=_bounded(list(_videos(data.get("videos"))), []),
            usage=_usage(data.get("usage"), []),
            error=_error(data.get("error")),
            metadata=_metadata(metadata, []),
            external_task_id=_usable_id(data.get("external_task_id")) or None,
            raw_status=status,
        )


def unwrap(response: Any) -> Mapping[str, Any]:
    """Return the task object of a response.

    :param response: decoded JSON
    :raises KirinResponseError: if it is not an object
    """
    if not isinstance(response, Mapping):
        raise KirinResponseError(f"The gateway's response is a {type(response).__name__} instead of a task object.")
    # The older envelope, and the documentation of kirin_v1_5_i2v, put everything into `data`.
    inner = response.get("data")
    return inner if isinstance(inner, Mapping) and "id" not in response else response


def _identify(fields: Mapping[str, Any], asked_for: str | None, known: str | None) -> tuple[str, str | None]:
    """Return Kirin task id and external task id of the generation in a response, which has to be the expected one.

    A gateway that was asked by an external task id may answer with its own id and not repeat the other: only a
    response that repeats neither, or names another external task id, is about something else.

    :param asked_for: the id that was asked for; None for a submission
    :param known: the external task id, if the caller knows it
    """
    kirin_task_id = _usable_id(fields.get("id")) or _usable_id(fields.get("task_id"))
    external_task_id = _text(fields.get("external_task_id")).strip()
    if asked_for is not None and asked_for not in (kirin_task_id, external_task_id):
        if not kirin_task_id:
            raise KirinResponseError(
                f"The gateway's response about {asked_for} does not say which generation it is about."
            )
        if external_task_id:
            raise KirinResponseError(
                f"The gateway was asked for {asked_for} and answered with another generation: "
                f"{one_line(kirin_task_id, 80)}, external task id {one_line(external_task_id, 80)}."
            )
    if not (kirin_task_id or asked_for):
        raise KirinResponseError("The gateway's response has no task id that can be used.")
    reported = _usable_id(external_task_id)
    if asked_for is None and known and reported not in ("", known.strip()):
        raise KirinResponseError(
            f"The response to the submission of {short_repr(known)} describes another generation: "
            f"{short_repr(kirin_task_id)}, external task id {short_repr(reported)}."
        )
    # Not every response repeats it. A generation that was found under another id than its own was found under this one.
    found_under = asked_for if kirin_task_id and asked_for != kirin_task_id else None
    return kirin_task_id or str(asked_for), known or reported or found_under


def _usable_id(value: Any) -> str:
    """Return an id that the gateway can be asked for; empty if the value cannot be one."""
    try:
        return validate_task_id(_text(value))
    except KirinIdError:
        return ""


def _bounded(videos: list[KirinVideo], dropped: list[str]) -> list[KirinVideo]:
    kept = [video for video in videos if len(video.url) <= MAX_URL][:MAX_VIDEOS]
    if len(kept) < len(videos):
        dropped.append(f"{len(videos) - len(kept):,} of {len(videos):,} videos")
    return kept


def _metadata(metadata: Any, dropped: list[str]) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        return {}
    size = len(json.dumps(metadata))
    if size > MAX_METADATA:
        dropped.append(f"metadata ({size:,} characters)")
        return {}
    return dict(metadata)


def _videos(output: Any) -> Iterator[KirinVideo]:
    """Yield the videos in ``output[].content[]``, or in the older, flat ``output[]``."""
    for item in output if isinstance(output, list) else []:
        if not isinstance(item, Mapping):
            continue
        content = item.get("content")
        for entry in content if isinstance(content, list) else [item]:
            if not isinstance(entry, Mapping):
                continue
            url, media_type = _text(entry.get("url")).strip(), _text(entry.get("type")) or "video"
            # Also as a media type: video/mp4.
            if url and media_type.lower().partition("/")[0] == "video":
                job_id = _name(entry.get("jobId")) or _name(entry.get("job_id")) or None
                yield KirinVideo(url=url, duration=_number(entry.get("duration")), job_id=job_id)


def _usage(usage: Any, dropped: list[str]) -> KirinUsage | None:
    if not isinstance(usage, Mapping):
        return None
    cost, discount = parse_decimal(usage.get("cost")), _number(usage.get("discount"))
    if cost is not None and cost < 0:
        dropped.append(f"usage.cost = {cost:f}")
        cost = None
    if discount is not None and discount < 0:
        dropped.append(f"usage.discount = {discount:g}")
        discount = None
    return KirinUsage(cost=cost, discount=discount)


def _error(error: Any) -> KirinTaskError | None:
    code, message = read_reason(error)
    return KirinTaskError(code, message) if code or message else None


def _is_success(error: Any) -> bool:
    """Return whether an error object reports success: ``{"code": 0, "message": "success"}``."""
    codes = [_text(error.get(name)) for name in ("error_code", "code")] if isinstance(error, Mapping) else []
    return "0" in codes and {"", "0"}.issuperset(codes)


def _reason_beside(status: Status, fields: Mapping[str, Any]) -> KirinTaskError | None:
    """Return why a generation failed if code and message are next to its status."""
    return _error(fields) if status == "failed" else None


def read_reason(source: Any) -> tuple[str, str]:
    """Return the code and the message of an error, each empty if there is none.

    :param source: the error as the gateway reports it: an object, a string, or a list of either
    """
    if isinstance(source, list):
        return next(filter(any, map(read_reason, source)), ("", ""))
    if isinstance(source, str):
        return "", one_line(source)
    if not isinstance(source, Mapping):
        return "", ""
    codes = (_text(source.get(name)) for name in ("error_code", "code"))
    words = (source.get(name) for name in ("error_message", "message", "msg"))
    code = next((code for code in codes if code not in ("", "0")), "")
    return one_line(code, 80), one_line(next((text for text in words if isinstance(text, str) and text), ""))


def _text(value: Any) -> str:
    """Return a string, or an integer as a string: ids and codes occur as either."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30 else ""


def _name(value: Any) -> str:
    """Return a string that is only shown and compared, short and on one line."""
    return one_line(_text(value), 200)


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
    return None if number is None or abs(number) >= 2**63 else int(number)


def _fraction(value: Any) -> float | None:
    number = _number(value)
    return None if number is None else min(max(number, 0.0), 1.0)


def parse_decimal(value: Any) -> Decimal | None:
    """Return an exact amount; None if the value is not one. The API sends amounts as strings or as numbers.

    :param value: a JSON value
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    # str() returns the shortest exact form of a float: 0.28 stays 0.28.
    text = str(value).strip() if not isinstance(value, int) else format(value if abs(value) < 10**30 else 0, "d")
    if len(text) > _LONGEST_AMOUNT:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < 30 else None
