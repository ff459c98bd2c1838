"""Parse HTTP responses into generations or errors, for both the sync and the async hook."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, parse_error, parse_own_error
from airflow_provider_kirin.api.reasons import describe_body
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.sanitize import MAX_DIGITS, MAX_TEXT, is_plain, sanitize
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.task_fields import unwrap
from airflow_provider_kirin.exceptions import KirinResponseError

#: Characters kept of a body that is not JSON.
_MAX_BODY_TEXT = 2000
#: Maximum number of lists and objects in a JSON body. Tens of thousands of them cause a full garbage collection, which
#: stops the triggerer's event loop for a tenth of a second, in whichever thread they are created.
_MAX_CONTAINERS = 2_000
_TASK_FIELDS = {"id", "task_id", "output"}


def parse_body(raw: bytes, *, hide: Callable[[str], str] | None = None) -> Any:
    """Return the decoded JSON of a response, or its text if it is not JSON. The result is sanitized.

    :param raw: the body as received
    :param hide: removes secrets from a string
    """
    try:
        if raw.count(b"[") + raw.count(b"{") > _MAX_CONTAINERS:
            raise ValueError("too many lists and objects")
        body = _DECODER.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except (ValueError, RecursionError):
        # Enough bytes that the cut lies beyond what sanitize() reads.
        body = raw[: 8 * MAX_TEXT + 8].decode(json.detect_encoding(raw), errors="replace")
    else:
        if is_plain(raw, hide=hide):
            return body
    clean = sanitize(body, hide=hide)
    return clean[:_MAX_BODY_TEXT] if isinstance(clean, str) else clean


def _finite(text: str) -> float | None:
    """Parse a number; one that overflows a float (1e999) becomes None."""
    number = float(text)
    return number if math.isfinite(number) else None


def _integer(text: str) -> int | None:
    return int(text) if len(text.removeprefix("-")) <= MAX_DIGITS else None


#: NaN and Infinity are not JSON, and the API does not use them.
_DECODER = json.JSONDecoder(parse_constant=lambda name: None, parse_float=_finite, parse_int=_integer)


def envelope_status(body: Any) -> int | None:
    """Return the error status in the body's envelope: older services of the gateway send it with HTTP 200.

    :param body: decoded JSON, or a string
    """
    envelope = body.get("status") if isinstance(body, Mapping) else None
    code = envelope.get("code") if isinstance(envelope, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def parse_task(
    status: int,
    headers: Mapping[str, str],
    body: Any,
    *,
    doing: str,
    asked_for: str | None = None,
    external_task_id: str | None = None,
) -> KirinTask:
    """Return the generation that a response describes.

    :param status: the HTTP status
    :param headers: the response headers
    :param body: what :func:`parse_body` returned
    :param doing: the action for messages, such as ``submitting the generation``
    :param asked_for: the id that was asked for; None for a submission
    :param external_task_id: the external task id of that generation, if the caller knows it: not every response
        repeats it
    :raises KirinAPIError: the gateway returned an error
    :raises KirinResponseError: the response is not the API's, or describes another generation; the outcome of a
        submission is then unknown
    """
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing=doing)
    if (inner := envelope_status(body)) is not None:
        raise error_from_response(inner, body, headers=headers, doing=doing)
    if not isinstance(body, Mapping):
        said = parse_error(body)[1] or "an empty body"
        raise KirinResponseError(
            f"The gateway returned HTTP {status} while {doing}, but not a task object: {one_line(said, 120)}. "
            "Check the connection's Host; a proxy or a login page may have responded."
        )
    try:
        return KirinTask.from_response(body, asked_for=asked_for, external_task_id=external_task_id, is_sanitized=True)
    except KirinResponseError as error:
        # A body that does not describe a generation at all may be an error sent with HTTP 200.
        is_task = not _TASK_FIELDS.isdisjoint(unwrap(body))
        if not is_task and any(parse_own_error(body)):
            raise error_from_response(status, body, headers=headers, doing=doing) from None
        if not is_task and (said := describe_body(body)):
            error.append(f"It says: {said}")
        raise
