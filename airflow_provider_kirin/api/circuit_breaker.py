"""Detect that the gateway is down, once for everything that calls it in one process. No I/O and no clock.

While the gateway is down, a thousand waits do not all keep polling it: one of them probes it, at growing intervals.
Times are in seconds by any monotonic clock.
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
    KirinResponseError,
    KirinUnavailableError,
)

#: The gateway counts as down after this many consecutive failures.
FAILURE_THRESHOLD = 5
#: Seconds after which a probe without a result is given up, as it may have been cancelled.
PROBE_TIMEOUT = 30.0


class CircuitBreaker:
    """Lets one call at a time through while the gateway is down.

    :param jitter: returns a number between 0 and 1; spreads the probes of several processes
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0
        self._probe_at = 0.0
        self._is_probing = False
        #: The last error while the gateway is down; None while it is up.
        self.last_error: KirinError | None = None

    def acquire(self, now: float) -> float:
        """Request permission for a call: return 0 if it may be made now, else the seconds until trying again.

        While the gateway is down, the first caller after a probe is due becomes the probe.

        :param now: the current time
        """
        if self.last_error is None:
            return 0.0
        if now < self._probe_at:
            return self._probe_at - now
        self._probe_at, self._is_probing = now + PROBE_TIMEOUT, True
        return 0.0

    def record_result(self, error: KirinError | None, now: float) -> bool:
        """Record the result of a call, and return whether it shows that the gateway is up again.

        :param error: the error of the call, or None; an error that only a working gateway returns is not a failure
        :param now: the current time
        """
        if not _is_failure(error):
            was_down = self.last_error is not None
            self._failures, self.last_error = 0, None
            return was_down
        if self.last_error is not None and not self._is_probing:
            # The call began before the gateway was found to be down, and carries no new information.
            return False
        self._failures += 1
        if self._failures >= FAILURE_THRESHOLD:
            self.last_error, self._is_probing = error, False
            beyond = self._failures - FAILURE_THRESHOLD + 1
            self._probe_at = now + backoff_delay(error, beyond, jitter=self._jitter)
        return False


def _is_failure(error: KirinError | None) -> TypeGuard[KirinError]:
    if isinstance(error, (KirinAuthError, KirinNotFoundError)):
        # A load balancer without a gateway behind it also returns 404, and a firewall that blocks us 403.
        return not error.from_api
    return isinstance(error, (KirinNetworkError, KirinResponseError, KirinUnavailableError))
