"""From an HTTP response to a task or an error: the one reader for the sync and the async hook."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, parse_error
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.sanitize import MAX_DIGITS, MAX_TEXT, sanitize
from airflow_provider_kirin.api.task import KirinTask, unwrap
from airflow_provider_kirin.exceptions import KirinReplyError

#: Characters that are kept of a body that is not JSON.
_LONGEST_TEXT = 2000
#: Lists and objects of a body that is parsed. Tens of thousands of them make Python's garbage collector walk through
#: all that a triggerer holds, which stops its event loop for a tenth of a second, in whichever thread they are made.
_MOST_CONTAINERS = 2_000
_TASK_FIELDS = {"id", "task_id", "output"}


def parse_body(raw: bytes, *, hide: Callable[[str], str] | None = None) -> Any:
    """Return a response's JSON, or its text if it is not JSON. Everything in it is harmless from here on.

    :param raw: the body as it came
    :param hide: takes secrets out of a string
    """
    try:
        if raw.count(b"[") + raw.count(b"{") > _MOST_CONTAINERS:
            raise ValueError("too many lists and objects")
        # NaN and Infinity are not JSON, and the API has no use for them.
        body = json.loads(raw, parse_constant=lambda name: None, parse_float=_finite, parse_int=_integer)
    except (ValueError, RecursionError):
        # So much that what is cut off is behind what sanitize() looks at.
        body = raw[: 8 * MAX_TEXT + 8].decode("utf-8", errors="replace")
    clean = sanitize(body, hide=hide)
    return clean[:_LONGEST_TEXT] if isinstance(clean, str) else clean


def _finite(text: str) -> float | None:
    """Read a number; what is beyond a float (1e999) is no number that the API could mean."""
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= MAX_DIGITS else None


def envelope_status(body: Any) -> int | None:
    """Return the error that an envelope of the gateway's older services tells in the body, where HTTP said 200.

    :param body: decoded JSON or text
    """
    envelope = body.get("status") if isinstance(body, Mapping) else None
    code = envelope.get("code") if isinstance(envelope, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def parse_task(
    status: int, headers: Mapping[str, str], body: Any, *, doing: str, asked_for: str | None = None
) -> KirinTask:
    """Return the generation that a response describes.

    :param status: the HTTP status
    :param headers: the response's headers
    :param body: what :func:`parse_body` returned
    :param doing: what was tried, for messages
    :param asked_for: the id that was asked for; None for a submission
    :raises KirinAPIError: where the gateway said no
    :raises KirinReplyError: if the response is not the API's, or is about another generation; for a submission its
        outcome is unknown then
    """
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing=doing)
    if (inner := envelope_status(body)) is not None:
        raise error_from_response(inner, body, headers=headers, doing=doing)
    if not isinstance(body, Mapping):
        said = parse_error(body)[1] or "an empty body"
        raise KirinReplyError(
            f"The gateway answered HTTP {status} while {doing}, and not with a task object: {one_line(said, 120)}. "
            "Check the connection's Host; a proxy or a login page may have answered."
        )
    try:
        return KirinTask.from_response(body, asked_for=asked_for)
    except KirinReplyError:
        # What describes no generation at all may be an error under HTTP 200.
        code, message = parse_error(body) if _TASK_FIELDS.isdisjoint(unwrap(body)) else ("", "")
        if code or message:
            raise error_from_response(status, body, headers=headers, doing=doing) from None
        raise
