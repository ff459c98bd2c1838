"""When to ask again, and when to stop: one poller without I/O and without a clock, for every way of waiting.

A :class:`Poller` is told what the last look brought and what time it is; it answers with a :class:`Step`. The sync
hook, the async hook, the trigger and the sensor's poke mode only do what it says.

The intervals: one look at once, one soon after (progress may show how fast this one is), then none before a fair
share of the model's typical time has passed, then at a small fraction of the time waited, so that the delay of
noticing stays in proportion. A reported progress that moves takes the place of the typical time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.retrying import pause
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.text import one_line
from airflow_provider_kirin.exceptions import KirinError, KirinTimeoutError

#: Seconds that a generation takes as a rule; the API documents none. Public clients wait for one to ten minutes.
TYPICAL_SECONDS = 120.0
#: The second look comes after this many seconds: soon enough for a fast gateway, cheap for a slow one.
FIRST_INTERVAL = 3.0
SHORTEST_INTERVAL = 2.0
LONGEST_INTERVAL = 60.0
#: A user's own interval may be short, for an emulator say, and is no hot loop even where it is 0.
SHORTEST_FIXED_INTERVAL = 0.1
#: The interval as a share of the time waited: the mean delay of noticing is half of it.
SHARE_OF_WAIT = 0.08
#: No look falls between the second one and this share of the typical time.
QUIET_SHARE = 0.3
#: How far towards the moment that the progress foretells the next look goes.
TRUST_IN_PROGRESS = 0.9


@dataclass(frozen=True)
class Step:
    """What to do next: look again after ``delay`` seconds, or stop with a task or an error.

    :param delay: seconds until the next look, where there is one
    :param kirin_task: the finished generation, with its video
    :param error: why waiting is over without a video
    :param news: a line for the log where something changed, else None
    """

    delay: float = 0.0
    kirin_task: KirinTask | None = None
    error: KirinError | None = None
    news: str | None = None

    @property
    def is_last(self) -> bool:
        """Whether the waiting is over."""
        return self.kirin_task is not None or self.error is not None


def next_interval(elapsed: float, *, looks: int, remaining: float | None = None) -> float:
    """Return the seconds until the next look at a generation that is still in progress.

    :param elapsed: seconds since the waiting began
    :param looks: how many looks there were so far
    :param remaining: seconds until the end that the progress foretells, None where it tells nothing
    """
    if looks <= 1 and elapsed < FIRST_INTERVAL:
        return FIRST_INTERVAL
    by_share = SHARE_OF_WAIT * elapsed
    if remaining is not None:
        # The first reports of progress may mislead: they never more than double the wait.
        interval = max(min(TRUST_IN_PROGRESS * remaining, elapsed), by_share / 2)
    else:
        interval = max(by_share, QUIET_SHARE * TYPICAL_SECONDS - elapsed)
    return min(max(interval, SHORTEST_INTERVAL), LONGEST_INTERVAL)


class Poller:
    """One wait for one generation.

    :param kirin_task_id: the generation
    :param started_at: when the waiting began, in the clock that ``now`` is told in (wall-clock, so that it
        survives a restart)
    :param deadline: when it has to end, in the same clock
    :param poll_interval: seconds between looks; None adapts them
    :param jitter: returns 0 to 1; spreads the looks of many waits that began together
    """

    def __init__(
        self,
        kirin_task_id: str,
        *,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.kirin_task_id = kirin_task_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = None if poll_interval is None else max(poll_interval, SHORTEST_FIXED_INTERVAL)
        self._jitter = jitter
        self._looks = 0
        self._troubles = 0
        self._told: tuple[str, float | None] | None = None
        self._moved: tuple[float, float] | None = None

    def heard(self, outcome: KirinTask | KirinError, now: float) -> Step:
        """Decide what a look means.

        The status is judged before the deadline: a generation that finished in time is a success.

        :param outcome: the task as the gateway reports it, or the error that the look ended in
        :param now: the time of the look
        """
        self._looks += 1
        if isinstance(outcome, KirinError):
            return self._after_trouble(outcome, now)
        self._troubles = 0
        if outcome.is_final:
            error = error_from_task(outcome)
            return Step(error=error, kirin_task=None if error else outcome)
        news, remaining = self._news(outcome, now), self._remaining(outcome.progress, now)
        if now >= self.deadline:
            return self._timed_out(now, f"it is still {one_line(outcome.raw_status or outcome.status, 40)}")
        interval = self.poll_interval
        if interval is None:
            interval = next_interval(now - self.started_at, looks=self._looks, remaining=remaining)
            interval *= 0.95 + 0.1 * self._jitter()
        return Step(delay=self._until_deadline(interval, now), news=news)

    def _after_trouble(self, error: KirinError, now: float) -> Step:
        if not error.retryable:
            return Step(error=error)
        if now >= self.deadline:
            return self._timed_out(now, f"the last look ended in: {error}")
        self._troubles += 1
        delay = max(pause(error, self._troubles, jitter=self._jitter), self.poll_interval or 0.0)
        delay = self._until_deadline(delay, now)
        news = f"Could not look at Kirin generation {self.kirin_task_id}, next look in {delay:.0f} s: {error}"
        return Step(delay=delay, news=news)

    def _timed_out(self, now: float, why: str) -> Step:
        waited = now - self.started_at
        return Step(
            error=KirinTimeoutError(
                f"Kirin generation {self.kirin_task_id} did not finish within {waited:.0f} s; {why}. It goes on at "
                "Kirin and will be billed: do not submit it anew, wait for this id again with a longer timeout.",
                kirin_task_ids=[self.kirin_task_id],
            )
        )

    def _until_deadline(self, interval: float, now: float) -> float:
        """Make the last look fall on the deadline, not behind it."""
        return max(min(interval, self.deadline - now), 0.0)

    def _news(self, kirin_task: KirinTask, now: float) -> str | None:
        status = one_line(kirin_task.raw_status or kirin_task.status, 40)
        if self._told == (status, kirin_task.progress):
            return None
        self._told = (status, kirin_task.progress)
        share = "" if kirin_task.progress is None else f", {kirin_task.progress:.0%} done"
        return f"Kirin generation {self.kirin_task_id}: {status}{share}, after {max(now - self.started_at, 0):.0f} s"

    def _remaining(self, progress: float | None, now: float) -> float | None:
        """Extrapolate from the last two different values of progress, or from the start and one."""
        elapsed = now - self.started_at
        if not progress or progress >= 1 or elapsed <= 0:
            return None
        before, self._moved = self._moved, (elapsed, progress)
        if before is None:
            return elapsed * (1 - progress) / progress
        if progress <= before[1]:
            # It stands still: its word is worth nothing until it moves again.
            self._moved = before
            return None
        return (elapsed - before[0]) * (1 - progress) / (progress - before[1])
