"""Limit the rate of calls: halve it after an HTTP 429, then let it grow again. No I/O and no clock.

Times are in seconds by any monotonic clock.
"""

from __future__ import annotations

#: A 429 multiplies the rate by this factor.
DECREASE_FACTOR = 0.5
#: The rate never falls below this many calls per second.
MIN_RATE = 0.2
#: Seconds in which a decreased rate doubles again.
DOUBLING_SECONDS = 30.0
#: Minimum seconds between two decreases: further 429s of calls already sent carry no new information.
DECREASE_INTERVAL = 2.0
#: After an outage: the initial calls per second, and the seconds in which the rate doubles.
SLOW_START_RATE, SLOW_START_DOUBLING_SECONDS = 4.0, 1.0
#: Calls are counted over this many seconds, to know the rate that was too high.
_WINDOW = 2.0


class RateLimiter:
    """Limits the calls of everything that shares a connection in one process.

    :param per_second: maximum calls per second; None for no configured limit
    """

    def __init__(self, per_second: float | None = None) -> None:
        self._per_second = per_second
        self._next = 0.0
        #: The decreased rate, when it was set, and the seconds in which it doubles.
        self._decreased: tuple[float, float, float] | None = None
        self._decreased_at = float("-inf")
        self._window_from, self._in_window, self._in_window_before = 0.0, 0, 0

    def acquire(self, now: float) -> float:
        """Reserve a call: return 0 if it may be made now, else the seconds until trying again.

        :param now: the current time
        """
        if now < self._next:
            return self._next - now
        rate = self._rate(now)
        if rate is not None:
            # Counted from now, not from when the call was due, so that idle time does not allow a burst.
            self._next = now + 1 / rate
        self._count(now)
        return 0.0

    def on_rate_limited(self, now: float, retry_after: float | None) -> None:
        """Decrease the rate after an HTTP 429.

        :param now: the current time
        :param retry_after: the seconds of the Retry-After header, if there was one
        """
        self._next = max(self._next, now + (retry_after or 0.0))
        if now - self._decreased_at < DECREASE_INTERVAL:
            return
        used = max(self._in_window, self._in_window_before) / _WINDOW
        rate = self._rate(now)
        rate = used if rate is None else min(rate, used)
        self._decreased, self._decreased_at = (max(DECREASE_FACTOR * rate, MIN_RATE), now, DOUBLING_SECONDS), now

    def slow_start(self, now: float) -> None:
        """Restart at a low rate after an outage, when all waits want to poll at once.

        :param now: the current time
        """
        self._decreased = (SLOW_START_RATE, now, SLOW_START_DOUBLING_SECONDS)

    def _rate(self, now: float) -> float | None:
        """Return the calls per second that are allowed now; None for no limit."""
        if self._decreased is None:
            return self._per_second
        left, since, doubling_seconds = self._decreased
        doublings = (now - since) / doubling_seconds
        if doublings > 20:
            # A million times the rate that was too high does not limit anything.
            self._decreased = None
            return self._per_second
        grown: float = left * 2.0**doublings
        return grown if self._per_second is None else min(grown, self._per_second)

    def _count(self, now: float) -> None:
        age = now - self._window_from
        if age >= _WINDOW:
            self._in_window_before = self._in_window if age < 2 * _WINDOW else 0
            self._window_from, self._in_window = now, 0
        self._in_window += 1
