"""Requests against delay: simulated waits, without I/O and without waiting.

A schedule that asks more often notices the end sooner. Which schedules are good shows only in a plane of both, over
many generations of different length. `python -m benchmarks.frontier` prints the table.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_kirin.api.polling import Poller, PollResult
from airflow_provider_kirin.api.task import KirinTask, KirinVideo

#: What the gateway reports of a generation of which this share of the time has passed.
Progress = Callable[[float], float | None]

#: No wait of the simulation comes near it.
_DEADLINE = 86_400.0
_DONE = KirinTask("simulated", "completed", videos=[KirinVideo("https://example.com/video.mp4")])


class Schedule(Protocol):
    """What decides when to poll again: the provider's Poller, or a peer's habit."""

    def on_response(self, kirin_task: KirinTask, now: float) -> PollResult:
        """Decide what to do after a response."""


#: Makes the schedule of one wait, which begins at second 0 of its clock.
MakePoller = Callable[[], Schedule]


@dataclass(frozen=True)
class Point:
    """A schedule's place in the plane, means over all waits.

    :param requests: polls for each generation
    :param delay: seconds between the end of a generation and the poll that sees it
    :param delay_share: the same as a share of the time that the generation took
    :param worst_share: the share that 95 of 100 waits stay below
    """

    requests: float
    delay: float
    delay_share: float
    worst_share: float


def simulate(make_poller: MakePoller, durations: Iterable[float], progress: Progress) -> Point:
    """Let one poller wait for each generation, and return what that cost.

    The first poll is at second 0, as after a submission.

    :param make_poller: called once for each wait
    :param durations: seconds that the generations take
    :param progress: from the share of the time that has passed to what the gateway reports
    """
    waits = [(duration, *_wait(make_poller(), duration, progress)) for duration in durations]
    shares = [delay / duration for duration, _, delay in waits]
    return Point(
        requests=statistics.fmean(polls for _, polls, _ in waits),
        delay=statistics.fmean(delay for *_, delay in waits),
        delay_share=statistics.fmean(shares),
        worst_share=sorted(shares)[math.ceil(0.95 * len(shares)) - 1],
    )


def _wait(poller: Schedule, duration: float, progress: Progress) -> tuple[int, float]:
    """Return how many polls there were, and how late the last one was."""
    now, polls = 0.0, 1
    while now < duration:
        step = poller.on_response(KirinTask("simulated", "in_progress", progress=progress(now / duration)), now)
        assert step.delay > 0, f"{poller} would poll again at once"
        now += step.delay
        polls += 1
    assert poller.on_response(_DONE, now).outcome is _DONE
    return polls, now - duration


class Fixed:
    """Ask at a fixed interval, as most clients do.

    :param interval: seconds
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def on_response(self, kirin_task: KirinTask, now: float) -> PollResult:
        """Decide what to do after a response."""
        return PollResult(outcome=kirin_task) if kirin_task.is_final else PollResult(delay=self.interval)


class Backoff(Fixed):
    """Ask at intervals that grow by a factor up to a limit.

    :param interval: the first one, seconds
    :param factor: from one to the next
    :param longest: seconds
    """

    def __init__(self, interval: float = 2.0, factor: float = 1.5, longest: float = 60.0) -> None:
        super().__init__(interval / factor)
        self.factor = factor
        self.longest = longest

    def on_response(self, kirin_task: KirinTask, now: float) -> PollResult:
        """Decide what to do after a response."""
        self.interval = min(self.interval * self.factor, self.longest)
        return super().on_response(kirin_task, now)


def poller(jitter: Callable[[], float] = random.random) -> Schedule:
    """Return the provider's own schedule, for a wait that begins at second 0.

    :param jitter: returns 0 to 1
    """
    return Poller("simulated", started_at=0.0, deadline=_DEADLINE, jitter=jitter)


#: Ways in which a gateway may report progress. Kirin's own is not documented.
PROGRESS: dict[str, Progress] = {
    "no progress": lambda share: None,
    "linear": lambda share: share,
    "in tenths": lambda share: math.floor(share * 10) / 10,
    "stalls at 90 %": lambda share: min(share / 0.6, 1.0) * 0.9,
    "fast, then slow": lambda share: math.sqrt(share),
    "slow, then fast": lambda share: share**2,
}

SCHEDULES: dict[str, MakePoller] = {
    "every 5 s": lambda: Fixed(5),
    "every 10 s": lambda: Fixed(10),
    "every 30 s": lambda: Fixed(30),
    "every 60 s": lambda: Fixed(60),
    "x 1.5, from 2 to 60 s": Backoff,
}


def log_uniform(count: int, *, low: float = 60.0, high: float = 600.0, seed: int = 1) -> list[float]:
    """Return durations from one to ten minutes, each doubling as likely as another."""
    draw = random.Random(seed)
    return [math.exp(draw.uniform(math.log(low), math.log(high))) for _ in range(count)]


def log_normal(count: int, *, median: float = 150.0, sigma: float = 0.35, seed: int = 2) -> list[float]:
    """Return durations around a median, as of one model at one gateway."""
    draw = random.Random(seed)
    return [draw.lognormvariate(math.log(median), sigma) for _ in range(count)]


DURATIONS: dict[str, Callable[[int], list[float]]] = {
    "1 to 10 minutes": log_uniform,
    "around 150 s": log_normal,
}


def table(durations: Sequence[float]) -> dict[str, Point]:
    """Return the place of each schedule; the provider's own once for each kind of progress.

    :param durations: seconds that the generations take
    """
    draw = random.Random(3)
    ours = {f"Kirin, {name}": simulate(lambda: poller(draw.random), durations, said) for name, said in PROGRESS.items()}
    return ours | {name: simulate(make, durations, PROGRESS["no progress"]) for name, make in SCHEDULES.items()}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waits", type=int, default=2000)
    waits = parser.parse_args().waits
    for title, draw in DURATIONS.items():
        print(f"\nGenerations of {title}: {waits:,} waits each")
        print(f"{'schedule':<32}{'requests':>9}{'delay s':>9}{'delay %':>9}{'p95 %':>8}")
        for name, at in table(draw(waits)).items():
            print(f"{name:<32}{at.requests:>9.1f}{at.delay:>9.1f}{at.delay_share:>9.1%}{at.worst_share:>8.1%}")


if __name__ == "__main__":
    main()
