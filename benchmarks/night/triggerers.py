"""What thousands of waits cost one triggerer and two: how Airflow distributes them, and what happens when one is lost.

`python -m benchmarks.night.triggerers` prints the table. The waits are sensors that start in the triggerer, so that no
worker is needed to get there.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.machine import describe_machine
from benchmarks.night.costs import Cpu, blocked, cpu_of
from benchmarks.night.stage import Stage, new_lines, stage
from benchmarks.night.ways import MODEL
from benchmarks.report import renew, table
from tests.support.system.deployment import TRIGGERERS

ROOT = Path(__file__).resolve().parents[2]
#: Waits of one DAG run: the triggerer reads the whole DAG for each task that starts there.
EACH_RUN = 50
#: Seconds within which a change has to take effect.
_PATIENCE = 300.0
#: Airflow's default of ``[triggerer] capacity``.
CAPACITY = 1000
_FILE = '''"""An Airflow DAG."""
from airflow.sdk import DAG
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

with DAG("waits", schedule=None, catchup=False, max_active_runs=1000):
    for number in range({count}):
        KirinTaskSensor(
            task_id=f"wait_{{number}}",
            kirin_task_id="{{{{ dag_run.conf['ids'][%d] }}}}" % number,
            start_from_trigger=True,
            timeout=7200,
        )
'''
#: By Airflow's rule: a triggerer without a heartbeat for 30 seconds is lost, and any other may take its waits.
_HOLDERS = """
SELECT CASE WHEN job.end_date IS NULL AND job.latest_heartbeat > now() - interval '30 seconds'
  THEN job.hostname ELSE 'none' END AS holder, count(*)
FROM trigger LEFT JOIN job ON job.id = trigger.triggerer_id GROUP BY 1
"""
_TRANSACTIONS = "SELECT 'all', xact_commit FROM pg_stat_database WHERE datname = 'airflow'"


@dataclass(frozen=True)
class State:
    """What was measured while nothing changed.

    :param title: what had happened before
    :param reached_in: seconds from that to this state, None if it was not reached in time
    :param holders: waits by triggerer; those of "none" wait to be taken
    :param cpu_before: CPU-seconds that this took, by part
    :param cpu: CPU-seconds a second, by part
    :param memory: MB of each triggerer, which is two processes
    :param blocked: seconds for which an event loop stood still, each time that a triggerer complained, on the way
        to this state and in it
    :param gets: polls of the gateway a second
    :param transactions: of the database, a second
    """

    title: str
    reached_in: float | None
    holders: dict[str, int]
    cpu_before: Cpu
    cpu: Cpu
    memory: dict[str, float]
    blocked: list[float]
    gets: float
    transactions: float


class Waits:
    """Waits in a real Airflow, and what is seen of them.

    :param at: the stage
    :param each_run: waits of one DAG run, which has as many tasks
    :param window: seconds in which a state is measured
    """

    def __init__(self, at: Stage, each_run: int, window: float) -> None:
        self.at = at
        self.each_run = each_run
        self.window = window
        self._runs = 0

    def start(self, count: int) -> None:
        """Submit generations, and let sensors wait for them.

        :param count: how many, in full runs of the DAG
        """
        image = base64.b64encode(self.at.image.read_bytes()).decode()

        def submit(number: int) -> str:
            body = {"model": MODEL, "input": [{"params": {"image": image, "prompt": f"Cup {number}."}}]}
            return str(self.at.gateway.call("POST", "/model/v1/generation", json=body)["id"])

        with ThreadPoolExecutor(4) as pool:
            ids = list(pool.map(submit, range(count)))
        for first in range(0, count, self.each_run):
            self._runs += 1
            self.at.airflow.start_run("waits", f"run-{self._runs}", {"ids": ids[first : first + self.each_run]})

    def holders(self) -> dict[str, int]:
        """Return how many waits each triggerer has."""
        return self.at.ask(_HOLDERS)

    def held(self, count: int) -> Callable[[], bool]:
        """Return a function that checks whether triggerers hold this many waits.

        :param count: how many
        """
        return lambda: sum(number for name, number in self.holders().items() if name != "none") == count

    def runs_ended(self) -> bool:
        """Return whether all runs have ended."""
        names = [f"run-{number}" for number in range(1, self._runs + 1)]
        return all(self.at.airflow.run_state("waits", name) in ("success", "failed") for name in names)

    def measure(self, title: str, change: Callable[[], object], reached: Callable[[], bool]) -> State:
        """Change something, wait until that has taken effect, and measure.

        :param title: what is changed
        :param change: does it
        :param reached: returns whether it has taken effect
        """
        print(f"... {title}", flush=True)
        lines = [new_lines(self.at.airflow.parts[name].log) for name in TRIGGERERS]
        at_first, began = cpu_of(self._pids()), time.monotonic()
        change()
        is_reached = _within(_PATIENCE, reached)
        before, then = self._counts(), time.monotonic()
        time.sleep(self.window)
        used = _less(self._counts(), before)
        seconds = time.monotonic() - then
        per_second = {name: value / seconds for name, value in used.items()}
        return State(
            title=title,
            reached_in=then - began if is_reached else None,
            holders=self.holders(),
            gets=per_second.pop("gets"),
            transactions=per_second.pop("transactions"),
            cpu_before=_less(before, at_first),
            cpu=per_second,
            memory=self._memory(),
            blocked=[one for read in lines for one in blocked(read())],
        )

    def _counts(self) -> dict[str, float]:
        gets = self.at.gateway.ledger()["gets"]
        return cpu_of(self._pids()) | {"gets": gets, "transactions": self.at.ask(_TRANSACTIONS)["all"]}

    def _pids(self) -> dict[str, int]:
        return {name: pid for name, pid in self.at.pids().items() if psutil.pid_exists(pid)}

    def _memory(self) -> dict[str, float]:
        memory = {}
        for name in TRIGGERERS:
            if psutil.pid_exists(pid := self.at.airflow.parts[name].pid):
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=True)]
                memory[name] = sum(one.memory_info().rss for one in family) / 1e6
        return memory


def _within(seconds: float, reached: Callable[[], bool]) -> bool:
    """Wait for a condition, and return whether it was met in time."""
    give_up_at = time.monotonic() + seconds
    while not (is_reached := reached()) and time.monotonic() < give_up_at:
        time.sleep(1)
    return is_reached


def _less(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Return by how much everything grew that was there before."""
    return {name: value - before[name] for name, value in after.items() if name in before}


def measure(waits: int, seconds: float, window: float) -> list[State]:
    """Measure a number of waits.

    :param waits: how many: a multiple of 200, or four at least, and no more than two triggerers may have
    :param seconds: that a generation takes: longer than all that is measured before the end
    :param window: seconds in which each state is measured
    """
    few = waits // 4
    with stage(seconds, TRIGGERERS) as at:
        each_run = min(few, EACH_RUN)
        at.start({"waits": _FILE.format(count=each_run)})
        one = Waits(at, each_run, window)
        lost = at.airflow.parts[TRIGGERERS[0]]
        states = [one.measure("no waits", lambda: time.sleep(20), lambda: True)]
        states.append(one.measure(f"{few:,} waits", lambda: one.start(few), one.held(few)))
        states.append(one.measure(f"{waits:,} waits", lambda: one.start(waits - few), one.held(waits)))
        end = time.monotonic() + seconds - (states[-1].reached_in or _PATIENCE) - window
        alone = one.held(min(waits, CAPACITY))

        def taken_over() -> bool:
            return lost.name not in one.holders() and alone()

        states.append(one.measure(f"{lost.name} was killed", lost.kill, taken_over))
        states.append(one.measure(f"{lost.name} is back", lost.start, one.held(waits)))
        time.sleep(max(end - time.monotonic(), 0.0))
        title = f"{waits - few:,} generations ended at once"
        states.append(one.measure(title, lambda: None, one.runs_ended))
        logs = [file for file in (at.airflow.home / "logs" / "dag_id=waits").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in logs)
        print(f"{len(logs) / waits:.1f} log files and {size / waits:,.0f} bytes of log for each wait")
        print(f"{at.gateway.ledger()['gets'] / waits:.1f} polls for each generation of {seconds:g} s")
    return states


def figures(states: list[State], machine: str) -> str:
    """Return the table, in Markdown.

    :param states: what was measured
    :param machine: what it was measured on
    """
    rows = [
        (
            one.title,
            f"not in {_PATIENCE:.0f}" if one.reached_in is None else f"{one.reached_in:.0f}",
            " + ".join(str(one.holders.get(name, 0)) for name in TRIGGERERS),
            one.holders.get("none", 0),
            f"{sum(used for part, used in one.cpu_before.items() if part != 'gateway'):.0f}",
            " + ".join(f"{one.cpu.get(name, 0):.2f}" for name in TRIGGERERS),
            " + ".join(f"{one.memory.get(name, 0):.0f}" for name in TRIGGERERS),
            f"{len(one.blocked)}, {max(one.blocked, default=0):.1f}",
            f"{one.gets:.1f}",
            f"{one.transactions:.0f}",
            f"{one.cpu.get('PostgreSQL', 0):.2f}",
        )
        for one in states
    ]
    head = (
        "",
        "after, s",
        "waits held",
        "not held",
        "CPU-s until then, all parts",
        "CPU-s a second",
        "MB",
        "loop blocked: times, longest s",
        "GETs a second",
        "transactions a second",
        "PostgreSQL, CPU-s a second",
    )
    return f"Measured on {machine}.\n\n{table(head, rows)}"


def main() -> None:
    """Measure, keep, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night.triggerers", description=__doc__)
    parser.add_argument("--waits", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=1200.0, help="that each generation takes")
    parser.add_argument("--window", type=float, default=60.0, help="seconds in which each state is measured")
    parser.add_argument("--quick", action="store_true", help="40 waits, five minutes, and nothing into docs/")
    given = parser.parse_args()
    waits, seconds, window = (40, 200.0, 5.0) if given.quick else (given.waits, given.seconds, given.window)
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    machine = describe_machine()
    states = measure(waits, seconds, window)
    kept = ROOT / "build" / "triggerers.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps([dataclasses.asdict(one) for one in states], indent=1))
    print(text := figures(states, machine))
    if not given.quick:
        renew(ROOT / "docs" / "explanation" / "sizing.md", text, command="make bench-waits")


if __name__ == "__main__":
    main()
