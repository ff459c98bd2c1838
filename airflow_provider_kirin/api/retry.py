"""What may be repeated, and after how long: the one policy, for looks, submissions and Airflow's retries.

A GET may be repeated freely. A POST buys something: it is repeated only if nothing can have been accepted, and never
without a look-up in between.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from enum import Enum

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

#: The first pause and the longest, doubling in between. Seconds.
MIN_BACKOFF, MAX_BACKOFF = 2.0, 60.0
#: Seconds that one call to the hook rides out trouble for a single look.
LOOKUP_PATIENCE = 10.0
#: Right after a submission, and on a replica that lags, the API may not know what is there: pauses between further
#: looks. Seconds.
LOOKUP_RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)


#: HTTP statuses by which a server says that it did not do what it was asked to. Not among them: 408 and 499, after
#: which it may go on, 409, and those that no gateway is known to send.
_REFUSING = frozenset(
    {*range(400, 408), 410, 411, 413, 414, 415, 417, 421, 422, 426, 428, 429, 431, 451},
)
#: Codes of a generation that was begun: the gateway's login at the provider (8002005006), and the last ones of each
#: model's family: failed, provider unavailable, internal error, unreadable result (8002005098, 014002095).
_AFTER_ACCEPTANCE = re.compile(r"\d{6,}(006|09[5-9])")


class SubmissionOutcome(Enum):
    """What the error of a submission says about money."""

    REJECTED = "nothing was accepted"
    ALREADY_EXISTS = "a generation with this external task id exists"
    UNKNOWN = "it may have been accepted, and be billed"


def backoff_delay(error: KirinError, attempt: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after an error: doubling, jittered, never less than the gateway asked for.

    :param error: what went wrong
    :param attempt: how many errors there were in a row, 1 for the first
    :param jitter: returns 0 to 1
    """
    grown = min(MIN_BACKOFF * 2.0 ** min(attempt - 1, 10), MAX_BACKOFF) * (0.5 + jitter())
    asked = error.retry_after if isinstance(error, KirinAPIError) else None
    return max(grown, asked or 0.0)


def classify_submission_error(error: KirinError) -> SubmissionOutcome:
    """Tell whether a submission that ended in an error can have bought something.

    :param error: what :meth:`KirinHook.submit` raised
    """
    if isinstance(error, KirinConflictError):
        return SubmissionOutcome.ALREADY_EXISTS
    if isinstance(error, (KirinPayloadError, KirinIdError, KirinBudgetError)):
        return SubmissionOutcome.REJECTED
    if isinstance(error, KirinNetworkError):
        return SubmissionOutcome.UNKNOWN if error.sent else SubmissionOutcome.REJECTED
    if isinstance(error, KirinConfigError):
        # 307 and 308: the same request again, elsewhere. The others may mean that this one was done.
        return SubmissionOutcome.REJECTED if error.http_status in (None, 307, 308) else SubmissionOutcome.UNKNOWN
    is_refusal = isinstance(error, KirinAPIError) and _is_refusal(error)
    return SubmissionOutcome.REJECTED if is_refusal else SubmissionOutcome.UNKNOWN


def _is_refusal(error: KirinAPIError) -> bool:
    """Return whether the gateway surely accepted nothing: judged by the phase in which it said no.

    That takes an HTTP status which is sent before a request is accepted: any other, 408 and 5xx above all, may come
    from a proxy after the gateway behind it accepted. And its code must not say that the generation was begun.
    """
    if error.code and _AFTER_ACCEPTANCE.fullmatch(error.code):
        return False
    is_plain = not isinstance(error, (KirinUnavailableError, KirinTaskFailedError))
    if error.http_status in _REFUSING:
        return is_plain
    # HTTP 200 with an error and no generation in it: its code has to say why nothing was accepted.
    has_reason = isinstance(error, (KirinInputError, KirinAuthError, KirinCreditError, KirinRateLimitError))
    return has_reason and error.http_status is not None and 200 <= error.http_status < 300
