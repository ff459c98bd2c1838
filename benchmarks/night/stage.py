"""The Airflow, the gateway and the image with which ways are measured, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.night.costs import Cpu, Measured, above_idle, blocked, busy_seconds, cpu_of, worker_runs
from benchmarks.night.ready import READY
from benchmarks.night.ways import WAYS
from tests.support.emulator import KEY, Emulator, picture
from tests.support.system.deployment import Deployment
from tests.support.waiting import until

#: What differs from Airflow's own defaults. On a machine that others use too, a worker that waits only 5 s for the API
#: server loses tries for a reason of its own.
SETTINGS = {"LOGGING__JSON_LOGS": "True", "WORKERS__EXECUTION_API_TIMEOUT": "60"}
#: Seconds without work: until Airflow is at rest after its start, and in which its idle share is measured.
_REST, _IDLE = 20.0, 30.0
#: Seconds after which the rest of a run's work, such as callbacks in the DAG processor, is done; it is counted.
_AFTERMATH = 20.0
#: Whether a run has ended is asked this often, and for so long.
_POLL, _LONGEST = 1.0, 4 * 3600.0


class Stage:
    """A running Airflow, and the gateway.

    :param folder: an empty one
    :param seconds: that a generation takes
    :param triggerers: their names
    :param gateway: more of its command line
    :param workers: tasks that run at the same time
    """

    def __init__(
        self,
        folder: Path,
        seconds: float,
        triggerers: Iterable[str] = ("triggerer-1",),
        *,
        gateway: Sequence[str] = (),
        workers: int = 4,
    ) -> None:
        self.seconds = seconds
        self.gateway = Emulator("--seconds", str(seconds), *gateway)
        self._ready = _ready(self.gateway.url)
        self.triggerers = tuple(triggerers)
        self.airflow = Deployment(
            folder / "airflow", settings=SETTINGS | {"CORE__PARALLELISM": str(workers)}, triggerers=self.triggerers
        )
        self.image = folder / "cup.jpg"
        self.image.write_bytes(picture(320, 320))
        self._idle: Cpu = {}
        self._runs = 0

    def start(self, files: Mapping[str, str]) -> None:
        """Start Airflow with these DAGs, and create its connections to the gateway.

        :param files: what is in their files, by DAG id
        """
        for dag_id, content in files.items():
            (self.airflow.dags / f"{dag_id}.py").write_text(content)
        self.airflow.start()
        self.airflow.connect("kirin_default", self.gateway.url, KEY, "{}")
        assert self._ready.stdout is not None
        ready = self._ready.stdout.readline().removeprefix(READY).strip()
        for name, url in (("http_default", self.gateway.url), ("http_ready", ready)):
            scheme, _, place = url.partition("://")
            host, _, port = place.partition(":")
            headers = f'{{"Authorization": "Bearer {KEY}"}}'
            body = {"connection_id": name, "conn_type": "http", "schema": scheme, "host": host, "port": int(port)}
            self.airflow.call("POST", "/connections", json=body | {"extra": headers})
        self.airflow.wait_for_dags(files)

    def stop(self) -> None:
        """End all that was started."""
        self._ready.terminate()
        self._ready.wait()
        self.gateway.stop()
        self.airflow.stop()

    def pids(self) -> dict[str, int]:
        """Return the process of each part of Airflow, of its database, and of the gateway."""
        parts = {name: part.pid for name, part in self.airflow.parts.items()}
        return parts | {"PostgreSQL": self.airflow.postgres.pid, "gateway": self.gateway.process.pid}

    def ask(self, query: str) -> dict[Any, Any]:
        """Ask Airflow's database, and return rows of two columns as a dict.

        :param query: in SQL
        """
        import psycopg2

        connection = psycopg2.connect(self.airflow.postgres.url.replace("+psycopg2", ""))
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return dict(cursor.fetchall())
        finally:
            connection.close()

    def rest(self) -> Cpu:
        """Wait until Airflow is at rest, and measure what it uses then, in CPU-seconds a second."""
        time.sleep(_REST)
        before, began = cpu_of(self.pids()), time.monotonic()
        time.sleep(_IDLE)
        after, seconds = cpu_of(self.pids()), time.monotonic() - began
        self._idle = {part: (after[part] - before[part]) / seconds for part in after}
        return self._idle

    def measure(self, way: str, count: int) -> Measured:
        """Let a DAG run: once, or once for each generation.

        :param way: key of :data:`benchmarks.night.ways.WAYS`
        :param count: how many generations it has
        :raises AssertionError: something failed, or was not paid for exactly once
        """
        self.gateway.reset()
        grown = {name: new_lines(part.log) for name, part in self.airflow.parts.items()}
        load = os.getloadavg()[0]
        before, busy, began = cpu_of(self.pids()), busy_seconds(), time.monotonic()
        state, makespan = self.run(way, times=count if WAYS[way].by_run else 1)
        time.sleep(_AFTERMATH)
        after, seconds = cpu_of(self.pids()), time.monotonic() - began
        ours = sum(after.values()) - sum(before.values())
        others = (busy_seconds() - busy - ours) / seconds / (os.cpu_count() or 1)
        self._check(way, count, state)
        runs = worker_runs(grown["scheduler"]())
        ledger = self.gateway.ledger()
        return Measured(
            way=way,
            generations=count,
            seconds=self.seconds,
            makespan=makespan,
            worker_runs=runs.count,
            worker_seconds=runs.seconds,
            cpu=above_idle(before, after, self._idle, seconds),
            posts=ledger["submits"],
            gets=ledger["gets"],
            lost=self.lost(way),
            blocked=[one for name in self.triggerers for one in blocked(grown[name]())],
            others=others,
            load=(load, os.getloadavg()[0]),
            ended_at=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        )

    def run(self, dag_id: str, *, times: int = 1) -> tuple[str, float]:
        """Let a DAG run, and return how its runs ended, and the seconds from their first start to their last end.

        :param dag_id: the DAG
        :param times: how often, at the same time
        """
        self._runs += 1
        name = f"night-{self._runs}"
        for number in range(times):
            self.airflow.start_run(dag_id, f"{name}.{number}", {})
        runs = f"FROM dag_run WHERE run_id LIKE '{name}.%'"

        def states() -> set[str]:
            # Not through the API server, whose CPU is measured.
            return set(self.ask(f"SELECT state, 1 {runs}"))

        def have_ended() -> bool:
            for part in self.airflow.parts.values():
                part.check()
            return states() <= {"success", "failed"}

        until(have_ended, f"{dag_id} has ended", seconds=_LONGEST, pause=_POLL)
        (took,) = self.ask(f"SELECT EXTRACT(EPOCH FROM max(end_date) - min(start_date)), 1 {runs}")
        return " and ".join(sorted(states())), float(took)

    def lost(self, dag_id: str) -> int:
        """Return how many tries its task instances lost so far.

        :param dag_id: the DAG
        """
        (lost,) = self.ask(
            f"SELECT coalesce(sum(greatest(try_number, 1) - 1), 0), 1 FROM task_instance WHERE dag_id = '{dag_id}'"
        )
        return int(lost)

    def _check(self, way: str, count: int, state: str) -> None:
        assert state == "success", f"the run of {way} is {state}"
        ledger: dict[str, Any] = self.gateway.ledger()
        paid = [one for one in ledger["paid"] if one["status"] == "completed"]
        wanted = 0 if WAYS[way].is_trivial else count
        assert (len(paid), ledger["submits"]) == (wanted, wanted), f"{way}: {len(paid)} paid, {ledger['submits']} POSTs"


def new_lines(log: Path) -> Callable[[], list[str]]:
    """Return what reads the lines that a log grows by from now on.

    :param log: the file
    """
    size = log.stat().st_size

    def read() -> list[str]:
        with log.open("rb") as file:
            file.seek(size)
            return file.read().decode(errors="replace").splitlines()

    return read


def _ready(gateway: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.night.ready", gateway]
    return subprocess.Popen(command, env=os.environ | {"KIRIN_BENCH_KEY": KEY}, stdout=subprocess.PIPE, text=True)


@contextmanager
def stage(seconds: float, triggerers: Iterable[str] = ("triggerer-1",), **options: Any) -> Iterator[Stage]:
    """Make a stage in a folder of its own, and end whatever it started; the arguments are those of :class:`Stage`."""
    # SIGTERM ends it as Ctrl-C does: nothing that it started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="kirin-night-") as folder:
        made = Stage(Path(folder), seconds, triggerers, **options)
        try:
            yield made
        finally:
            made.stop()
