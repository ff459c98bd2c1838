"""When to ask again, and when to stop: one poller without I/O and without a clock, for every way of waiting.

A :class:`Poller` is told what the last look brought and what time it is; it answers with a :class:`Step`. The sync
hook, the async hook, the trigger and the sensor's poke mode only do what it says.

The pauses: one look at once, one soon after (progress may show how fast this one is), then whenever a look is worth
its cost (:mod:`airflow_provider_kirin.api.belief`), by what is known: the times that public clients wait for, the
durations that this process has seen, and the progress that the gateway reports. docs/performance.md shows how the
constants were measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_provider_kirin.api.belief import Part, seconds_until_look
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.experience import Experience
from airflow_provider_kirin.api.retrying import LAG_PAUSES, pause
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.text import one_line
from airflow_provider_kirin.exceptions import KirinAPIError, KirinError, KirinNotFoundError, KirinTimeoutError

#: What one expects who knows nothing: public clients wait for one to ten minutes; the API documents no time.
UNINFORMED = Part(weight=1.0, median=190.0, spread=0.66)
#: The delay of noticing, as a share of the generation's time, that is as bad as one more request; and how much less
#: counts where experience is narrower than knowing nothing: it saves the looks that come too early.
WORTH_A_LOOK, WORTH_OF_EXPERIENCE = 0.008, 0.8
#: The second look comes after this many seconds: soon enough for a fast gateway, cheap for a slow one.
FIRST_INTERVAL = 3.0
SHORTEST_INTERVAL = 2.0
LONGEST_INTERVAL = 120.0
#: A user's own interval may be short, for an emulator say, and is no hot loop even where it is 0.
SHORTEST_FIXED_INTERVAL = 0.1
#: How much the end that the progress foretells counts beside everything else, and how far off it may be.
TRUST_IN_PROGRESS, SPREAD_OF_PROGRESS = 0.7, 0.45
#: Progress is told when it has moved by this much: a triggerer answers each line of its log with some queries.
WORTH_A_LINE = 0.25
#: ``created_at`` is taken for the beginning where it lies this many seconds before the wait at most: its unit and its
#: clock are not documented.
LONGEST_HEADSTART = 600.0


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

    def result(self) -> KirinTask:
        """Return what the last step brought.

        :raises KirinError: why there is no video
        """
        if self.error is not None:
            raise self.error
        assert self.kirin_task is not None
        return self.kirin_task


class Poller:
    """One wait for one generation.

    :param kirin_task_id: the generation
    :param started_at: when the waiting began, in the clock that ``now`` is told in (wall-clock, so that it
        survives a restart)
    :param deadline: when it has to end, in the same clock
    :param poll_interval: seconds between looks; None adapts them
    :param experience: durations seen by this process; it learns from this wait
    :param kind: what sets this generation's duration apart from others of its model (mode, length); empty if unknown
    :param jitter: returns 0 to 1; spreads the looks of many waits that began together
    """

    def __init__(
        self,
        kirin_task_id: str,
        *,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
        experience: Experience | None = None,
        kind: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.kirin_task_id = kirin_task_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = None if poll_interval is None else max(poll_interval, SHORTEST_FIXED_INTERVAL)
        self._experience = Experience() if experience is None else experience
        self._kind = kind
        self._jitter = jitter
        self._looks = 0
        self._troubles = 0
        #: How often the API did not know it since it was last seen.
        self._not_founds = 0
        #: Whether the last look ended so, which may be lag: the next looks tell.
        self.is_not_found = False
        self._told: tuple[str, float | None] | None = None
        #: When it was last seen in progress.
        self._alive_at: float | None = None
        #: Seconds and progress when the progress last moved, and the end that it foretold.
        self._moved: tuple[float, float] | None = None
        self._foretold: Part | None = None

    def heard(self, outcome: KirinTask | KirinError, now: float) -> Step:
        """Decide what a look means.

        The status is judged before the deadline: a generation that finished in time is a success.

        :param outcome: the task as the gateway reports it, or the error that the look ended in
        :param now: the time of the look
        """
        self._looks += 1
        self.is_not_found = isinstance(outcome, KirinNotFoundError) and outcome.from_api
        if isinstance(outcome, KirinError):
            return self._after_trouble(outcome, now)
        self._troubles = self._not_founds = 0
        if outcome.is_final:
            return self._ended(outcome, now)
        self._alive_at = now
        news = self._news(outcome, now)
        if now >= self.deadline:
            return self._timed_out(now, f"it is still {one_line(outcome.raw_status or outcome.status, 40)}")
        interval = self.poll_interval
        if interval is None:
            interval = self._interval(outcome, now) * (0.95 + 0.1 * self._jitter())
        return Step(delay=self._until_deadline(interval, now), news=news)

    def _ended(self, kirin_task: KirinTask, now: float) -> Step:
        if error := error_from_task(kirin_task):
            return Step(error=error)
        if self._alive_at is not None:
            # Somewhere between the last two looks.
            seconds = (self._alive_at + now) / 2 - self._began_at(kirin_task)
            self._experience.learn(seconds, *self._filed_under(kirin_task))
        return Step(kirin_task=kirin_task)

    def _after_trouble(self, error: KirinError, now: float) -> Step:
        # A load balancer's 404, a firewall's 403 say nothing about the generation: they are trouble as a 503 is.
        if not isinstance(error, KirinAPIError) or error.from_api:
            if isinstance(error, KirinNotFoundError):
                return self._after_not_found(error, now)
            if not error.retryable:
                return Step(error=error)
        if now >= self.deadline:
            return self._timed_out(now, f"the last look ended in: {error}")
        self._troubles += 1
        delay = max(pause(error, self._troubles, jitter=self._jitter), self.poll_interval or 0.0)
        delay = self._until_deadline(delay, now)
        news = f"Could not look at Kirin generation {self.kirin_task_id}, next look in {delay:.0f} s: {error}"
        return Step(delay=delay, news=news)

    def _after_not_found(self, error: KirinNotFoundError, now: float) -> Step:
        """Take the API's word only when it has said so for a while, whatever the user's own interval is."""
        if self._not_founds >= len(LAG_PAUSES) or now >= self.deadline:
            return Step(error=error)
        delay = self._until_deadline(max(LAG_PAUSES[self._not_founds], error.retry_after or 0.0), now)
        news = None
        if not self._not_founds:
            news = f"The gateway does not know Kirin generation {self.kirin_task_id} (yet); looking again: {error}"
        self._not_founds += 1
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
        if self._told is not None and self._told[0] == status and not _is_news(kirin_task.progress, self._told[1]):
            return None
        self._told = (status, kirin_task.progress)
        share = "" if kirin_task.progress is None else f", {kirin_task.progress:.0%} done"
        return f"Kirin generation {self.kirin_task_id}: {status}{share}, after {max(now - self.started_at, 0):.0f} s"

    def _interval(self, kirin_task: KirinTask, now: float) -> float:
        elapsed = max(now - self._began_at(kirin_task), 0.0)
        self._extrapolate(kirin_task.progress, elapsed)
        if self._looks == 1 and now - self.started_at < FIRST_INTERVAL:
            return FIRST_INTERVAL
        seen = self._experience.expect(*self._filed_under(kirin_task))
        delay = seconds_until_look(self._belief(seen), elapsed, worth=_worth_a_look(seen), longest=LONGEST_INTERVAL)
        return max(delay, SHORTEST_INTERVAL)

    def _belief(self, seen: Part | None) -> list[Part]:
        parts = [UNINFORMED] if seen is None else [seen, replace(UNINFORMED, weight=1 - seen.weight)]
        if self._foretold is None:
            return parts
        rest = 1 - TRUST_IN_PROGRESS
        return [self._foretold, *(replace(part, weight=part.weight * rest) for part in parts)]

    def _extrapolate(self, progress: float | None, elapsed: float) -> None:
        """Foretell the end from the last two different values of progress, or from the start and one."""
        if not progress or progress >= 1 or elapsed <= 0:
            return
        since, before = self._moved or (0.0, 0.0)
        if progress > before:
            self._moved = (elapsed, progress)
            remaining = (elapsed - since) * (1 - progress) / (progress - before)
            self._foretold = Part(TRUST_IN_PROGRESS, max(remaining, 0.1), SPREAD_OF_PROGRESS, begins=elapsed)

    def _began_at(self, kirin_task: KirinTask) -> float:
        """Return when the generation began: before this wait, maybe."""
        created = kirin_task.created_at or 0.0
        # Seconds and milliseconds were both seen.
        created = created / 1000 if created > 1e11 else created
        return created if 0 <= self.started_at - created <= LONGEST_HEADSTART else self.started_at

    def _filed_under(self, kirin_task: KirinTask) -> tuple[str, ...]:
        return (kirin_task.model, self._kind) if self._kind else (kirin_task.model,)


def _worth_a_look(seen: Part | None) -> float:
    narrowness = 1.0 if seen is None else min(seen.spread / UNINFORMED.spread, 1.0)
    return WORTH_A_LOOK * max(narrowness, WORTH_OF_EXPERIENCE)


def _is_news(progress: float | None, told: float | None) -> bool:
    """Tell whether a progress is worth a line after the one that was told last."""
    return progress is not None and (told is None or abs(progress - told) >= WORTH_A_LINE)
