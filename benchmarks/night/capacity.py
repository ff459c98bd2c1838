"""Measure a table on an account that runs a few generations at once: what each way to wait for a place costs.

`python -m benchmarks.night.capacity` prints the table. All ways are measured in one Airflow, one after the other.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.night.costs import WorkerRuns, taken_for_dead, worker_runs
from benchmarks.night.full_account import POOL, WAYS
from benchmarks.night.stage import Stage, new_lines, stage
from benchmarks.report import table

#: The supervisor of a worker reports its last end up to this many seconds after the DAG run has ended.
_LAST_REPORT = 6.0
TRIGGERERS = ("triggerer-1", "triggerer-2")


@dataclass(frozen=True)
class Night:
    """What one way's run was like.

    :param way: key of :data:`WAYS`
    :param makespan: seconds from the run's start to its end
    :param runs: processes that ran for its tasks, and the seconds for which they held a worker
    :param refused: submissions that found the account full
    :param lost: tries that were lost
    :param taken_for_dead: the states of tasks that the scheduler took for dead
    :param load: the machine's, at the beginning and at the end
    """

    way: str
    makespan: float
    runs: WorkerRuns
    refused: int
    lost: int
    taken_for_dead: list[str]
    load: tuple[float, float]


def measure(ready: Stage, way: str, rows: int) -> Night:
    """Let a way's DAG run once.

    :param ready: a running Airflow, with the DAG
    :param way: key of :data:`WAYS`
    :param rows: how many videos it has to make
    :raises AssertionError: a task failed, or a video was not paid for exactly once
    """
    ready.gateway.reset()
    grown, load = new_lines(ready.airflow.parts["scheduler"].log), os.getloadavg()[0]
    state, makespan = ready.run(way)
    time.sleep(_LAST_REPORT)
    lines, ledger = grown(), ready.gateway.ledger()
    paid = [one for one in ledger["paid"] if one["status"] == "completed"]
    wanted = rows if WAYS[way].operator else 0
    assert (state, len(paid)) == ("success", wanted), f"{way}: the run is {state}, {len(paid)} of {wanted} paid"
    tries = ready.ask(f"SELECT map_index, try_number FROM task_instance WHERE dag_id = '{way}'")
    return Night(
        way=way,
        makespan=makespan,
        runs=worker_runs(lines),
        refused=ledger["submits"] - wanted,
        lost=sum(number - 1 for number in tries.values()),
        taken_for_dead=taken_for_dead(lines),
        load=(load, os.getloadavg()[0]),
    )


def figures(nights: Sequence[Night], *, rows: int, ideal: float) -> str:
    """Return the table, in Markdown.

    :param nights: one of each way; the pool's has no waiting for a place, and is what the others are compared with
    :param rows: how many videos each made
    :param ideal: rows by places, times seconds
    """
    busy = {night.way: night.runs.seconds for night in nights}
    waiting = {way: seconds - busy["pool"] for way, seconds in busy.items() if way != "empty"} if "pool" in busy else {}
    head = (
        *("", "makespan, s", "by ideal", "worker runs", "worker-s", "of it for waiting", "by worker's"),
        *("refused POSTs a video", "tries lost", "taken for dead", "load"),
    )
    cells = [
        (
            WAYS[night.way].title,
            f"{night.makespan:.0f}",
            f"{night.makespan / ideal:.2f}",
            night.runs.count,
            f"{night.runs.seconds:.0f}",
            f"{waiting[night.way]:.0f}" if night.way in waiting else "-",
            f"{waiting[night.way] / waiting['worker']:.0%}" if {night.way, "worker"} <= waiting.keys() else "-",
            f"{night.refused / rows:.2f}",
            night.lost,
            ", ".join(night.taken_for_dead) or "none",
            " / ".join(f"{one:.0f}" for one in night.load),
        )
        for night in nights
    ]
    return table(head, cells)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night.capacity", description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--places", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="that each video takes")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--triggerers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    # A proxy of this machine has no business on the loopback address.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    machine, nights = describe_machine(), list[Night]()
    ideal = given.rows / given.places * given.seconds
    with stage(
        given.seconds,
        TRIGGERERS[: given.triggerers],
        gateway=("--max-concurrent", str(given.places)),
        workers=given.workers,
    ) as ready:
        ready.start({way: _dag_file(way, given.rows, ready.image) for way in given.ways})
        slots = {"name": POOL, "slots": given.places, "include_deferred": True}
        ready.airflow.call("POST", "/pools", json=slots)
        for way in given.ways:
            nights.append(measure(ready, way, given.rows))
            print(f"... {nights[-1]}", flush=True)
    print(
        f"Measured on {machine}: {given.rows} rows, {given.places} places, {given.seconds:g} s a video, "
        f"{given.workers} workers, {given.triggerers} triggerer(s); ideal {ideal:.0f} s.\n\n"
        f"{figures(nights, rows=given.rows, ideal=ideal)}"
    )


def _dag_file(way: str, rows: int, image: Path) -> str:
    call = f"build({way!r}, {rows}, {str(image)!r})"
    return f'"""An Airflow DAG."""\nfrom benchmarks.night.full_account import build\n\ndag = {call}\n'


if __name__ == "__main__":
    main()
