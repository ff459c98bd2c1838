"""Read the fields of a task object leniently: the gateway's, or one that was restored from XCom.

Sources: the task object of doc.vtrix.ai (page kirin-v1-6-i2v), and what public clients of the gateway accept: numbers
as strings, errors as strings, synonyms for a status, missing fields.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

from airflow_provider_kirin.api.reasons import (
    find_any_words,
    find_failure,
    find_words,
    read_any_reason,
    read_reason,
    read_text,
)
from airflow_provider_kirin.api.redaction import one_line, redact_values, short_repr
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.exceptions import KirinIdError, KirinResponseError

Status = Literal["in_progress", "completed", "failed"]

#: What may lead to a video, in an output of an unknown form: the last letter of a scheme, and what follows it. From its
#: first letter on, the time for a long word would grow with the square of its length.
_LINK = re.compile(r"[a-z][0-9+.-]*://", re.IGNORECASE)
#: What may be a signature or a password in a URL of any scheme, up to the end of its JSON string.
_SECRET = re.compile(r'\?(?:[^"\\]|\\.)*|(?<=//)[^/@"]*@')

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

#: What a task object also has without a failure.
_ORDINARY_FIELDS = frozenset(
    {*("id", "task_id", "external_task_id", "status", "model", "created_at", "updated_at", "progress"), "output"}
    | {"usage", "metadata", "error", "errors", "request_id", "title", "description", "text"}
)

#: Maximum length of an amount of money.
_MAX_AMOUNT_LENGTH = 64
#: Highest cost of one generation, in US dollars, that is believed: a video costs a few, and a mistake must not use up a
#: budget.
MAX_COST = 1000
#: What an error says if there is none, in lower case.
_NO_ERROR = frozenset(
    {"", "-", "[]", "{}", "false", "n/a", "nil", "no error", "no error occurred", "no errors", "none", "null", "ok"}
    | {"0", "succeed", "succeeded", "success", "successful", "undefined"}
)
#: Maximum number of videos of one generation. The models make one; some related ones, up to nine.
MAX_VIDEOS = 100
#: Maximum length of a video's URL. Signed URLs have some hundred characters, rarely two thousand.
MAX_URL = 8192
#: Maximum length of ``metadata`` as JSON; larger metadata is dropped as a whole.
MAX_METADATA = 16_384


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


def read_ids(fields: Mapping[str, Any], asked_for: str | None, known: str | None) -> tuple[str, str | None]:
    """Return Kirin task id and external task id of the generation in a response, which has to be the expected one.

    A gateway that was asked by an external task id may answer with its own id and not repeat the other: only a
    response that repeats neither, or names another external task id, is about something else.

    :param fields: the task object
    :param asked_for: the id that was asked for; None for a submission
    :param known: the external task id, if the caller knows it
    :raises KirinResponseError: it names no usable id, or another generation
    """
    kirin_task_id = read_id(fields.get("id")) or read_id(fields.get("task_id"))
    external_task_id = read_text(fields.get("external_task_id")).strip()
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
    reported = read_id(external_task_id)
    # An id that only repeats the external task id is not the generation's own.
    if known and (reported not in ("", known.strip()) or (asked_for is None and kirin_task_id == known.strip())):
        raise KirinResponseError(
            f"The response about {short_repr(known)} describes another generation: {short_repr(kirin_task_id)}, "
            f"external task id {short_repr(reported)}."
        )
    # Not every response repeats it. A generation that was found under another id than its own was found under this one.
    found_under = asked_for if kirin_task_id and asked_for != kirin_task_id else None
    return kirin_task_id or str(asked_for), known or reported or found_under


def read_id(value: Any) -> str:
    """Return an id that the gateway can be asked for; empty if the value cannot be one."""
    try:
        return validate_task_id(read_text(value))
    except KirinIdError:
        return ""


def read_status(fields: Mapping[str, Any]) -> tuple[Status, str]:
    """Return the status, and the same in the gateway's own words.

    :param fields: the task object
    """
    raw_status = read_text(fields.get("status"))
    if (status := STATUSES.get(raw_status.strip().lower())) is not None:
        return status, raw_status
    # A status that this provider does not know ends the generation if an error is beside it.
    ends = bool(raw_status and any(_reason_in(fields)))
    return "failed" if ends else "in_progress", raw_status


def _is_success(error: Any) -> bool:
    """Return whether an error object reports success: ``{"code": 0, "message": "success"}``."""
    codes = [read_text(error.get(name)) for name in ("error_code", "code")] if isinstance(error, Mapping) else []
    return "0" in codes and {"", "0"}.issuperset(codes)


def read_failure(fields: Mapping[str, Any], status: Status) -> tuple[str, str]:
    """Return the code and the message of why a generation ended without a video, each empty if there is none.

    :param fields: the task object
    :param status: from :func:`read_status`; a failed generation may have code and message next to its status
    """
    reason = _reason_in(fields)
    return read_reason(fields) if status == "failed" and not any(reason) else reason


def search_failure(fields: Mapping[str, Any], status: Status) -> str:
    """Return what may be the reason, if it is not where a reason should be: anywhere in the task object.

    :param fields: the task object
    :param status: from :func:`read_status`; what a generation says that failed is about the failure
    """
    besides = {name: value for name, value in fields.items() if name not in _ORDINARY_FIELDS}
    others = {name: value for name, value in fields.items() if name != "error" or not _is_success(value)}
    words = find_failure(others)
    words = words or (find_words(besides) if status == "failed" else "") or find_any_words(fields.get("output"))
    return words if _is_error("", words := one_line(words)) else ""


def _reason_in(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return code and message of an error that is reported as such."""
    if _is_success(fields.get("error")):
        return "", ""
    reasons = map(read_any_reason, (fields.get("error"), fields.get("errors")))
    return next((reason for reason in reasons if _is_error(*reason)), ("", ""))


def _is_error(code: str, message: str) -> bool:
    is_code = code.strip("0") != "" and code != "200" and code.lower() not in _NO_ERROR
    return is_code or message.lower().strip(" .!") not in _NO_ERROR


def read_videos(output: Any, dropped: list[str]) -> list[tuple[str, float | None, str | None]]:
    """Return URL, duration and job id of each video.

    :param output: the list of outputs
    :param dropped: gets a description of what is left out
    """
    videos = list(_videos(output))
    kept = [video for video in videos if len(video[0]) <= MAX_URL][:MAX_VIDEOS]
    if len(kept) < len(videos):
        dropped.append(f"{len(videos) - len(kept):,} of {len(videos):,} videos")
    return kept


def _videos(output: Any) -> Iterator[tuple[str, float | None, str | None]]:
    """Yield the videos in ``output[].content[]``, or in the older, flat ``output[]``."""
    for item in _entries(output):
        content = item.get("content")
        for entry in _entries(content) if isinstance(content, (list, Mapping)) else [item]:
            url, media_type = read_text(entry.get("url")).strip(), read_text(entry.get("type")) or "video"
            # Also as a media type: video/mp4.
            if url and media_type.lower().partition("/")[0] == "video":
                job_id = read_name(entry.get("jobId")) or read_name(entry.get("job_id")) or None
                yield url, read_number(entry.get("duration")), job_id


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a list; an object may stand for a list of one."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping)]


def read_unreadable(output: Any) -> str:
    """Return an output, shortened, if it has a link that may lead to a video; otherwise an empty string.

    :param output: an output in which no video was recognized
    """
    text = json.dumps(output, ensure_ascii=False)
    return one_line(_SECRET.sub("", text), 160) if _LINK.search(text) else ""


def read_usage(usage: Any, dropped: list[str]) -> tuple[Decimal | None, float | None] | None:
    """Return cost and discount; None if the gateway reports neither.

    :param usage: the object of both
    :param dropped: gets a description of what is left out
    """
    if not isinstance(usage, Mapping):
        return None
    cost, discount = parse_decimal(usage.get("cost")), read_number(usage.get("discount"))
    if cost is not None and not 0 <= cost <= MAX_COST:
        dropped.append(f"usage.cost = {cost:f}")
        cost = None
    if discount is not None and discount < 0:
        dropped.append(f"usage.discount = {discount:g}")
        discount = None
    return cost, discount


def read_metadata(metadata: Any, dropped: list[str]) -> dict[str, Any]:
    """Return whatever else the gateway reports.

    :param metadata: the object of it
    :param dropped: gets a description of what is left out
    """
    if not isinstance(metadata, Mapping):
        return {}
    size = len(json.dumps(metadata))
    if size > MAX_METADATA:
        dropped.append(f"metadata ({size:,} characters)")
        return {}
    # A gateway may repeat the request.
    return {name: redact_values(value) for name, value in metadata.items()}


def read_name(value: Any) -> str:
    """Return a string that is only shown and compared, short and on one line."""
    return one_line(read_text(value), 200)


def read_number(value: Any) -> float | None:
    """Return a finite number, which may be reported as a string; None if the value is not one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_integer(value: Any) -> int | None:
    """Return an integer of 64 bits; None if the value is not one."""
    number = read_number(value)
    return None if number is None or abs(number) >= 2**63 else int(number)


def read_fraction(value: Any) -> float | None:
    """Return a number from 0 to 1; None if the value is not a number."""
    number = read_number(value)
    return None if number is None else min(max(number, 0.0), 1.0)


def parse_decimal(value: Any) -> Decimal | None:
    """Return an exact amount; None if the value is not one. The API sends amounts as strings or as numbers.

    :param value: a JSON value
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, int) and abs(value) >= 10**30:
        return None
    # str() returns the shortest exact form of a float: 0.28 stays 0.28.
    text = str(value).strip()
    if len(text) > _MAX_AMOUNT_LENGTH:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) < 30 else None
