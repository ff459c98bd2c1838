"""From an image to a video on this machine: ``make demo``. No API key, no account, no network.

It starts the emulator of the Kirin gateway, runs the example DAG ``kirin_image_to_video`` (or others) in an Airflow of
its own under build/demo, and looks at the videos that the DAG stored.
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
RUN_TIMEOUT = 180.0

# "2026-01-31T12:00:00.1Z [info     ] message   [logger] key=value" (3.x, and LOG_FORMAT makes 2.11 write the same).
LOG_LINE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<message>.*?) *\[(?P<logger>[\w.]+)\](?: |$)")
LOG_FORMAT = "%(asctime)s [%(levelname)s] %(message)s [%(name)s]"
# What `airflow dags test` says about its tasks, and what that means.
TASK_STATES = (
    (re.compile(r"\[DAG TEST\] starting task_id=(\S+)"), "{0}: started"),
    (re.compile(r"\[DAG TEST\] running trigger in line"), "deferred: it waits in the triggerer and holds no worker"),
    (re.compile(r"\[DAG TEST\] Trigger completed"), "woken up by its trigger"),
    (re.compile(r"\[DAG TEST\] end task task_id=(\S+)"), "{0}: done"),
)
# What Airflow's base classes say under our names.
NOISE = ("Success criteria met. Exiting.",)


class Steps:
    """Numbered steps on the terminal, each line with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.count = 0

    def step(self, text: str) -> None:
        """Begin the next step."""
        self.count += 1
        self._print(f"{self.count}. {text}")

    def note(self, text: str) -> None:
        """Say something about the step that is running."""
        self._print(f"   {text}")

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started

    def _print(self, text: str) -> None:
        print(f"{self.elapsed():6.1f} s  {text}", flush=True)


def readable(line: str) -> str | None:
    """Return what a line of the run's log tells a person, or None for noise."""
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
    """Run an example DAG once, telling what happens; end the program when it fails."""
    log = home / "run.log"
    previous = None
    command = ["airflow", "dags", "test", dag_id]
    with log.open("w") as output, running(command, env, subprocess.PIPE, grace=1.0) as process:
        assert process.stdout is not None
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
        in_time = alarm.is_alive()
        alarm.cancel()
    if status:
        what = "failed" if in_time else f"was not done after {RUN_TIMEOUT:.0f} s"
        sys.exit(f"error: the DAG run {what}. The end of {shown(log)}:\n{tail(log)}")


def new_videos(folder: Path, since: float) -> list[Path]:
    """Return the MP4 files that were stored since a moment, the newest last."""
    stored = [path for path in folder.rglob("*.mp4") if path.stat().st_mtime >= since]
    return sorted(stored, key=lambda path: path.stat().st_mtime)


def describe(path: Path) -> str:
    """Open a video and return what is in it: codec, size, frame rate, length, bytes."""
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

    No Airflow command prints XComs on both 2.11 and 3.x, so this reads the demo's own database.
    """
    query = """SELECT value FROM xcom JOIN dag_run ON dag_run.dag_id = xcom.dag_id AND dag_run.run_id = xcom.run_id
        WHERE dag_run.id = (SELECT max(id) FROM dag_run WHERE dag_id = ?) AND key = 'return_value'"""
    with contextlib.closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True)) as database:
        values = [json.loads(value) for (value,) in database.execute(query, (dag_id,))]
    return [value for value in values if isinstance(value, dict) and "usage" in value]


def ledger(url: str) -> dict[str, Any]:
    """Return what the emulator billed to the demo's API key, ever."""
    request = urllib.request.Request(f"{url}/emulator/ledger", headers={"Authorization": f"Bearer {API_KEY}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def show_results(dag_id: str, home: Path, url: str, since: float, steps: Steps) -> None:
    """Look at what the run left behind: the videos, and the bill."""
    videos = new_videos(home / "videos", since)
    if not videos:
        sys.exit(f"error: the run succeeded, but there is no new video in {shown(home / 'videos')}")
    for path in videos:
        steps.note(shown(path))
        steps.note(describe(path))
    show_bill(finished_tasks(dag_id, home), ledger(url), steps)


def show_bill(kirin_tasks: list[dict[str, Any]], billed: dict[str, Any], steps: Steps) -> None:
    """Tell what the run cost; the DAG's XComs and the emulator's ledger have to agree."""
    if not kirin_tasks:
        sys.exit("error: no XCom of the run holds a Kirin task")
    costs = {row["id"]: Decimal(row["cost"]) for row in billed["paid"]}
    for kirin_task in kirin_tasks:
        told, paid = Decimal(kirin_task["usage"]["cost"]), costs.get(kirin_task["id"])
        if told != paid:
            sys.exit(f"error: XCom says that {kirin_task['id']} cost {told} USD, the emulator's ledger says {paid}")
        steps.note(f"Kirin task {kirin_task['id']} cost {told} USD, says its XCom, and so does the emulator's ledger")
    steps.note(
        f"the gateway saw {billed['submits']} paid submit, {billed['gets']} lookups, {billed['downloads']} download"
    )


def demo(home: Path, dag_ids: list[str]) -> None:
    """Do it all, telling each step."""
    steps = Steps()
    home.mkdir(parents=True, exist_ok=True)
    steps.step("Start the emulator, a Kirin gateway on this machine")
    with emulator(home, port=0, seconds=GENERATION_SECONDS) as url:
        steps.note(f"{url}, {GENERATION_SECONDS:g} s a video")
        airflow = version("apache-airflow")
        env = environment(home, url)
        if airflow.startswith("2."):
            env["AIRFLOW__LOGGING__LOG_FORMAT"] = env["AIRFLOW__LOGGING__SIMPLE_LOG_FORMAT"] = LOG_FORMAT
        steps.step(f"Prepare Airflow {airflow} in {shown(home)}")
        steps.note("database migrated" if migrate(home, env) else "database is there from the last run")
        for dag_id in dag_ids:
            steps.step(f"Run the DAG {dag_id}, one of {shown(EXAMPLES)}")
            since = time.time()
            run_dag(dag_id, home, env, steps)
            steps.step("Look at the video")
            show_results(dag_id, home, url, since, steps)
    print(f"\nDone in {steps.elapsed():.1f} s. The whole log is in {shown(home / 'run.log')}.")
    print("Next: `make ui` shows the same DAG in Airflow's web interface; docs/quickstart.md uses a real API key.")


def main() -> None:
    """Read the command line and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "build" / "demo", help="where everything is kept")
    parser.add_argument("--dag", action="append", help="an example DAG, or several; kirin_image_to_video if left out")
    options = parser.parse_args()
    stop_like_ctrl_c()
    try:
        demo(options.home.absolute(), options.dag or ["kirin_image_to_video"])
    except KeyboardInterrupt:
        sys.exit("\nStopped; everything that was started has been ended.")


if __name__ == "__main__":
    main()
