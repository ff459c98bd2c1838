"""From what was measured to the table of docs/explanation/comparison.md."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.night.costs import Measured
from benchmarks.night.ways import WAYS
from benchmarks.report import table

#: Not Airflow's processes.
NOT_AIRFLOW = ("PostgreSQL", "gateway")


@dataclass(frozen=True)
class Row:
    """One way beside what it is compared with.

    :param measured: what its run was like
    :param ideal: seconds: as many tasks that do nothing, in the same Airflow, then one generation
    :param machine: what it was measured on
    """

    measured: Measured
    ideal: float
    machine: str


def ideal(one: Measured, before: Measured, after: Measured) -> float:
    """Return the makespan that no way can be much below: as many tasks that do nothing, then one generation.

    For a way with places it is what they take if each is filled again in the moment in which it becomes free.

    :param one: the way's run
    :param before: a run of as many tasks that do nothing, just before the way's
    :param after: another, just after it, since others use the machine too
    """
    way = WAYS[one.way]
    if way.places:
        seconds = way.durations(one.generations) if way.durations else [one.seconds] * one.generations
        return _filled(way.places, seconds)
    return (before.makespan + after.makespan) / 2 + before.seconds


def _filled(places: int, seconds: Sequence[float]) -> float:
    busy_until = [0.0] * places
    for one in seconds:
        heapq.heappush(busy_until, heapq.heappop(busy_until) + one)
    return max(busy_until)


def airflow_cpu(one: Measured) -> float:
    """Return the CPU-seconds of all of Airflow's processes, less the idle share."""
    return sum(used for part, used in one.cpu.items() if part not in NOT_AIRFLOW)


def figures(rows: Sequence[Row]) -> str:
    """Return the tables, in Markdown.

    :param rows: in the order in which they are shown
    """
    # How busy it was each row says itself.
    machines = dict.fromkeys(re.sub(r"load before: [\d.]+; ", "", row.machine) for row in rows)
    return "\n\n".join([f"Measured on {' and '.join(machines)}.", _ways(rows), _cpu(rows)])


def _ways(rows: Sequence[Row]) -> str:
    blocking = max(
        (row.measured for row in rows if row.measured.way == "sdk"), key=lambda one: one.generations, default=None
    )
    cells = [
        (
            WAYS[one.way].title,
            f"{one.generations} x {one.seconds:g} s",
            f"{one.makespan:.0f}",
            "-" if WAYS[one.way].is_trivial else f"{one.makespan / row.ideal:.2f}",
            one.worker_runs,
            f"{one.worker_seconds:.0f}",
            f"{one.worker_seconds / one.generations:.1f}",
            _by(one, blocking),
            f"{airflow_cpu(one) / one.generations:.2f}",
            one.posts,
            one.lost,
            f"{one.gets / one.generations:.1f}",
            f"{max(one.blocked, default=0):.1f}",
            f"{one.others:.0%}",
        )
        for row in rows
        for one in (row.measured,)
    ]
    head = (
        "",
        "generations",
        "makespan, s",
        "by ideal",
        "worker runs",
        "worker-s",
        "each",
        "by blocking",
        "CPU-s each",
        "POSTs",
        "tries lost",
        "GETs each",
        "loop blocked, s",
        "others' load",
    )
    return table(head, cells)


def _by(one: Measured, blocking: Measured | None) -> str:
    """Compare the worker-seconds of each generation: the blocking way may have been measured with fewer."""
    if blocking is None or WAYS[one.way].is_trivial or one.seconds != blocking.seconds:
        return "-"
    return f"{one.worker_seconds / one.generations / (blocking.worker_seconds / blocking.generations):.3f}"


def _cpu(rows: Sequence[Row]) -> str:
    parts = list(dict.fromkeys(part for row in rows for part in row.measured.cpu))
    cells = [
        (WAYS[one.way].title, one.generations, *(f"{one.cpu.get(part, 0) / one.generations:.2f}" for part in parts))
        for one in (row.measured for row in rows)
    ]
    return table(("CPU-seconds each, by part", "generations", *parts), cells)
