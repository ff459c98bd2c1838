"""Whether a connection's callbacks arrive: while they do, polling is only a safety net."""

from __future__ import annotations

#: Seconds between polls of a generation whose callback is expected.
SAFETY_NET = 300.0
#: Seconds for which the API server certainly keeps the callbacks of a batch on whose next wave a worker works.
KEPT = 60.0
#: Seconds until callbacks are relied on again, after one did not arrive.
DISTRUST = 3600.0


class CallbackHealth:
    """What the waits of one process know about the callbacks of one connection.

    A callback that arrives ends its wait. So if a wait finds by its own poll that the generation has ended, although
    it expected a callback, the gateway does not reach Airflow, and polling returns to its usual pace for a while.
    """

    def __init__(self) -> None:
        self._distrusted_until = float("-inf")

    def is_expected(self, now: float) -> bool:
        """Return whether a callback can be relied on.

        :param now: seconds since the epoch
        """
        return now >= self._distrusted_until

    def on_missed(self, now: float) -> None:
        """Record that a generation has ended without a callback.

        :param now: seconds since the epoch
        """
        self._distrusted_until = now + DISTRUST

    def on_arrived(self) -> None:
        """Record that a callback has ended a wait."""
        self._distrusted_until = float("-inf")
