"""What may be repeated, and after how long: the one policy, for looks, submissions and Airflow's retries.

A GET may be repeated freely. A POST buys something: it may be repeated only where nothing can have been accepted, or
after a look-up said so.
"""

from __future__ import annotations

import random
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
)

#: The first pause and the longest, doubling in between. Seconds.
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
#: Seconds that one call to the hook rides out trouble for a single look.
LOOK_PATIENCE = 10.0
#: Right after a submission, and on a replica that lags, the API may not know what is there: pauses between further
#: looks. Seconds.
LAG_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Verdict(Enum):
    """What the error of a submission says about money."""

    REFUSED = "nothing was accepted"
    EXISTS = "a generation with this external task id exists"
    UNKNOWN = "it may have been accepted, and be billed"


def pause(error: KirinError, attempt: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after an error: doubling, jittered, never less than the gateway asked for.

    :param error: what went wrong
    :param attempt: how many errors there were in a row, 1 for the first
    :param jitter: returns 0 to 1
    """
    grown = min(FIRST_PAUSE * 2.0 ** min(attempt - 1, 10), LONGEST_PAUSE) * (0.5 + jitter())
    asked = error.retry_after if isinstance(error, KirinAPIError) else None
    return max(grown, asked or 0.0)


def judge_submission(error: KirinError) -> Verdict:
    """Tell whether a submission that ended in an error can have bought something.

    :param error: what :meth:`KirinHook.submit` raised
    """
    if isinstance(error, KirinConflictError):
        return Verdict.EXISTS
    if isinstance(error, (KirinConfigError, KirinPayloadError, KirinIdError, KirinBudgetError)):
        return Verdict.REFUSED
    if isinstance(error, KirinNetworkError):
        return Verdict.UNKNOWN if error.sent else Verdict.REFUSED
    if isinstance(error, (KirinInputError, KirinAuthError, KirinCreditError, KirinRateLimitError)):
        return Verdict.REFUSED
    status = error.http_status if isinstance(error, KirinAPIError) else None
    # 408 and 5xx may come from a proxy, after the gateway behind it accepted.
    return Verdict.REFUSED if status is not None and 400 <= status < 500 and status != 408 else Verdict.UNKNOWN
