"""How fast to ask: calls a second, fewer after a gateway said 429, then slowly more again. No I/O and no clock.

Times are seconds of any clock that does not go back.
"""

from __future__ import annotations

#: A 429 leaves this share of the rate.
DECREASE_FACTOR = 0.5
#: Calls a second that are always allowed.
MIN_RATE = 0.2
#: Seconds in which a rate that was cut doubles again.
DOUBLING_SECONDS = 30.0
#: Answers to calls that were under way say nothing new: one cut in this many seconds.
DECREASE_INTERVAL = 2.0
#: After an outage: calls a second at first, and the seconds in which they double.
SLOW_START_RATE, SLOW_START_DOUBLING_SECONDS = 4.0, 1.0
#: Calls are counted over this many seconds, to know which rate was too much.
_WINDOW = 2.0


class RateLimiter:
    """Hand out turns for calls, for all that share a connection in one process.

    :param per_second: the most calls a second, None for no limit of one's own
    """

    def __init__(self, per_second: float | None = None) -> None:
        self._per_second = per_second
        self._next = 0.0
        #: The rate that was left, since when, and the seconds in which it doubles.
        self._decreased: tuple[float, float, float] | None = None
        self._decreased_at = float("-inf")
        self._window_from, self._in_window, self._in_window_before = 0.0, 0, 0

    def acquire(self, now: float) -> float:
        """Take a turn where there is one: return 0, or the seconds until there may be one.

        :param now: the time
        """
        if now < self._next:
            return self._next - now
        rate = self._rate(now)
        if rate is not None:
            # From now, not from when the turn was due: nobody saves up for a burst.
            self._next = now + 1 / rate
        self._count(now)
        return 0.0

    def on_rate_limited(self, now: float, retry_after: float | None) -> None:
        """Slow down: the gateway said 429.

        :param now: the time
        :param retry_after: the seconds without a call that it asked for, if it did
        """
        self._next = max(self._next, now + (retry_after or 0.0))
        if now - self._decreased_at < DECREASE_INTERVAL:
            return
        used = max(self._in_window, self._in_window_before) / _WINDOW
        rate = self._rate(now)
        rate = used if rate is None else min(rate, used)
        self._decreased, self._decreased_at = (max(DECREASE_FACTOR * rate, MIN_RATE), now, DOUBLING_SECONDS), now

    def slow_start(self, now: float) -> None:
        """Begin gently: the gateway is back, and everybody wants to ask it.

        :param now: the time
        """
        self._decreased = (SLOW_START_RATE, now, SLOW_START_DOUBLING_SECONDS)

    def _rate(self, now: float) -> float | None:
        """Return the calls a second that are allowed now, None for no limit."""
        if self._decreased is None:
            return self._per_second
        left, since, doubling_seconds = self._decreased
        doublings = (now - since) / doubling_seconds
        if doublings > 20:
            # A million times the rate that was too much limits nothing.
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
