"""From an image to a video on this machine: ``make demo``. No API key, no account, no network.

It starts the emulator of the Kirin gateway, runs the example DAG ``kirin_image_to_video`` (or others) in its own
Airflow under build/demo, and inspects the videos that the DAG stored.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

from local_airflow import (
    API_KEY,
    EXAMPLES,
    ROOT,
    emulator,
    end,
    environment,
    migrate,
    running,
    shown,
    stop_like_ctrl_c,
    tail,
)

GENERATION_SECONDS = 4.0
#: For a run that hangs: on a busy machine one takes minutes.
RUN_TIMEOUT = 600.0

# "2026-01-31T12:00:00.1Z [info     ] message   [logger] key=value" (3.x; 2.11 writes the same with LOG_FORMAT).
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<message>.*?) *\[(?P<logger>[\w.]+)\](?: |$)")
LOG_FORMAT = "%(asctime)s [%(levelname)s] %(message)s [%(name)s]"
# What `airflow dags test` logs about its tasks, and what it means.
TASK_STATES = (
    (re.compile(r"\[DAG TEST\] starting task_id=(\S+)"), "{0}: started"),
    (re.compile(r"\[DAG TEST\] running trigger in line"), "deferred: it waits in the triggerer and holds no worker"),
    (re.compile(r"\[DAG TEST\] Trigger completed"), "resumed by its trigger"),
    (re.compile(r"\[DAG TEST\] end task task_id=(\S+)"), "{0}: done"),
)
# What Airflow's base classes log under our names.
NOISE = ("Success criteria met. Exiting.",)


class Steps:
    """Numbered steps on the terminal, each line with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.count = 0

    def step(self, text: str) -> None:
        """Start the next step."""
        self.count += 1
        self._print(f"{self.count}. {text}")

    def note(self, text: str) -> None:
        """Print a line about the current step."""
        self._print(f"   {text}")

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def _print(self, text: str) -> None:
        print(f"{self.elapsed():6.1f} s  {text}", flush=True)


def readable(line: str) -> str | None:
    """Return a line of the run's log as a person wants to read it, or None for noise."""
    for pattern, text in TASK_STATES:
        if found := pattern.search(line):
            return text.format(*found.groups())
    found = LOG_LINE.match(line)
    if found is None:
        return None
    level, message = found["level"].lower(), found["message"]
    if level in ("error", "critical"):
        return f"{level.upper()} {message}"
    return f"  {message}" if "airflow_provider_kirin" in found["logger"] and message not in NOISE else None


def run_dag(dag_id: str, home: Path, env: dict[str, str], steps: Steps) -> None:
    """Run an example DAG once and print what happens; exit if it fails."""
    log = home / "run.log"
    previous = None
    command = ["airflow", "dags", "test", dag_id]
    with log.open("w") as output, running(command, env, subprocess.PIPE, grace=1.0) as process:
        assert process.stdout is not None
        started = time.monotonic()
        alarm = threading.Timer(RUN_TIMEOUT, end, [process])
        alarm.daemon = True
        alarm.start()
        for line in process.stdout:
            output.write(line)
            text = readable(line)
            if text and text != previous:
                steps.note(text)
            previous = text or previous
        status = process.wait()
        in_time = time.monotonic() - started < RUN_TIMEOUT
        alarm.cancel()
    if status:
        what = "failed" if in_time else f"did not finish within {RUN_TIMEOUT:.0f} s"
        sys.exit(f"error: the DAG run {what}. The end of {shown(log)}:\n{tail(log)}")


def new_videos(folder: Path, since: float) -> list[Path]:
    """Return the MP4 files stored since a time, the newest last."""
    stored = [path for path in folder.rglob("*.mp4") if path.stat().st_mtime >= since]
    return sorted(stored, key=lambda path: path.stat().st_mtime)


def describe(path: Path) -> str:
    """Open a video and return its codec, size, frame rate, length and bytes."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        rate = float(stream.average_rate or 0)
        codec = stream.codec_context.name
        width, height = stream.codec_context.width, stream.codec_context.height
    seconds = frames / rate if rate else 0.0
    return f"{codec}, {width}x{height}, {rate:g} frames/s, {seconds:g} s, {path.stat().st_size:,} bytes"


def finished_tasks(dag_id: str, home: Path) -> list[dict[str, Any]]:
    """Return the Kirin tasks that the newest run of the DAG pushed to XCom.

    No Airflow command prints XComs on both 2.11 and 3.x, so this reads the demo's database.
    """
    query = """SELECT value FROM xcom JOIN dag_run ON dag_run.dag_id = xcom.dag_id AND dag_run.run_id = xcom.run_id
        WHERE dag_run.id = (SELECT max(id) FROM dag_run WHERE dag_id = ?) AND key = 'return_value'"""
    with contextlib.closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True)) as database:
        values = [json.loads(value) for (value,) in database.execute(query, (dag_id,))]
    return [value for value in values if isinstance(value, dict) and "usage" in value]


def ledger(url: str) -> dict[str, Any]:
    """Return everything that the emulator has billed to the demo's API key."""
    request = urllib.request.Request(f"{url}/emulator/ledger", headers={"Authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        billed: dict[str, Any] = json.load(response)
    return billed


def show_results(dag_id: str, home: Path, url: str, since: float, steps: Steps) -> None:
    """Print what the run produced: the videos and the bill."""
    videos = new_videos(home / "videos", since)
    if not videos:
        sys.exit(f"error: the run succeeded, but there is no new video in {shown(home / 'videos')}")
    for path in videos:
        steps.note(shown(path))
        steps.note(describe(path))
    show_bill(finished_tasks(dag_id, home), ledger(url), steps)


def show_bill(kirin_tasks: list[dict[str, Any]], billed: dict[str, Any], steps: Steps) -> None:
    """Print what the run cost. The DAG's XComs and the emulator's ledger must agree."""
    if not kirin_tasks:
        sys.exit("error: no XCom of the run contains a Kirin task")
    costs = {row["id"]: Decimal(row["cost"]) for row in billed["paid"]}
    for kirin_task in kirin_tasks:
        cost, paid = Decimal(kirin_task["usage"]["cost"]), costs.get(kirin_task["id"])
        if cost != paid:
            sys.exit(f"error: according to XCom {kirin_task['id']} cost {cost} USD, according to the ledger {paid}")
        steps.note(f"Kirin task {kirin_task['id']} cost {cost} USD, according to its XCom and to the emulator's ledger")
    counts = f"{billed['submits']} paid submit, {billed['gets']} lookups, {billed['downloads']} download"
    steps.note(f"the gateway received {counts}")


def demo(home: Path, dag_ids: list[str]) -> None:
    """Run the demo, step by step."""
    steps = Steps()
    home.mkdir(parents=True, exist_ok=True)
    steps.step("Start the emulator, a Kirin gateway on this machine")
    with emulator(home, port=0, seconds=GENERATION_SECONDS) as url:
        steps.note(f"{url}, {GENERATION_SECONDS:g} s per video")
        airflow = version("apache-airflow")
        env = environment(home, url)
        if airflow.startswith("2."):
            env["AIRFLOW__LOGGING__LOG_FORMAT"] = env["AIRFLOW__LOGGING__SIMPLE_LOG_FORMAT"] = LOG_FORMAT
        steps.step(f"Prepare Airflow {airflow} in {shown(home)}")
        steps.note("database migrated" if migrate(home, env) else "the database of the last run is up to date")
        for dag_id in dag_ids:
            steps.step(f"Run the DAG {dag_id}, one of {shown(EXAMPLES)}")
            since = time.time()
            run_dag(dag_id, home, env, steps)
            steps.step("Inspect the video")
            show_results(dag_id, home, url, since, steps)
    print(f"\nDone in {steps.elapsed():.1f} s. The full log is in {shown(home / 'run.log')}.")
    print("Next: `make ui` shows it in Airflow's web interface; docs/tutorial/index.md leads to a DAG of your own.")


def main() -> None:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "build" / "demo", help="where everything is stored")
    parser.add_argument(
        "--dag", action="append", help="an example DAG; may be repeated (default: kirin_image_to_video)"
    )
    options = parser.parse_args()
    stop_like_ctrl_c()
    try:
        demo(options.home.absolute(), options.dag or ["kirin_image_to_video"])
    except KeyboardInterrupt:
        sys.exit("\nStopped, with everything that was started.")


if __name__ == "__main__":
    main()
