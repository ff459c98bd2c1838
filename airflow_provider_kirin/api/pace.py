"""How fast to ask: calls a second, without I/O and without a clock."""

from __future__ import annotations


class Pace:
    """Hand out times for calls, evenly spaced."""

    def __init__(self) -> None:
        self._next = 0.0

    def reserve(self, now: float, per_second: float | None) -> float:
        """Take the next free time and return the seconds until then.

        :param now: the time, in any clock that does not go back
        :param per_second: the most calls a second, None for no limit
        """
        if per_second is None:
            return 0.0
        at = max(self._next, now)
        self._next = at + 1 / per_second
        return at - now
