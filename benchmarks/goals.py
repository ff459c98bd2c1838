"""The goals for this provider's costs, and whether a run of the benchmarks met them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Results


@dataclass(frozen=True)
class Goal:
    """An upper bound.

    :param title: what was measured, with its unit
    :param measured: the measured value
    :param most: the upper bound
    """

    title: str
    measured: float
    most: float

    @property
    def is_met(self) -> bool:
        """Whether the promise was kept."""
        return self.measured <= self.most


def goals(results: Results) -> list[Goal]:
    """Return every goal that something was measured for.

    :param results: what was measured
    """
    return [*_waiting(results), *_hostile(results), *_importing(results), *_submitting(results)]


def _waiting(results: Results) -> Iterator[Goal]:
    by_peer = {(one.peer, one.waits): one for one in results.waiting}
    for (peer, waits), ours in by_peer.items():
        # The cost of a few waits does not matter.
        if peer != "kirin" or waits < 1000:
            continue
        if theirs := by_peer.get(("http", waits)):
            title = f"CPU a poll by HttpSensorTrigger's, {waits:,} waits"
            yield Goal(title, ours.cpu_per_poll / theirs.cpu_per_poll, 0.5)
        if barest := by_peer.get(("bare", waits)):
            title = f"CPU a poll by a bare aiohttp loop's, {waits:,} waits"
            yield Goal(title, ours.cpu_per_poll / barest.cpu_per_poll, 1.25)
        yield Goal(f"lag of the event loop, ms (p99), {waits:,} waits", ours.lag_p99, 20)


def _hostile(results: Results) -> Iterator[Goal]:
    yield Goal("lag of the event loop, ms (max), hostile responses", results.hostile.lag_max, 50)


def _importing(results: Results) -> Iterator[Goal]:
    ours = results.importing["Kirin: operators and sensor"].milliseconds
    yield Goal("import of operators and sensor, ms beyond airflow.sdk", ours, 15)
    if theirs := results.importing.get("openai: operators"):
        yield Goal("import by openai's operators", ours / theirs.milliseconds, 0.1)
    first = results.importing["Kirin: first operator, payload checked"].milliseconds
    yield Goal("first operator, payload checked, ms", first, 30)


def _submitting(results: Results) -> Iterator[Goal]:
    for picture, ways in results.submitting.items():
        ours, bare = ways["kirin"], ways["bare"]
        yield Goal(f"submit by requests.post, time, {picture}", ours.seconds / bare.seconds, 1.3)
        yield Goal(f"submit by requests.post, memory, {picture}", ours.memory / bare.memory, 1.5)
