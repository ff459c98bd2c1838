"""A batch of 20 rows in a real Airflow: whatever is killed, and in which phase, each row is paid once and comes home.

The gateway bills every submission, also a second one under an external task id that is in use.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import KEY, picture
from tests.support.system.deployment import Deployment
from tests.support.system.gateway import Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]
ROWS = 20

DAG_FILE = """
    from datetime import datetime, timedelta
    from airflow.sdk import DAG
    from airflow_provider_kirin.operators.batch import KirinBatchOperator

    with DAG("batch", schedule=None, start_date=datetime(2026, 1, 1)):
        KirinBatchOperator(
            task_id="videos",
            payloads=%(table)r,
            key="sku",
            destination=%(out)r,
            max_in_flight=6,
            poll_interval=0.5,
            retries=9,
            retry_delay=timedelta(seconds=1),
        )
"""


class House:
    """An Airflow with one DAG, and the gateway that it pays."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kirin-batch-"))
        (self.home / "cup.jpg").write_bytes(picture(320, 320))
        self.out = self.home / "out"
        table = self.home / "products.jsonl"
        with table.open("w") as file:
            for number in range(ROWS):
                # Durations differ, so that waves do.
                prompt = f"Row {number}. [[seconds:{4 + number * 7 % 10}]]"
                row = {"sku": f"s{number:02}", "image": str(self.home / "cup.jpg"), "prompt": prompt}
                file.write(json.dumps(row) + "\n")
        self.gateway = Gateway(self.home / "gateway", "--duplicates", "bill")
        self.airflow = Deployment(self.home / "airflow")
        given = {"table": str(table), "out": str(self.out)}
        (self.airflow.dags / "batch.py").write_text(textwrap.dedent(DAG_FILE) % given)
        self.run_id = ""

    def start(self) -> None:
        self.airflow.start()
        self.airflow.connect("kirin_default", self.gateway.url, KEY, json.dumps({"timeout": 10}))
        self.airflow.wait_for_dags(["batch"])

    def stop(self) -> None:
        self.airflow.stop()
        self.gateway.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def ti(self) -> dict[str, Any]:
        return self.airflow.ti("batch", self.run_id, "videos")

    @property
    def folder(self) -> Path:
        return self.out / "batch" / self.run_id / "videos"

    def wait_for_state(self, state: str) -> dict[str, Any]:
        return until(lambda: ti if (ti := self.ti)["state"] == state else None, f"the batch is {state}", pause=0.05)

    def wait_for_wave_two(self) -> dict[str, Any]:
        self.wait_for_state("deferred")
        return self.wait_for_state("running")

    def kill_task(self, ti: dict[str, Any]) -> None:
        os.kill(self.airflow.task_pid(ti), signal.SIGKILL)


def task_killed_while_it_submits(house: House) -> None:
    known = len(house.gateway.generations())
    ti = until(lambda: ti if (ti := house.ti)["state"] == "running" and ti["pid"] else None, "it runs", pause=0.05)
    until(lambda: len(house.gateway.generations()) >= known + 2, "two rows are paid", pause=0.01)
    house.kill_task(ti)


def task_killed_in_its_second_wave(house: House) -> None:
    house.kill_task(house.wait_for_wave_two())


def cleared_while_a_wave_runs(house: House) -> None:
    house.wait_for_wave_two()
    house.airflow.clear("batch", house.run_id)


def cleared_while_it_waits(house: House) -> None:
    house.wait_for_state("deferred")
    house.airflow.clear("batch", house.run_id)


def triggerer_killed(house: House) -> None:
    house.wait_for_state("deferred")
    for name in ("triggerer-1", "triggerer-2"):
        part = house.airflow.parts[name]
        part.kill()
        part.start()


def scheduler_killed(house: House) -> None:
    house.wait_for_wave_two()
    part = house.airflow.parts["scheduler"]
    part.kill()
    part.start()


def gateway_away(house: House) -> None:
    house.wait_for_state("deferred")
    house.gateway.kill()
    time.sleep(20)
    house.gateway.start()


def destination_away(house: House) -> None:
    house.wait_for_state("deferred")
    aside = house.out.with_name("aside")
    house.out.rename(aside)
    house.out.write_text("not a folder")
    until(lambda: house.ti["state"] == "up_for_retry" or house.ti["try_number"] > 1, "a try failed", pause=0.05)
    house.out.unlink()
    aside.rename(house.out)


def journal_lost(house: House) -> None:
    house.wait_for_state("deferred")
    shutil.rmtree(house.folder)


#: Each takes a minute or two: `make test` plays one of each kind, `make faults` all.
IN_EVERY_RUN: list[Callable[[House], None]] = [
    task_killed_while_it_submits,
    cleared_while_a_wave_runs,
    cleared_while_it_waits,
    triggerer_killed,
]
IN_A_CAMPAIGN: list[Callable[[House], None]] = [
    task_killed_in_its_second_wave,
    scheduler_killed,
    gateway_away,
    destination_away,
    journal_lost,
]
SCENARIOS = IN_EVERY_RUN + (IN_A_CAMPAIGN if "KIRIN_FAULT_REPEATS" in os.environ else [])


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    try:
        house.start()
        yield house
    finally:
        house.stop()


@pytest.mark.parametrize("act", SCENARIOS, ids=lambda act: act.__name__)
def test_each_row_is_paid_once_and_comes_home(house: House, act: Callable[[House], None]) -> None:
    before = set(house.gateway.generations())
    house.run_id = act.__name__
    house.airflow.start_run("batch", house.run_id, {})
    act(house)
    state = until(
        lambda: found if (found := house.airflow.run_state("batch", house.run_id)) in ("success", "failed") else "",
        f"{act.__name__} ends",
        pause=0.5,
    )
    log = house.airflow.task_log("batch", house.run_id)
    assert state == "success", log[-5000:]
    paid = [one for name, one in house.gateway.generations().items() if name not in before]
    lines = [json.loads(line) for line in (house.folder / "manifest.jsonl").read_text().splitlines()]
    assert Counter(one["external_task_id"] for one in paid) == Counter(line["external_task_id"] for line in lines)
    assert {line["status"] for line in lines} == {"saved"} and len(lines) == ROWS == len(paid)
    assert len(list(house.folder.glob("*.mp4"))) == ROWS
    assert house.airflow.xcom("batch", house.run_id, "videos")["counts"] == {"saved": ROWS}
    assert log.count(" done, ") < 3 * ROWS
    print(f"\n{act.__name__}: paid {len(paid)}, tries {house.ti['try_number']}, waves {log.count(' done, ')}")
