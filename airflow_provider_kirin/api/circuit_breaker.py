"""Whether the gateway is there at all: one view for all that ask it in one process. No I/O and no clock.

A gateway that is down is not asked by a thousand waits, each in its own rhythm, but by one of them at a time, ever
more rarely. Times are seconds of any clock that does not go back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeGuard

from airflow_provider_kirin.api.retry import backoff_delay
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinReplyError,
    KirinUnavailableError,
)

#: So many troubles in a row, with no sign of life between them, mean that it is down.
FAILURE_THRESHOLD = 5
#: A probe without an answer for so many seconds is not waited for: it may have been cancelled.
PROBE_TIMEOUT = 30.0


class CircuitBreaker:
    """Let one call at a time through while the gateway is down.

    :param jitter: returns 0 to 1; spreads the probes of several processes
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0
        self._probe_at = 0.0
        self._is_probing = False
        #: The last trouble, while the gateway is down.
        self.last_error: KirinError | None = None

    def acquire(self, now: float) -> float:
        """Take leave to call: return 0, or the seconds until it may be given.

        While the gateway is down, the first one that asks when a probe is due is the probe.

        :param now: the time
        """
        if self.last_error is None:
            return 0.0
        if now < self._probe_at:
            return self._probe_at - now
        self._probe_at, self._is_probing = now + PROBE_TIMEOUT, True
        return 0.0

    def record_result(self, error: KirinError | None, now: float) -> bool:
        """Take note of how a call ended, and return whether the gateway came back with it.

        :param error: what it ended in, if not well; one that only a living gateway gives is a sign of life
        :param now: the time
        """
        if not _is_failure(error):
            was_down = self.last_error is not None
            self._failures, self.last_error = 0, None
            return was_down
        if self.last_error is not None and not self._is_probing:
            # It was under way when the gateway was found to be down, and says nothing new.
            return False
        self._failures += 1
        if self._failures >= FAILURE_THRESHOLD:
            self.last_error, self._is_probing = error, False
            beyond = self._failures - FAILURE_THRESHOLD + 1
            self._probe_at = now + backoff_delay(error, beyond, jitter=self._jitter)
        return False


def _is_failure(error: KirinError | None) -> TypeGuard[KirinError]:
    if isinstance(error, (KirinAuthError, KirinNotFoundError)):
        # A load balancer without a gateway behind it says 404, too, and a firewall that has enough 403.
        return not error.from_api
    return isinstance(error, (KirinNetworkError, KirinReplyError, KirinUnavailableError))
