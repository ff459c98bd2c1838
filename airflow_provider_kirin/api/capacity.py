"""Wait for a place in an account that runs a limited number of generations at once: who is next, and when to ask again.

The API does not report how many places there are or when one is free: it only rejects a submission. Two things hint
at a free place. A generation that is being watched ends; and time passes, since generations that are not watched here
end too. :class:`CapacityLine` weighs both for all waiters of one process, in the order in which they were first
refused. It does no I/O, and the time is an argument. It may be wrong: then a submission is refused again, which costs
nothing.
"""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from airflow_provider_kirin.api.pauses import likely_length
from airflow_provider_kirin.exceptions import KirinCapacityError

#: Seconds to wait for a place before a step is given up: a night.
DEFAULT_CAPACITY_TIMEOUT = 6 * 3600.0
#: The bounds of a pause between two submissions, in seconds. It doubles in between.
MIN_PAUSE, MAX_PAUSE = 5.0, 60.0
#: Seconds for which the end of a generation counts as a free place: after that, it is likely to be taken.
END_COUNTS = 30.0
#: Seconds after which a submission counts as accepted. A rejection is reported sooner.
SILENCE = 15.0

#: Why a waiter is woken: a watched generation has ended, or it is time to ask again.
Reason = Literal["end", "time"]


def capacity_pause(refusals: int, *, jitter: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait before the next submission if nothing is known about free places.

    :param refusals: how often the submission was refused, 1 for the first time
    :param jitter: returns a number between 0 and 1
    """
    grown = min(2 * MIN_PAUSE * 2.0 ** min(refusals - 1, 10), MAX_PAUSE)
    return grown * (0.5 + 0.5 * jitter())


def no_place(error: KirinCapacityError, seconds: float) -> KirinCapacityError:
    """Return the error for a step that found no place in time.

    :param error: the last refusal
    :param seconds: how long it waited
    """
    return KirinCapacityError(
        f"The account was full for {seconds:,.0f} s, and nothing was submitted by this try. Increase capacity_timeout, "
        f"or ask Kirin for more generations at once. The last response: {error.message}",
        http_status=error.http_status,
        code=error.code,
        request_id=error.request_id,
        retryable=False,
    )


@dataclass(frozen=True)
class CapacityWait:
    """A task's wait for a place, from its first submission in a try to the last refusal.

    :param since: when it first submitted, in seconds since the epoch: its position in the line
    :param deadline: when the wait ends at the latest
    :param refusals: how often it was refused
    """

    since: float
    deadline: float
    refusals: int = 0


@dataclass(frozen=True, order=True)
class Waiter:
    """A task that waits for a place.

    :param since: when it was first refused, in seconds since the epoch: the earliest is next
    :param key: identifies it
    :param refused_at: when it was last refused
    :param ready_at: when it can be woken at the earliest
    :param refusals: how often it was refused
    """

    since: float
    key: str
    refused_at: float = field(compare=False)
    ready_at: float = field(compare=False)
    refusals: int = field(default=1, compare=False)


class CapacityLine:
    """The waiters for a place in one account, and what is known about free places.

    A refusal proves that the account was full at that time, so it cancels all earlier hints.

    :param jitter: returns a number between 0 and 1; keeps the lines of several processes from asking together
    """

    def __init__(self, *, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._waiters: list[Waiter] = []
        #: How many generations are being watched.
        self._watched = 0
        #: When watched generations ended for whose places no waiter was woken.
        self._ends: list[float] = []
        self._full_at = float("-inf")
        self._probed_at = float("-inf")
        #: How many are woken together when it is time to ask again: doubles as long as none of them is refused.
        self._probes = 1
        self._pause_jitter = jitter()

    def join(self, waiter: Waiter, now: float) -> None:
        """Add a waiter that was refused.

        :param waiter: the waiter
        :param now: the time
        """
        insort(self._waiters, waiter)
        # The clock of the worker that was refused may be ahead of this one.
        refused_at = min(waiter.refused_at, now)
        if refused_at > self._full_at:
            self._full_at = refused_at
            self._ends = [end for end in self._ends if end > refused_at]
            self._pause_jitter = self._jitter()
            if refused_at > self._probed_at:
                self._probes = 1

    def leave(self, key: str) -> None:
        """Remove a waiter, if it is still there.

        :param key: the waiter's key
        """
        self._waiters = [waiter for waiter in self._waiters if waiter.key != key]

    def watch(self) -> None:
        """Note that the end of one more generation will be seen."""
        self._watched += 1

    def unwatch(self, *, ended_at: float | None) -> None:
        """Note that a generation is no longer watched.

        :param ended_at: when it was seen to end; None if it has not
        """
        self._watched -= 1
        if ended_at is not None:
            self._ends.append(ended_at)

    def due(self, now: float) -> list[tuple[Waiter, Reason]]:
        """Remove the waiters that are to submit now, and return them with the reason.

        :param now: the time
        """
        self._ends = [end for end in self._ends if end > now - END_COUNTS]
        ready = [waiter for waiter in self._waiters if waiter.ready_at <= now]
        reason: Reason = "end"
        woken = ready[: len(self._ends)]
        del self._ends[: len(woken)]
        if not woken and ready and self._probe_at() <= now:
            reason = "time"
            woken = ready[: self._probes]
            self._probed_at = now
            self._probes = 2 * len(woken)
        for waiter in woken:
            self._waiters.remove(waiter)
        return [(waiter, reason) for waiter in woken]

    def next_check(self, now: float) -> float | None:
        """Return when :meth:`due` has to be called again if nothing changes before; None without a waiter.

        :param now: the time
        """
        if not self._waiters:
            return None
        first_ready = min(waiter.ready_at for waiter in self._waiters)
        hinted_at = now if self._ends else self._probe_at()
        return max(hinted_at, first_ready)

    def position_of(self, key: str) -> tuple[int, int]:
        """Return a waiter's position in the line, 1 for the next, and how many wait; 0 if it does not wait.

        :param key: the waiter's key
        """
        positions = (position for position, waiter in enumerate(self._waiters, 1) if waiter.key == key)
        return next(positions, 0), len(self._waiters)

    def _probe_at(self) -> float:
        """Return when to ask again without a hint.

        The head's own refusals make the pause grow. If ends are watched, they are the better hint, and the pause is
        long from the start.
        """
        if self._probed_at > self._full_at:
            return self._probed_at + SILENCE
        refusals = 10 if self._watched else self._waiters[0].refusals
        return self._full_at + likely_length(capacity_pause(refusals, jitter=lambda: self._pause_jitter))
