"""Measure how a batch grows: CPU, memory, waves and what Airflow keeps, for tables of 100 to 10,000 rows.

`make bench-table` runs it and renews docs/. The largest table is cleared once, a third of the way through. Before the
tables, many small batches show whether a wave is ever resumed too early.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import describe_machine
from benchmarks.night.costs import Cpu, above_idle, blocked, cpu_of, taken_for_dead, worker_runs
from benchmarks.night.report import NOT_AIRFLOW
from benchmarks.night.stage import Stage, new_lines, stage
from benchmarks.plots import plot_table
from benchmarks.report import renew, table
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
TRIGGERER = "triggerer-1"
#: Seconds. What a run leaves to do is done after them, and counted.
_AFTERMATH = 15.0
#: The prompt of videos that a worker does not wait for.
_SLOW = "A cup. [[seconds:12]]"
_DAG = '''"""An Airflow DAG."""
from datetime import timedelta

from airflow.sdk import DAG
from airflow_provider_kirin.operators.batch import KirinBatchOperator

with DAG({dag_id!r}, schedule=None, catchup=False, max_active_tasks=64):
    KirinBatchOperator.partial(
        task_id="videos",
        key="sku",
        destination={out!r},
        max_in_flight={places},
        retries=9,
        retry_delay=timedelta(seconds=5),
    ).expand(payloads={tables!r})
'''


@dataclass(frozen=True)
class Grown:
    """What a table's run was like.

    :param rows: of all batches of the run
    :param batches: how many there were
    :param makespan: seconds
    :param worker_runs: processes that ran for it: one a wave
    :param worker_seconds: for which they held a worker
    :param cpu: CPU-seconds of Airflow's processes, less the idle share
    :param memory: megabytes of the largest process of a task
    :param xcom: bytes of the largest XCom
    :param journal: bytes of the largest journal, at the end
    :param blocked: seconds of the longest time for which the triggerer's event loop stood still
    :param lost: tries that were lost, but for the one that was cleared
    :param taken_for_dead: tasks that the scheduler took for dead
    :param load: the machine's, at the beginning and at the end
    """

    rows: int
    batches: int
    makespan: float
    worker_runs: int
    worker_seconds: float
    cpu: float
    memory: float
    xcom: int
    journal: int
    blocked: float
    lost: int
    taken_for_dead: int
    load: tuple[float, float]


class Memory(threading.Thread):
    """Watches the processes of tasks: the largest of them, in megabytes.

    :param scheduler: whose descendants they are, two below it
    """

    def __init__(self, scheduler: int) -> None:
        super().__init__(daemon=True)
        self._scheduler = psutil.Process(scheduler)
        self._ended = threading.Event()
        self.most = 0.0

    def run(self) -> None:
        """Watch until it is ended."""
        while not self._ended.wait(0.5):
            for process in self._scheduler.children(recursive=True):
                try:
                    self.most = max(self.most, process.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue

    def end(self) -> float:
        """Stop watching, and return the most."""
        self._ended.set()
        self.join()
        return self.most


@contextmanager
def _watched(scheduler: int) -> Iterator[Memory]:
    memory = Memory(scheduler)
    memory.start()
    try:
        yield memory
    finally:
        memory.end()


def measure(ready: Stage, dag_id: str, tables: Sequence[Path], out: Path, idle: Cpu, *, clear: bool = False) -> Grown:
    """Let a DAG run once.

    :param ready: a running Airflow, with the DAG
    :param dag_id: its name
    :param tables: one for each batch
    :param out: the destination of the batches
    :param idle: CPU-seconds a second of each part when there is nothing to do
    :param clear: whether to clear the task once, when a third of the videos are paid
    :raises AssertionError: a row was not paid for exactly once, or its video or record is missing
    """
    rows = sum(_count(one) for one in tables)
    ready.gateway.reset()
    grown = {name: new_lines(part.log) for name, part in ready.airflow.parts.items()}
    load, before, began = os.getloadavg()[0], cpu_of(ready.pids()), time.monotonic()
    if clear:
        threading.Thread(target=_clear, args=(ready, dag_id, rows // 3), daemon=True).start()
    with _watched(ready.pids()["scheduler"]) as memory:
        state, makespan = ready.run(dag_id)
    time.sleep(_AFTERMATH)
    cpu = above_idle(before, cpu_of(ready.pids()), idle, time.monotonic() - began)
    _check(ready, state, rows, out / dag_id)
    scheduler = grown["scheduler"]()
    runs = worker_runs(scheduler)
    (xcom,) = ready.ask(f"SELECT max(length(value::text)), 1 FROM xcom WHERE dag_id = '{dag_id}'")
    journals = Counter[Path]()
    for file in (out / dag_id).glob("**/_journal/*"):
        journals[file.parent] += file.stat().st_size
    return Grown(
        rows=rows,
        batches=len(tables),
        makespan=makespan,
        worker_runs=runs.count,
        worker_seconds=runs.seconds,
        cpu=sum(used for part, used in cpu.items() if part not in NOT_AIRFLOW),
        memory=memory.most,
        xcom=int(xcom),
        journal=max(journals.values(), default=0),
        blocked=max(blocked(grown[TRIGGERER]()), default=0.0),
        lost=ready.lost(dag_id) - clear,
        taken_for_dead=len(taken_for_dead(scheduler)),
        load=(load, os.getloadavg()[0]),
    )


def _clear(ready: Stage, dag_id: str, paid: int) -> None:
    until(lambda: ready.gateway.ledger()["submits"] >= paid, f"{paid} rows are paid", seconds=4 * 3600, pause=1)
    (run_id,) = ready.ask(f"SELECT run_id, 1 FROM dag_run WHERE dag_id = '{dag_id}'")
    ready.airflow.clear(dag_id, run_id)


def _check(ready: Stage, state: str, rows: int, folder: Path) -> None:
    ledger = ready.gateway.ledger()
    paid = {one["id"] for one in ledger["paid"] if one["status"] == "completed"}
    assert (state, ledger["submits"], len(paid)) == ("success", rows, rows), f"{state}: {len(paid)} of {rows} paid"
    records = [json.loads(line) for file in folder.glob("**/manifest.jsonl") for line in file.open()]
    videos = {file.resolve() for file in folder.glob("**/*.mp4")}
    assert len(records) == len(videos) == rows, f"{len(records)} records, {len(videos)} videos, {rows} rows"
    assert {record["kirin_task_id"] for record in records} == paid, "the manifests name what was paid"


def _count(file: Path) -> int:
    with file.open() as lines:
        return sum(1 for _ in lines) - 1


def _table(folder: Path, name: str, rows: int, image: Path, prompt: str = "A cup.") -> Path:
    file = folder / f"{name}.csv"
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("sku", "image", "prompt"))
        writer.writerows((f"{name}-{number:05}", str(image), prompt) for number in range(rows))
    return file


def figures(runs: Sequence[Grown], machine: str, heading: str) -> str:
    """Return the table, in Markdown."""
    head = (
        *("", "makespan, s", "rows a second", "waves", "worker-s a row", "CPU-s a row", "task's memory, MB"),
        *("XCom, bytes", "journal, bytes", "loop blocked, s", "tries lost", "taken for dead", "load"),
    )
    cells = [
        (
            f"{one.rows:,} rows" + (f" in {one.batches} batches" if one.batches > 1 else ""),
            f"{one.makespan:.0f}",
            f"{one.rows / one.makespan:.1f}",
            one.worker_runs,
            f"{one.worker_seconds / one.rows:.3f}",
            f"{one.cpu / one.rows:.4f}",
            f"{one.memory:.0f}",
            f"{one.xcom:,}",
            f"{one.journal:,}",
            f"{one.blocked:.1f}",
            one.lost,
            one.taken_for_dead,
            " / ".join(f"{load:.0f}" for load in one.load),
        )
        for one in runs
    ]
    return f"Measured on {machine}: {heading}.\n\n{table(head, cells)}"


def main() -> None:
    """Measure, print, and renew the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night.table", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--seconds", type=float, default=0.5, help="that each video takes")
    parser.add_argument("--places", type=int, default=100, help="videos at a time, of each batch")
    parser.add_argument("--resumes", type=int, default=500, help="of small batches that run side by side; 0 for none")
    parser.add_argument("--quick", action="store_true", help="100 and 300 rows, 20 resumes, and nothing into docs/")
    given = parser.parse_args()
    sizes, resumes = ([100, 300], 20) if given.quick else (given.rows, given.resumes)
    # A proxy of this machine has no business on the loopback address.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    machine = describe_machine()
    with stage(given.seconds, workers=6) as ready:
        folder = ready.image.parent
        out = folder / "out"
        files = {f"rows_{rows}": [_table(folder, f"r{rows}", rows, ready.image)] for rows in sizes}
        dags = {name: _dag(name, out, given.places, tables) for name, tables in files.items()}
        if resumes:
            # A wave for each pair of rows.
            batches = min(20, resumes)
            files["resumes"] = [
                _table(folder, f"b{number}", 2 * resumes // batches, ready.image, _SLOW) for number in range(batches)
            ]
            dags["resumes"] = _dag("resumes", out, 2, files["resumes"])
        ready.start(dags)
        idle, runs = ready.rest(), dict[str, Grown]()
        for name, tables in files.items():
            clear = name == f"rows_{max(sizes)}"
            runs[name] = measure(ready, name, tables, out, idle, clear=clear)
            print(f"... {json.dumps(dataclasses.asdict(runs[name]))}", file=sys.stderr, flush=True)
    heading = f"{given.places} videos at a time (2 in the small batches), {given.seconds:g} s each"
    print(text := figures(list(runs.values()), machine, heading))
    if not given.quick:
        docs = ROOT / "docs"
        renew(docs / "explanation" / "comparison.md", text, command="make bench-table")
        plot_table([runs[f"rows_{rows}"] for rows in sizes], docs / "images" / "batch-growth.svg")


def _dag(dag_id: str, out: Path, places: int, tables: Sequence[Path]) -> str:
    return _DAG.format(dag_id=dag_id, out=str(out), places=places, tables=[str(one) for one in tables])


if __name__ == "__main__":
    main()
