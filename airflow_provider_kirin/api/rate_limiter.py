"""How fast to ask: calls a second, fewer after a gateway said 429, then slowly more again. No I/O and no clock.

Times are seconds of any clock that does not go back.
"""

from __future__ import annotations

#: A 429 leaves this share of the rate.
CUT = 0.5
#: Calls a second that are always allowed.
SLOWEST = 0.2
#: Seconds in which a rate that was cut doubles again.
DOUBLES_IN = 30.0
#: Answers to calls that were under way say nothing new: one cut in this many seconds.
SETTLES_IN = 2.0
#: After an outage: calls a second at first, and the seconds in which they double.
RAMP_FROM, RAMP_DOUBLES_IN = 4.0, 1.0
#: Calls are counted over this many seconds, to know which rate was too much.
_WINDOW = 2.0


class Pace:
    """Hand out turns for calls, for all that share a connection in one process.

    :param per_second: the most calls a second, None for no limit of one's own
    """

    def __init__(self, per_second: float | None = None) -> None:
        self._per_second = per_second
        self._next = 0.0
        #: The rate that was left, since when, and the seconds in which it doubles.
        self._cut: tuple[float, float, float] | None = None
        self._cut_at = float("-inf")
        self._window_from, self._in_window, self._in_window_before = 0.0, 0, 0

    def take(self, now: float) -> float:
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

    def too_many(self, now: float, retry_after: float | None) -> None:
        """Slow down: the gateway said 429.

        :param now: the time
        :param retry_after: the seconds without a call that it asked for, if it did
        """
        self._next = max(self._next, now + (retry_after or 0.0))
        if now - self._cut_at < SETTLES_IN:
            return
        used = max(self._in_window, self._in_window_before) / _WINDOW
        rate = self._rate(now)
        rate = used if rate is None else min(rate, used)
        self._cut, self._cut_at = (max(CUT * rate, SLOWEST), now, DOUBLES_IN), now

    def ramp(self, now: float) -> None:
        """Begin gently: the gateway is back, and everybody wants to ask it.

        :param now: the time
        """
        self._cut = (RAMP_FROM, now, RAMP_DOUBLES_IN)

    def _rate(self, now: float) -> float | None:
        """Return the calls a second that are allowed now, None for no limit."""
        if self._cut is None:
            return self._per_second
        left, since, doubles_in = self._cut
        doublings = (now - since) / doubles_in
        if doublings > 20:
            # A million times the rate that was too much limits nothing.
            self._cut = None
            return self._per_second
        grown: float = left * 2.0**doublings
        return grown if self._per_second is None else min(grown, self._per_second)

    def _count(self, now: float) -> None:
        age = now - self._window_from
        if age >= _WINDOW:
            self._in_window_before = self._in_window if age < 2 * _WINDOW else 0
            self._window_from, self._in_window = now, 0
        self._in_window += 1
