"""A batch of 20 rows in a real Airflow: whatever is killed, and when, each row is paid once and its video stored.

The gateway bills every submission, also a second one under an external task id that is in use.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import KEY, picture
from tests.support.raw_server import WAYS, RawServer
from tests.support.system.campaign import chosen
from tests.support.system.deployment import Deployment
from tests.support.system.gateway import Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]
ROWS = 20

DAG_FILE = """
    from datetime import datetime, timedelta
    from airflow.sdk import DAG
    from airflow_provider_kirin.operators.batch import KirinBatchOperator

    with DAG(%(name)r, schedule=None, start_date=datetime(2026, 1, 1)):
        KirinBatchOperator(
            task_id="videos",
            payloads=%(table)r,
            key="sku",
            kirin_conn_id=%(name)r,
            destination=%(out)r,
            max_in_flight=6,
            poll_interval=0.5,
            retries=9,
            retry_delay=timedelta(seconds=1),
        )
"""


class Batch:
    """A DAG of one batch with a table, a destination, and the gateway that it pays.

    :param airflow: where it runs
    :param name: its DAG's id, and that of its connection
    """

    run_id = "one"

    def __init__(self, airflow: Deployment, name: str) -> None:
        self.airflow, self.name = airflow, name
        home = airflow.home.parent / name
        home.mkdir()
        (home / "cup.jpg").write_bytes(picture(320, 320))
        self.out = home / "out"
        table = home / "products.jsonl"
        with table.open("w") as file:
            for number in range(ROWS):
                # Durations differ, so that waves do.
                prompt = f"Row {number}. [[seconds:{4 + number * 7 % 10}]]"
                row = {"sku": f"s{number:02}", "image": str(home / "cup.jpg"), "prompt": prompt}
                file.write(json.dumps(row) + "\n")
        self.gateway = Gateway(home / "gateway", "--duplicates", "bill")
        given = {"name": name, "table": str(table), "out": str(self.out)}
        (airflow.dags / f"{name}.py").write_text(textwrap.dedent(DAG_FILE) % given)

    def begin(self) -> None:
        self.airflow.connect(self.name, self.gateway.url, KEY, json.dumps({"timeout": 10}))
        self.airflow.start_run(self.name, self.run_id, {})

    @property
    def ti(self) -> dict[str, Any]:
        return self.airflow.ti(self.name, self.run_id, "videos")

    @property
    def folder(self) -> Path:
        return self.out / self.name / self.run_id / "videos"

    def wait_for_state(self, state: str) -> dict[str, Any]:
        return until(lambda: ti if (ti := self.ti)["state"] == state else None, f"the batch is {state}", pause=0.05)

    def wait_for_wave_two(self) -> dict[str, Any]:
        self.wait_for_state("deferred")
        return self.wait_for_state("running")

    def kill_task(self, ti: dict[str, Any]) -> None:
        os.kill(self.airflow.task_pid(ti), signal.SIGKILL)


def task_killed_while_it_submits(batch: Batch) -> None:
    ti = until(lambda: ti if (ti := batch.ti)["state"] == "running" and ti["pid"] else None, "it runs", pause=0.05)
    until(lambda: len(batch.gateway.generations()) >= 2, "two rows are paid", pause=0.01)
    batch.kill_task(ti)


def task_killed_in_its_second_wave(batch: Batch) -> None:
    batch.kill_task(batch.wait_for_wave_two())


def cleared_while_a_wave_runs(batch: Batch) -> None:
    batch.wait_for_wave_two()
    batch.airflow.clear(batch.name, batch.run_id)


def cleared_while_it_waits(batch: Batch) -> None:
    batch.wait_for_state("deferred")
    batch.airflow.clear(batch.name, batch.run_id)


def triggerer_killed(batch: Batch) -> None:
    batch.wait_for_state("deferred")
    for name in ("triggerer-1", "triggerer-2"):
        part = batch.airflow.parts[name]
        part.kill()
        part.start()


def scheduler_killed(batch: Batch) -> None:
    batch.wait_for_wave_two()
    part = batch.airflow.parts["scheduler"]
    part.kill()
    part.start()


def gateway_unavailable(batch: Batch) -> None:
    batch.wait_for_state("deferred")
    batch.gateway.kill()
    outage = RawServer(WAYS["closed without a response"], batch.gateway.port)
    until(lambda: len(outage.requests) > 8, "it was polled, and given time to recover")
    outage.stop()
    batch.gateway.start()


def destination_unavailable(batch: Batch) -> None:
    batch.wait_for_state("deferred")
    aside = batch.out.with_name("aside")
    batch.out.rename(aside)
    batch.out.write_text("not a folder")
    until(lambda: batch.ti["state"] == "up_for_retry" or batch.ti["try_number"] > 1, "a try failed", pause=0.05)
    batch.out.unlink()
    aside.rename(batch.out)


def journal_lost(batch: Batch) -> None:
    batch.wait_for_state("deferred")
    shutil.rmtree(batch.folder)


#: `make test` plays one of each kind, `make faults` all.
IN_EVERY_RUN: list[Callable[[Batch], None]] = [
    task_killed_while_it_submits,
    cleared_while_a_wave_runs,
    cleared_while_it_waits,
    triggerer_killed,
]
IN_A_CAMPAIGN: list[Callable[[Batch], None]] = [
    task_killed_in_its_second_wave,
    scheduler_killed,
    gateway_unavailable,
    destination_unavailable,
    journal_lost,
]
SCENARIOS = IN_EVERY_RUN + (IN_A_CAMPAIGN if "KIRIN_FAULT_REPEATS" in os.environ else [])
#: They kill what the others need.
ALONE = (triggerer_killed, scheduler_killed)

Play = Callable[[Callable[[Batch], None]], None]


def check(batch: Batch, act: Callable[[Batch], None]) -> None:
    """Let the batch run, do something to it, and see how it ends."""
    batch.begin()
    act(batch)
    airflow, run = batch.airflow, (batch.name, batch.run_id)
    state = until(
        lambda: found if (found := airflow.run_state(*run)) in ("success", "failed") else "",
        f"{batch.name} ends",
        pause=0.5,
    )
    log = airflow.task_log(*run)
    assert state == "success", log[-5000:]
    paid = list(batch.gateway.generations().values())
    lines = [json.loads(line) for line in (batch.folder / "manifest.jsonl").read_text().splitlines()]
    assert Counter(one["external_task_id"] for one in paid) == Counter(line["external_task_id"] for line in lines)
    assert {line["status"] for line in lines} == {"saved"} and len(lines) == ROWS == len(paid)
    assert len(list(batch.folder.glob("*.mp4"))) == ROWS
    assert airflow.xcom(*run, "videos")["counts"] == {"saved": ROWS}
    assert log.count(" done, ") < 3 * ROWS
    print(f"\n{batch.name}: paid {len(paid)}, tries {batch.ti['try_number']}, waves {log.count(' done, ')}")


@pytest.fixture(scope="module")
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Play a scenario: those that may be together are begun at once, the others afterwards."""
    home = Path(tempfile.mkdtemp(prefix="kirin-batch-"))
    airflow = Deployment(home / "airflow")
    batches = {act: Batch(airflow, act.__name__) for act in chosen(request, "act")}
    pool = ThreadPoolExecutor(len(SCENARIOS))
    try:
        airflow.start()
        airflow.wait_for_dags(batch.name for batch in batches.values())
        together = {act: pool.submit(check, batch, act) for act, batch in batches.items() if act not in ALONE}

        def play(act: Callable[[Batch], None]) -> None:
            if act in ALONE:
                wait(together.values())
                check(batches[act], act)
            else:
                together[act].result()

        yield play
    finally:
        airflow.stop()
        for batch in batches.values():
            batch.gateway.stop()
        # What was still under way, after Ctrl-C, finds no Airflow, and ends.
        pool.shutdown()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_each_row_is_paid_once_and_its_video_is_stored(play: Play, act: Callable[[Batch], None]) -> None:
    play(act)
