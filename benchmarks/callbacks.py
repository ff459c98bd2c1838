"""How soon a task ends after its generation, with callbacks and without: in a real Airflow, against the emulator.

`make bench-callbacks` runs it, and prints a table. Each way has generations and workers of its own: the ways follow one
another, and a worker is there for each task that needs one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

from benchmarks.machine import describe_machine
from tests.support.emulator import KEY, Emulator, picture
from tests.support.system.deployment import Deployment
from tests.support.waiting import until

#: What is compared: the name, whether the gateway calls back, and whether the task ends without a worker.
_WAYS = (
    ("callback, without a worker", True, True),
    ("callback, on a worker", True, False),
    ("polling, without a worker", False, True),
    ("polling, on a worker", False, False),
)
_SETTINGS = {"CORE__PARALLELISM": "8", "WORKERS__EXECUTION_API_TIMEOUT": "60"}
_FILE = '''"""Airflow DAGs."""
from airflow.sdk import DAG
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

for number, callback, ends_here in {ways}:
    with DAG(f"way_{{number}}", schedule=None, catchup=False):
        KirinGenerateVideoOperator.partial(
            task_id="generate",
            callback="auto" if callback else None,
            end_from_trigger=ends_here,
        ).expand(payload=[{{"image": {image!r}, "prompt": f"Cup {{one}}."}} for one in range({count})])
'''


@dataclass(frozen=True)
class Measured:
    """What one way came to.

    :param name: the way
    :param delays: seconds from the end of each generation to the end of its task
    :param requests: to the gateway, for each generation
    :param lost: tasks that needed another try
    """

    name: str
    delays: list[float]
    requests: float
    lost: int

    def row(self) -> str:
        """Return a row of the table."""
        late = quantiles(self.delays, n=10)[-1]
        return (
            f"| {self.name} | {len(self.delays)} | {median(self.delays):.2f} s | {late:.2f} s | "
            f"{max(self.delays):.2f} s | {self.requests:.1f} | {self.lost} |"
        )


def measure(airflow: Deployment, gateway: Emulator, number: int) -> Measured:
    """Run the tasks of one way, all at a time.

    :param airflow: has the DAGs
    :param gateway: where they submit
    :param number: the way's place in :data:`_WAYS`
    """
    gateway.reset()
    dag_id = f"way_{number}"
    airflow.start_run(dag_id, "run", {})
    until(lambda: airflow.run_state(dag_id, "run") in ("success", "failed"), f"the run of {dag_id} has ended")
    ledger = gateway.ledger()
    tis = airflow.tis(dag_id, "run")
    assert {ti["state"] for ti in tis} == {"success"}, [ti["state"] for ti in tis]
    delays = [
        datetime.fromisoformat(ti["end_date"]).timestamp()
        - airflow.xcom(dag_id, "run", "generate", ti["map_index"])["metadata"]["completed_at"] / 1000
        for ti in tis
    ]
    requests = (ledger["submits"] + ledger["gets"]) / len(tis)
    return Measured(_WAYS[number][0], delays, requests, sum(ti["try_number"] > 1 for ti in tis))


@contextmanager
def _deployment(seconds: str, count: int) -> Iterator[tuple[Deployment, Emulator]]:
    with tempfile.TemporaryDirectory(prefix="kirin-callbacks-") as folder:
        image = Path(folder) / "cup.jpg"
        image.write_bytes(picture(320, 320))
        gateway = Emulator("--seconds", seconds)
        airflow = Deployment(Path(folder) / "airflow", settings=_SETTINGS, triggerers=("triggerer-1",))
        ways = [(number, callback, ends_here) for number, (_, callback, ends_here) in enumerate(_WAYS)]
        (airflow.dags / "ways.py").write_text(_FILE.format(ways=ways, image=str(image), count=count))
        try:
            airflow.start()
            airflow.connect("kirin_default", gateway.url, KEY, json.dumps({"callback_base_url": airflow.url}))
            airflow.wait_for_dags([f"way_{number}" for number in range(len(_WAYS))])
            yield airflow, gateway
        finally:
            gateway.stop()
            airflow.stop()


def main() -> int:
    """Measure each way, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callbacks", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="generations of each way")
    parser.add_argument("--seconds", default="30-60", help="that a generation takes")
    parser.add_argument("--ways", type=int, nargs="+", default=range(len(_WAYS)), help="by number, from 0")
    options = parser.parse_args()
    # SIGTERM ends it as Ctrl-C does: nothing that it started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{describe_machine()}\n\n| way | tasks | median | p90 | max | requests a generation | lost a try | load |")
    print(f"|{'---|' * 8}", flush=True)
    with _deployment(options.seconds, options.count) as (airflow, gateway):
        for number in options.ways:
            measured = measure(airflow, gateway, number)
            print(f"{measured.row()} {os.getloadavg()[0]:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
