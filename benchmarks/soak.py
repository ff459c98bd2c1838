"""Whether a task that a worker defers is ever woken too early: hundreds of deferrals in a busy Airflow.

`make soak` runs it, and prints a table. With `--hold 4` it shows what the hold is for: docs/explanation/waiting.md. A
loaded machine is the point; `--load` adds processes that compute.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.machine import describe_machine
from tests.support.emulator import KEY, Emulator, picture
from tests.support.system.deployment import Deployment
from tests.support.waiting import until

_DAG_ID = "soak"
#: Instances of the mapped task in a run, and runs at a time: more than there are slots.
_EACH_RUN, _RUNS_AT_A_TIME = 25, 2
#: Airflow's own pauses, which those of the other system tests are shorter than. On a machine that is as busy as it
#: should be here, a worker that waits only 5 s for the API server loses tries for a reason of its own.
_SETTINGS = {"CORE__PARALLELISM": "6", "WORKERS__EXECUTION_API_TIMEOUT": "60"}
#: Seconds. Only a soak that hangs takes so long.
_LONGEST = 4 * 3600.0
_FILE = '''"""An Airflow DAG."""
from datetime import timedelta

from airflow.sdk import DAG
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator
from airflow_provider_kirin.utils import deferral

if {hold} is not None:
    deferral.min_deferral = lambda: {hold}

with DAG("soak", schedule=None, catchup=False, max_active_runs={runs}):
    KirinGenerateVideoOperator.partial(
        task_id="generate",
        end_from_trigger={ends_here},
        retry_delay=timedelta(seconds=1),
    ).expand(payload=[{{"image": {image!r}, "prompt": f"Cup {{number}}."}} for number in range({count})])
'''
_EXECUTOR_EVENT = re.compile(
    r"^(?P<at>\S+) .*Received executor event with state success for task instance TaskInstanceKey\("
    r".*run_id='(?P<run>[^']+)', try_number=(?P<attempt>\d+), map_index=(?P<index>-?\d+)"
)
_MISMATCH = re.compile(r"finished with state success, but the task instance's state attribute is (\w+)")


@dataclass(frozen=True)
class Soaked:
    """What came of it.

    :param deferrals: tasks that were deferred by a worker
    :param mismatches: the states of tasks that the scheduler took for dead although their workers had succeeded
    :param lost: tasks that needed another try, for that reason or any other
    :param failed: tasks that did not succeed at all
    :param lags: seconds from each deferral to the executor's report of the worker's end, sorted
    :param seconds: from the first start to the last end
    :param load: the machine's load average: at the start, half way, at the end
    """

    deferrals: int
    mismatches: list[str]
    lost: int
    failed: int
    lags: list[float]
    seconds: float
    load: tuple[float, ...]

    def table(self) -> str:
        """Return it as a row of Markdown, with a header."""
        quantiles = [self.lags[min(int(len(self.lags) * q), len(self.lags) - 1)] for q in (0.5, 0.9, 0.99, 1.0)]
        cells = (
            str(self.deferrals),
            ", ".join(f"{count} {state}" for state, count in Counter(self.mismatches).items()) or "none",
            str(self.lost),
            str(self.failed),
            " / ".join(f"{one:.1f} s" for one in quantiles),
            f"{sum(one > 5 for one in self.lags) / len(self.lags):.0%}",
            f"{self.seconds:.0f} s",
            " / ".join(f"{one:.0f}" for one in self.load),
        )
        header = "| deferrals | taken for dead | lost a try | failed | reported after (p50 / p90 / p99 / max) "
        return f"{header}| after 5 s | took | load |\n|{'---|' * len(cells)}\n| {' | '.join(cells)} |"


def soak(airflow: Deployment, count: int) -> Soaked:
    """Let a number of tasks be deferred and woken, and count what went wrong.

    :param airflow: has the DAG
    :param count: how many; a multiple of :data:`_EACH_RUN`
    """
    runs = [f"run-{number:03}" for number in range(count // _EACH_RUN)]
    began, load = time.monotonic(), [os.getloadavg()[0]]
    for run in runs:
        airflow.start_run(_DAG_ID, run, {})

    def ended(some: Sequence[str]) -> bool:
        for part in airflow.parts.values():
            part.check()
        return all(airflow.run_state(_DAG_ID, run) in ("success", "failed") for run in some)

    for some in (runs[: len(runs) // 2], runs):
        until(lambda some=some: ended(some), f"{len(some)} runs have ended", _LONGEST, pause=5)  # type: ignore[misc]
        load.append(os.getloadavg()[0])
    tis = [ti for run in runs for ti in airflow.tis(_DAG_ID, run)]
    assert len(tis) == count, f"{len(tis)} task instances, not {count}"
    log = airflow.parts["scheduler"].log.read_text(errors="replace")
    reported = first_reports(log.splitlines())
    deferred = {
        (run, *key): at
        for run in runs
        for key, at in deferrals(airflow.home / "logs" / f"dag_id={_DAG_ID}" / f"run_id={run}").items()
    }
    return Soaked(
        deferrals=count,
        lost=sum(ti["try_number"] > 1 for ti in tis),
        mismatches=_MISMATCH.findall(log),
        failed=sum(ti["state"] != "success" for ti in tis),
        lags=sorted(reported[key] - at for key, at in deferred.items() if key in reported),
        seconds=time.monotonic() - began,
        load=tuple(load),
    )


def first_reports(scheduler_log: Iterable[str]) -> dict[tuple[str, int, int], float]:
    """Return when the scheduler read that the worker which deferred has ended: the first of two reports of a try.

    :param scheduler_log: its lines
    :return: by run id, map index and try, in seconds since the epoch
    """
    reported: dict[tuple[str, int, int], float] = {}
    for line in scheduler_log:
        if found := _EXECUTOR_EVENT.match(line):
            key = (found["run"], int(found["index"]), int(found["attempt"]))
            reported.setdefault(key, _seconds(found["at"]))
    return reported


def deferrals(run_logs: Path) -> dict[tuple[int, int], float]:
    """Return when each task of a run said that it defers.

    :param run_logs: the folder of the run's logs
    :return: by map index and try, in seconds since the epoch
    """
    deferred: dict[tuple[int, int], float] = {}
    for path in run_logs.glob("task_id=*/map_index=*/attempt=[0-9].log"):
        index, attempt = (int(part.removesuffix(".log").partition("=")[2]) for part in path.parts[-2:])
        for line in path.read_text(errors="replace").splitlines():
            if "Pausing task as DEFERRED" in line:
                deferred[index, attempt] = _seconds(json.loads(line)["timestamp"])
    return deferred


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _compute() -> None:
    while True:
        pass


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """Let processes compute."""
    workers = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()


@contextmanager
def _deployment(seconds: float, hold: float | None, *, ends_here: bool) -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="kirin-soak-") as folder:
        image = Path(folder) / "cup.jpg"
        image.write_bytes(picture(320, 320))
        gateway = Emulator("--seconds", str(seconds))
        airflow = Deployment(Path(folder) / "airflow", settings=_SETTINGS)
        dag = _FILE.format(hold=hold, ends_here=ends_here, runs=_RUNS_AT_A_TIME, image=str(image), count=_EACH_RUN)
        (airflow.dags / f"{_DAG_ID}.py").write_text(dag)
        try:
            airflow.start()
            airflow.connect("kirin_default", gateway.url, KEY, "{}")
            airflow.wait_for_dags([_DAG_ID])
            yield airflow
        finally:
            gateway.stop()
            airflow.stop()


def main() -> int:
    """Soak, and return 1 if a try was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=500, help=f"deferrals, in steps of {_EACH_RUN}")
    parser.add_argument("--seconds", type=float, default=3.0, help="that a generation takes")
    parser.add_argument("--hold", type=float, help="seconds between a deferral and its event, instead of our own")
    # Otherwise a worker ends each task, and it is that worker's start which can come too early.
    parser.add_argument("--end-in-triggerer", action="store_true", help="let the triggerer end each task, at once")
    parser.add_argument("--load", type=int, default=0, help="processes that compute beside it")
    options = parser.parse_args()
    # SIGTERM ends it as Ctrl-C does: nothing that it started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _deployment(options.seconds, options.hold, ends_here=options.end_in_triggerer) as airflow, _busy(options.load):
        soaked = soak(airflow, max(options.count // _EACH_RUN, 1) * _EACH_RUN)
    print(f"{describe_machine()}\n\n{soaked.table()}", flush=True)
    return int(bool(soaked.lost or soaked.mismatches or soaked.failed))


if __name__ == "__main__":
    raise SystemExit(main())
