"""When a batch wakes a worker, and how much it submits then. No clock: the time is an argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Seconds after a deferral at which one finished row is worth a worker.
_PATIENCE = 15.0
#: The same if no row is waiting for a place: then only the download waits.
_PATIENCE_AT_END = 60.0
#: A worker is also worth it when this share of many places is free.
_WORTH_A_WORKER = 0.25
#: Up to this many places, each of them counts.
_FEW_PLACES = 10
#: Seconds until an account that was full, or a gateway that was unavailable, is tried again.
MIN_PAUSE, MAX_PAUSE = 15.0, 60.0


def target_after_full(in_flight: int) -> int:
    """Return how many generations to have in flight after the account turned out to be full.

    :param in_flight: how many of this batch there are
    """
    return max(in_flight, 1)


def target_after_wave(target: int, maximum: int) -> int:
    """Return how many generations to have in flight after a wave in which nothing was refused.

    :param target: what the wave was allowed
    :param maximum: ``max_in_flight``
    """
    return min(target + 1, maximum)


def pause_after(idle_waves: int) -> float:
    """Return the seconds until an account that was full, or a gateway that was unavailable, is tried again.

    :param idle_waves: consecutive waves in which nothing could be submitted
    """
    return float(min(MIN_PAUSE * 2.0 ** min(max(idle_waves - 1, 0), 8), MAX_PAUSE))


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A wait between two waves. All times are in seconds since the epoch.

    :param since: when it began
    :param deadline: when the batch, or its oldest row, has run out of time
    :param earliest: no wave may begin before this
    :param has_more: whether rows wait for a place
    :param retry_at: when to try again what was refused; None if nothing was
    :param at_once: whether to begin as soon as one has ended: a process that waits itself costs no worker
    """

    since: float
    deadline: float
    earliest: float = 0.0
    has_more: bool = True
    retry_at: float | None = None
    at_once: bool = False

    def wake_at(self, waiting: int, ended_at: Sequence[float]) -> float:
        """Return when to begin the next wave, as far as it is known now.

        A wave costs a worker, and free places cost time. So it begins when all have ended, when a quarter of many
        places are free, or when one of them has been free for a while.

        :param waiting: generations that have not ended
        :param ended_at: when the others were seen to end
        """
        at = [self.deadline]
        if self.retry_at is not None:
            at.append(self.retry_at)
        if not waiting and (ended_at or self.retry_at is None):
            at.append(max(ended_at, default=self.since))
        if ended_at:
            places, first = waiting + len(ended_at), min(ended_at)
            if self.at_once:
                at.append(first)
            elif not self.has_more:
                at.append(first + _PATIENCE_AT_END)
            elif places <= _FEW_PLACES:
                at.append(max(first, self.since + _PATIENCE))
            else:
                at.append(first + _PATIENCE)
                needed = math.ceil(places * _WORTH_A_WORKER)
                if len(ended_at) >= needed:
                    at.append(sorted(ended_at)[needed - 1])
        return max(min(at), self.earliest)
