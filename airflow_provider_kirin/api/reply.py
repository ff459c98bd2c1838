"""From the bytes of an HTTP reply to a task or an error: the one reader for the sync and the async hook."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, read_error
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.text import one_line
from airflow_provider_kirin.exceptions import KirinReplyError

#: A task object has a few hundred bytes. More than this is not read: it is not the API that answers. Bytes.
LONGEST_REPLY = 4 * 1024 * 1024


def read_body(raw: bytes) -> Any:
    """Return a reply's JSON, or its text where it is none.

    :param raw: the body as it came
    """
    try:
        # NaN and Infinity are no JSON, and no value of the API has use for them.
        return json.loads(raw, parse_constant=lambda name: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return raw[:2000].decode("utf-8", errors="replace")


def _finite(text: str) -> float | None:
    """Read a number; what is beyond a float (1e999) is no number that the API could mean."""
    number = float(text)
    return number if math.isfinite(number) else None


def inner_status(body: Any) -> int | None:
    """Return the error that an envelope of the gateway's older services tells in the body, where HTTP said 200.

    :param body: decoded JSON or text
    """
    envelope = body.get("status") if isinstance(body, Mapping) else None
    code = envelope.get("code") if isinstance(envelope, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def read_task(
    status: int, headers: Mapping[str, str], raw: bytes, *, doing: str, asked_for: str | None = None
) -> KirinTask:
    """Return the generation that a reply speaks of.

    :param status: the HTTP status
    :param headers: the reply's headers
    :param raw: the reply's body
    :param doing: what was tried, for messages
    :param asked_for: the id that was asked for; None for a submission
    :raises KirinAPIError: where the gateway said no
    :raises KirinReplyError: where the reply is not the API's; for a submission its outcome is unknown then
    """
    body = read_body(raw)
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing=doing)
    if (inner := inner_status(body)) is not None:
        raise error_from_response(inner, body, headers=headers, doing=doing)
    if not isinstance(body, Mapping):
        said = read_error(body)[1] or "an empty body"
        raise KirinReplyError(
            f"The gateway answered HTTP {status} while {doing}, and not with a task object: {one_line(said, 120)}. "
            "Check the connection's Host; a proxy or a login page may have answered."
        )
    try:
        return KirinTask.from_reply(body, asked_for=asked_for)
    except KirinReplyError:
        code, message = read_error(body)
        if code or message:
            raise error_from_response(status, body, headers=headers, doing=doing) from None
        raise
