"""Map error responses and failed generations to exceptions, and decide whether another try can help.

Sources: the error tables of doc.vtrix.ai (kirin-v1-6-i2v, kirin-duration-extension), the gateway's own clients
(credit codes, integer codes), and Kling's table, because some vendor codes pass through unchanged.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_kirin.api.reasons import describe_body, find_words, read_reason
from airflow_provider_kirin.api.redaction import one_line, short_repr
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinCapacityError,
    KirinConfigError,
    KirinConflictError,
    KirinCreditError,
    KirinError,
    KirinInputError,
    KirinNotFoundError,
    KirinNoVideoError,
    KirinRateLimitError,
    KirinTaskFailedError,
    KirinUnavailableError,
)

#: Upper bound in seconds for a Retry-After header; a larger value is assumed to be a mistake.
MAX_RETRY_AFTER = 300.0


@dataclass(frozen=True)
class _Meaning:
    error: type[KirinAPIError]
    advice: str
    retryable: bool | None = None


_CREDIT = _Meaning(KirinCreditError, "Top up the account, then run the step again")
_RATE = _Meaning(KirinRateLimitError, "Nothing was accepted; try again later, or run fewer at once (an Airflow pool)")
_FULL = _Meaning(KirinCapacityError, "The account is full: a generation has to end first")
_KEY = _Meaning(KirinAuthError, "Check the connection's API Key, and that it is allowed to use this model")
_INPUT = _Meaning(KirinInputError, "Change the payload; the same one will fail again")
_FAILED = _Meaning(KirinTaskFailedError, "Only a new submission can help")
_DOWN = _Meaning(KirinUnavailableError, "Try again later")

#: The API's codes. 8002005xxx: kirin_v1_6_i2v; 014002xxx: kirin_duration_extension; 402xx: the gateway's accounts;
#: four digits: Kling's own. The error's class decides whether another try can help, unless a third value does. A code
#: that only a started generation has also belongs to ``_AFTER_ACCEPTANCE`` in :mod:`.retry`.
CODES: dict[str, _Meaning] = {
    "8002005001": _Meaning(KirinInputError, "The API found no image: set image or image_tail"),
    "8002005002": _Meaning(KirinInputError, "The API cannot read the image: use a JPEG or PNG that it can reach"),
    "8002005003": _Meaning(KirinInputError, "The prompt must have 1 to 2,500 characters"),
    "8002005004": _Meaning(KirinInputError, 'duration must be "5" or "10"'),
    "8002005005": _Meaning(KirinInputError, "The image's aspect ratio must be between 1:2.5 and 2.5:1"),
    # The gateway's own login at the provider, not the user's key: usually temporary.
    "8002005006": _Meaning(KirinAuthError, "The gateway could not log in to the provider; try again later", True),
    "8002005098": _FAILED,
    "8002005099": _DOWN,
    "014002095": _FAILED,
    "014002096": _FAILED,
    "014002097": _FAILED,
    "014002099": _FAILED,
    "110001": _Meaning(KirinInputError, "The image was judged sensitive; use another one"),
    "190000": _Meaning(KirinInputError, "The API could not download the audio; use a URL that it can reach"),
    **{str(code): _CREDIT for code in (*range(40201, 40209), 1101, 1102)},
    "1302": _RATE,
    "1303": _FULL,
    **{str(code): _KEY for code in (1000, 1001, 1002, 1003, 1004, 1103, 1304)},
    **{str(code): _INPUT for code in (1200, 1201, 1300, 1301)},
    **{str(code): _DOWN for code in (5000, 5001, 5002)},
}

STATUSES: dict[int, _Meaning] = {
    400: _INPUT,
    401: _KEY,
    402: _CREDIT,
    403: _KEY,
    404: _Meaning(
        KirinNotFoundError, "Check the id, the connection's Host, and that the key belongs to the same account"
    ),
    409: _Meaning(KirinConflictError, "Another generation already has this external task id"),
    413: _Meaning(KirinInputError, "The request is too large for the gateway: pass the images as URLs"),
    422: _INPUT,
    425: _DOWN,
    429: _RATE,
}

_ABOUT_A_PATH = ("/generation/", "url", "route", "path", "endpoint", "page", "cannot get", "app not found", "backend")
#: Error fields that web frameworks and proxies use, and this API does not.
_NOT_THE_API = {"path", "msg", "errors"}
#: A 429 about generations at once, not about requests: seconds help against the one, and only an end against the other.
_FULL_WORDS = re.compile(
    r"\b(?:parallel|concurren\w+|simultaneous\w*)\b(?!\W+(?:api\W+)?(?:requests?|connections?|calls?)\b)"
    r"|\b(?:running|active|unfinished) (?:tasks|jobs|generations)\b"
    r"|\b(?:tasks|jobs|generations) (?:running|in progress)\b"
)
_CREDIT_WORDS = re.compile(r"\b(balance|credits?|arrears|recharge|top[ -]up)\b")


def error_from_response(status: int, body: Any, *, headers: Mapping[str, str] | None = None, doing: str) -> KirinError:
    """Return the exception for an HTTP error response.

    :param status: the HTTP status, or the one in the envelope
    :param body: decoded JSON, or a string if the body is not JSON
    :param headers: the response headers
    :param doing: the action for the message, such as ``submitting the generation``
    """
    lowered = {name.lower(): value for name, value in (headers or {}).items()}
    if 300 <= status < 400:
        return KirinConfigError(
            f"The gateway redirected (HTTP {status}) to {one_line(lowered.get('location', 'nowhere'))} while {doing}. "
            "Redirects are not followed, as that would send the API key to another address. Correct the connection's "
            "Host.",
            http_status=status,
        )
    # Whether it is safe to submit again rests on the API's own names: others may repeat the prompt.
    code, message = parse_own_error(body)
    meaning = _meaning(status, code, message)
    request_id = lowered.get("x-request-id") or (body.get("request_id") if isinstance(body, Mapping) else None)
    said = ", ".join(filter(None, [f"HTTP {status}", code and f"code {code}"]))
    words = _words_of(body, message) or ("" if code else describe_body(body)) or "no message"
    text = f"Kirin returned an error while {doing} ({said}): {words}. {meaning.advice}."
    error = meaning.error(
        f"{text} [request id {one_line(request_id, 80)}]" if request_id else text,
        http_status=status,
        code=code or None,
        request_id=one_line(request_id, 80) if request_id else None,
        retry_after=parse_retry_after(lowered.get("retry-after")),
        retryable=meaning.retryable,
    )
    if isinstance(error, KirinNotFoundError):
        error.from_api = _is_about_a_task(body, code, message)
    elif isinstance(error, KirinAuthError):
        # A firewall's HTML page says nothing about the key; a response without a body is taken at face value.
        error.from_api = isinstance(body, Mapping) or not body
    return error


def _is_about_a_task(body: Any, code: str, message: str) -> bool:
    """Return whether a 404 comes from the API itself: JSON with the API's message field, not about a path.

    API gateways use other field names (APISIX: ``error_msg``), and web frameworks repeat the ``path``.
    """
    is_own = isinstance(body, Mapping) and _NOT_THE_API.isdisjoint(body)
    return is_own and bool(message) and not is_about_a_path(f"{code} {message}")


def is_about_a_path(said: str) -> bool:
    """Return whether an error message is about an unknown URL path, not about an unknown task.

    :param said: code and message of the error
    """
    lowered = said.lower()
    return any(word in lowered for word in _ABOUT_A_PATH)


def _meaning(status: int, code: str, message: str) -> _Meaning:
    if status >= 500 or status == 408:
        # Regardless of the body: it may come from a proxy, for a request that the gateway behind it has accepted.
        return _DOWN
    said = message.lower()
    if status in (401, 402, 403, 429) and _CREDIT_WORDS.search(said):
        return _CREDIT
    if (
        status in (400, 409, 422)
        and "external_task_id" in said
        and any(word in said for word in ("exist", "duplicate", "in use", "unique", "used"))
    ):
        return STATUSES[409]
    if code in CODES:
        return CODES[code]
    if status == 429 and _FULL_WORDS.search(said):
        return _FULL
    if status in STATUSES:
        return STATUSES[status]
    return _Meaning(KirinAPIError, "Check the connection's Host, and proxies in between")


def parse_error(body: Any) -> tuple[str, str]:
    """Return the code and message of an error body, in any format.

    :param body: decoded JSON, or a string
    """
    code, message = parse_own_error(body)
    return code, _words_of(body, message)


def _words_of(body: Any, message: str) -> str:
    """Return what an error body says: its message in the API's own format, or else what is there."""
    more = body.get("error_description") if isinstance(body, Mapping) else None
    if message and isinstance(more, str) and body.get("error") == message:
        # As OAuth has it, beside a code.
        return one_line(f"{message}: {more}")
    no_words = "" if body is None or isinstance(body, (str, Mapping)) else short_repr(body)
    return message or one_line(find_words(body)) or no_words


def parse_own_error(body: Any) -> tuple[str, str]:
    """Return the code and message of an error body, in a format that this API is known to use.

    :param body: decoded JSON, or a string
    """
    if isinstance(body, str):
        looks_like_html = body.lstrip()[:200].lower().startswith(("<!doctype", "<html"))
        return "", "an HTML page, not the API's JSON" if looks_like_html else one_line(body)
    if not isinstance(body, Mapping):
        return "", ""
    # A bare string under status or data is not an error; under error it is the last resort.
    nested = [body.get(name) for name in ("status", "error", "data") if isinstance(body.get(name), Mapping)]
    found = [read_reason(source) for source in (*nested, body, body.get("errors"), body.get("error"))]
    code = next((code for code, _ in found if code), "")
    message = next((message for _, message in found if message), "")
    detail = body.get("detail")
    return code, message or (one_line(detail) if isinstance(detail, str) else "")


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds requested by a Retry-After header, at most :data:`MAX_RETRY_AFTER`.

    :param value: the header: seconds or an HTTP date
    :param now: the current time; by default the system clock
    """
    if not value:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = email.utils.parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER)


def error_from_task(kirin_task: KirinTask) -> KirinAPIError | None:
    """Return the exception for a finished generation; None if it has a video.

    :param kirin_task: a generation in a final state
    """
    if kirin_task.status == "completed" and kirin_task.videos:
        return None
    error = kirin_task.error
    code, message = (one_line(error.code, 80), one_line(error.message)) if error else ("", "")
    said = f" with code {code}" if code else ""
    if kirin_task.status == "completed":
        why = f"{said}: {message or 'no reason given'}" if error else ". It was moderated, or its result has expired"
        return _about(
            kirin_task,
            KirinNoVideoError(
                f"Kirin generation {kirin_task.id} completed without a video{why}. {advice_for(kirin_task)}",
                code=code or None,
            ),
        )
    meaning = CODES.get(code, _FAILED)
    return _about(
        kirin_task,
        meaning.error(
            f"Kirin generation {kirin_task.id} failed{said}: {message or 'no reason given'}. {advice_for(kirin_task)}",
            code=code or None,
            retryable=meaning.retryable,
        ),
    )


def advice_for(kirin_task: KirinTask) -> str:
    """Return what to do about a generation that ended without a video.

    :param kirin_task: a generation in a final state
    """
    if kirin_task.status == "completed" and kirin_task.has_unreadable_output:
        return "It may have a video, and be billed: look at it in your Kirin account before you submit another one."
    if kirin_task.status == "completed":
        return "Waiting longer cannot help; change the image or the prompt and submit a new generation."
    if kirin_task.raw_status and kirin_task.has_unknown_status:
        return (
            "This status may not be final: look at it in your Kirin account before you increase `take` for a new one."
        )
    code = one_line(kirin_task.error.code, 80) if kirin_task.error else ""
    return f"{CODES.get(code, _FAILED).advice}."


def _about(kirin_task: KirinTask, error: KirinAPIError) -> KirinAPIError:
    error.kirin_task = kirin_task
    return error
