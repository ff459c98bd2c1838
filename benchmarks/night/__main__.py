"""Measure a night's work: makespan, worker-seconds, CPU-seconds and requests of each way to get many videos.

`make bench-night` runs this. What was measured earlier with other sizes stays in build/night.json, and in the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.night.costs import Measured
from benchmarks.night.report import Row, figures, ideal
from benchmarks.night.stage import Stage, stage
from benchmarks.night.ways import WAYS, dag_file
from benchmarks.report import renew

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "night.json"
#: Generations of a way that holds a worker for each of them, unless it is asked for: 200 would take an hour.
FEW = 24
_CHOICES = [name for name, way in WAYS.items() if not way.is_trivial]


def measure(ways: list[str], count: int, seconds: float) -> None:
    """Measure ways in one Airflow, and before them what is ideal there.

    :param ways: keys of :data:`benchmarks.night.ways.WAYS`
    :param count: generations of each
    :param seconds: that each generation takes
    """
    machine = describe_machine()
    with stage(seconds) as ready:
        trivial = list(dict.fromkeys(WAYS[way].trivial for way in ways))
        files = {way: dag_file(way, way, count, ready.image) for way in (*trivial, *ways)}
        ready.start(files | {"warm_up": dag_file("warm_up", "pairs", 4, ready.image)})
        ready.run("warm_up")
        idle = ready.rest()
        _say(f"at rest, CPU-seconds a second: {json.dumps({part: round(used, 3) for part, used in idle.items()})}")
        last: Measured | None = None
        for way in ways:
            nothing = WAYS[way].trivial
            before = last if last and last.way == nothing else _measure(ready, nothing, count)
            one, last = _measure(ready, way, count), _measure(ready, nothing, count)
            keep(Row(one, ideal(one, before, last), machine))
            keep(Row(last, ideal(last, last, last), machine))


def _measure(ready: Stage, way: str, count: int) -> Measured:
    one = ready.measure(way, count)
    _say(json.dumps(dataclasses.asdict(one)))
    return one


def keep(row: Row) -> None:
    """Keep a row, instead of an older one of the same way and size."""
    KEPT.parent.mkdir(exist_ok=True)
    rows = [one for one in kept() if _size(one) != _size(row)]
    KEPT.write_text(json.dumps([dataclasses.asdict(one) for one in [*rows, row]], indent=1))


def kept() -> list[Row]:
    """Return all rows that were measured, in the order in which they are shown."""
    rows = [_row(**one) for one in json.loads(KEPT.read_text())] if KEPT.exists() else []
    order = list(WAYS)
    return sorted(rows, key=lambda row: (row.measured.seconds, order.index(row.measured.way), _size(row)))


def _row(measured: dict[str, Any], ideal: float, machine: str) -> Row:
    return Row(Measured(**measured | {"load": tuple(measured["load"])}), ideal, machine)


def _size(row: Row) -> tuple[str, int, float]:
    return row.measured.way, row.measured.generations, row.measured.seconds


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, keep, print the tables, and renew the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night", description=__doc__)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="that each generation takes")
    parser.add_argument("--ways", nargs="*", choices=_CHOICES)
    parser.add_argument("--quick", action="store_true", help="8 generations of 5 s, and nothing into docs/")
    given = parser.parse_args()
    count, seconds = (8, 5.0) if given.quick else (given.generations, given.seconds)
    # A proxy of this machine has no business on the loopback address.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    ways = given.ways if given.ways is not None else _CHOICES
    blocking = [name for name in ways if WAYS[name].blocks and given.ways is None]
    measure([name for name in ways if name not in blocking], count, seconds)
    if blocking:
        measure(blocking, min(count, FEW), seconds)
    print(text := figures([row for row in kept() if row.measured.seconds == seconds]))
    if not given.quick:
        renew(ROOT / "docs" / "explanation" / "comparison.md", text, command="make bench-night")


if __name__ == "__main__":
    main()
