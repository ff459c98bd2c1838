"""The retry policy of polls, lookups, submissions and Airflow's retries: what may be repeated, and after how long.

A GET may be repeated freely. A POST costs money: it is repeated only if nothing can have been accepted, and never
without a lookup in between.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import TypeVar

from airflow_provider_kirin.api.pauses import pause, pause_async
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinBudgetError,
    KirinConfigError,
    KirinConflictError,
    KirinCreditError,
    KirinError,
    KirinIdError,
    KirinInputError,
    KirinNetworkError,
    KirinPayloadError,
    KirinRateLimitError,
    KirinTaskFailedError,
    KirinUnavailableError,
)

#: The first and the longest backoff delay in seconds; it doubles in between.
MIN_BACKOFF, MAX_BACKOFF = 2.0, 60.0
#: Seconds that a single ``get_task`` call of the hook keeps retrying temporary errors.
LOOKUP_PATIENCE = 10.0
#: Seconds between repeated lookups: right after a submission, or on a lagging replica, the API may not know the
#: generation yet.
LOOKUP_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)

T = TypeVar("T")
#: Returns the seconds until the next attempt, from the latest error and the number of errors in a row; None to give up.
DelayAfter = Callable[[KirinError, int], float | None]

#: HTTP statuses with which a server states that it did not process the request. Excluded are 408 and 499, after which
#: it may still continue, 409, and those that no gateway is known to send.
_REFUSING = frozenset(
    {*range(400, 408), 410, 411, 413, 414, 415, 417, 421, 422, 426, 428, 429, 431, 451},
)
#: Codes that occur only after a generation has started: the gateway's login at the provider (8002005006), and the last
#: ones of each model family: failed, provider unavailable, internal error, unreadable result (8002005098, 014002095).
_AFTER_ACCEPTANCE = re.compile(r"\d{6,}(006|09[5-9])")


class SubmissionOutcome(Enum):
    """What the error of a submission implies about money."""

    REJECTED = "nothing was accepted"
    ALREADY_EXISTS = "a generation with this external task id exists"
    UNKNOWN = "it may have been accepted, and be billed"


def backoff_delay(error: KirinError, attempt: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after an error: exponential with jitter, at least what the gateway asked for.

    :param error: the latest error
    :param attempt: the number of errors in a row, 1 for the first
    :param jitter: returns a number between 0 and 1
    """
    grown = min(MIN_BACKOFF * 2.0 ** min(attempt - 1, 10), MAX_BACKOFF) * (0.5 + jitter())
    asked = error.retry_after if isinstance(error, KirinAPIError) else None
    return max(grown, asked or 0.0)


def backoff_within(patience: float) -> DelayAfter:
    """Return the schedule of a call that may be repeated: back off after retryable errors, as long as time allows.

    :param patience: seconds from now
    """
    give_up_at = time.monotonic() + patience

    def delay_after(error: KirinError, attempt: int) -> float | None:
        delay = backoff_delay(error, attempt)
        return delay if error.retryable and time.monotonic() + delay <= give_up_at else None

    return delay_after


def fixed_delays(
    delays: Sequence[float] = LOOKUP_RETRY_DELAYS, *, only: Callable[[KirinError], bool] = lambda error: error.retryable
) -> DelayAfter:
    """Return the schedule of a call that is repeated after given delays.

    :param delays: seconds before each further attempt
    :param only: whether an error is worth another attempt
    """
    return lambda error, attempt: delays[attempt - 1] if attempt <= len(delays) and only(error) else None


def call_with_retries(
    call: Callable[[], T], delay_after: DelayAfter, *, on_retry: Callable[[float, KirinError], object]
) -> T:
    """Repeat a call that is free, and safe to repeat, until it succeeds; raise the error after which it is given up.

    :param call: what to call
    :param delay_after: :func:`backoff_within` or :func:`fixed_delays`
    :param on_retry: called with the delay and the error before each pause, to log them
    """
    for attempt in itertools.count(1):
        try:
            return call()
        except KirinError as error:
            if (delay := delay_after(error, attempt)) is None:
                raise
            on_retry(delay, error)
        pause(delay)
    raise AssertionError("unreachable")


async def await_with_retries(call: Callable[[], Awaitable[T]], delay_after: DelayAfter) -> T:
    """Do what :func:`call_with_retries` does, in an event loop.

    :param call: returns what to await
    :param delay_after: :func:`backoff_within` or :func:`fixed_delays`
    """
    for attempt in itertools.count(1):
        try:
            return await call()
        except KirinError as error:
            if (delay := delay_after(error, attempt)) is None:
                raise
        await pause_async(delay)
    raise AssertionError("unreachable")


def classify_submission_error(error: KirinError) -> SubmissionOutcome:
    """Return whether a submission that ended in an error can have been accepted.

    :param error: the error that :meth:`KirinHook.submit` raised
    """
    if isinstance(error, KirinConflictError):
        return SubmissionOutcome.ALREADY_EXISTS
    if isinstance(error, (KirinPayloadError, KirinIdError, KirinBudgetError)):
        return SubmissionOutcome.REJECTED
    if isinstance(error, KirinNetworkError):
        return SubmissionOutcome.UNKNOWN if error.sent else SubmissionOutcome.REJECTED
    if isinstance(error, KirinConfigError):
        # 307 and 308 ask to repeat the request elsewhere. Other redirects may follow a request that was processed.
        return SubmissionOutcome.REJECTED if error.http_status in (None, 307, 308) else SubmissionOutcome.UNKNOWN
    is_refusal = isinstance(error, KirinAPIError) and _is_refusal(error)
    return SubmissionOutcome.REJECTED if is_refusal else SubmissionOutcome.UNKNOWN


def _is_refusal(error: KirinAPIError) -> bool:
    """Return whether it is certain that the gateway accepted nothing, judging by the phase in which it failed.

    This requires an HTTP status that is only sent before a request is accepted. Any other, above all 408 and 5xx (such
    as a proxy's 504), may come after the gateway has accepted. The code must not be one of a started generation.
    """
    if error.code and _AFTER_ACCEPTANCE.fullmatch(error.code):
        return False
    is_plain = not isinstance(error, (KirinUnavailableError, KirinTaskFailedError))
    if error.http_status in _REFUSING:
        return is_plain
    # HTTP 200 with an error and without a generation: the code has to explain why nothing was accepted.
    has_reason = isinstance(error, (KirinInputError, KirinAuthError, KirinCreditError, KirinRateLimitError))
    return has_reason and error.http_status is not None and 200 <= error.http_status < 300
