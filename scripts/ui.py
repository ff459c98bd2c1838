"""Airflow with the example DAGs in the browser, against the emulator: ``make ui``. Ctrl-C stops everything.

Airflow's components are started one by one rather than with ``airflow standalone``, whose log servers listen on every
network interface and on fixed ports. Everything here listens on 127.0.0.1 only, and no login is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from local_airflow import EXAMPLES, ROOT, emulator, environment, migrate, running, shown, stop_like_ctrl_c, tail

HOST = "127.0.0.1"
DAG_ID = "kirin_image_to_video"
EMULATOR_PORT = 8900
AIRFLOW_PORT = 8080
GENERATION_SECONDS = 20.0
HEALTHY_TIMEOUT = 180.0
COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")

READY = """
Airflow is ready: {url}/dags
(after {elapsed:.0f} s; no login needed; Kirin emulator: {emulator}, {seconds:g} s per video)

  1. Open {url}/dags/{dag} and press Trigger.
  2. Watch the sensor: "deferred" means that it waits in the triggerer and holds no worker.
  3. Follow the link "Kirin generation" of the task, or open Kirin in the navigation: progress, video, cost.
  Videos are saved to {videos}; logs are in {logs}.

Ctrl-C stops it.
"""


def free_port(wanted: int) -> int:
    """Return the wanted port, or the next free one."""
    for port in range(wanted, wanted + 50):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    sys.exit(f"error: no free port from {wanted} to {wanted + 49}")


def airflow_settings(url: str, home: Path) -> dict[str, str]:
    """Return the settings of this Airflow that differ from the defaults."""
    return {
        "AIRFLOW__KIRIN__MEDIA_ROOTS": f"{home / 'videos'}, {EXAMPLES / 'images'}",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    }


def commands(port: int) -> list[list[str]]:
    """Return the commands of Airflow's four components."""
    return [
        ["airflow", "api-server", "--host", HOST, "--port", str(port), "--workers", "1"],
        ["airflow", "scheduler", "--skip-serve-logs"],
        ["airflow", "dag-processor"],
        ["airflow", "triggerer", "--skip-serve-logs"],
    ]


def healthy(url: str) -> bool:
    """Return whether every component of Airflow reports that it is healthy."""
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as response:
            health = json.load(response)
    except (urllib.error.URLError, OSError, ValueError):
        return False
    return all((health.get(component) or {}).get("status") == "healthy" for component in COMPONENTS)


def unpause(url: str, dag_id: str) -> bool:
    """Unpause the DAG (the others stay paused: one of them has a schedule). Return False while it is not known yet."""
    request = urllib.request.Request(
        f"{url}/api/v2/dags/{dag_id}",
        data=b'{"is_paused": false}',
        headers={"Content-Type": "application/json"},
        method="PATCH",
    )
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return False
        raise


class Components:
    """The running components of Airflow, by the file of their log."""

    def __init__(self) -> None:
        self.processes: dict[Path, subprocess.Popen[str]] = {}

    def check(self) -> None:
        """Exit with the end of its log if a component has ended."""
        for log, process in self.processes.items():
            if process.poll() is not None:
                sys.exit(f"error: {log.stem} has ended; see {shown(log)}\n{tail(log)}")

    def wait_until_healthy(self, url: str) -> None:
        """Wait until Airflow is healthy and knows the example; exit if that takes too long."""
        deadline = time.monotonic() + HEALTHY_TIMEOUT
        while not (healthy(url) and unpause(url, DAG_ID)):
            self.check()
            if time.monotonic() > deadline:
                logs = ", ".join(shown(log) for log in self.processes)
                sys.exit(f"error: Airflow is not healthy after {HEALTHY_TIMEOUT:.0f} s; see {logs}")
            time.sleep(0.5)


def serve(home: Path, options: argparse.Namespace) -> None:
    """Start everything, print when it is ready, and run until Ctrl-C."""
    started = time.monotonic()
    logs = home / "console"
    logs.mkdir(parents=True, exist_ok=True)
    url = f"http://{HOST}:{free_port(options.port)}"
    with contextlib.ExitStack() as stack:
        emulator_port = free_port(options.emulator_port)
        gateway = stack.enter_context(emulator(home, port=emulator_port, seconds=options.seconds))
        env = environment(home, gateway) | airflow_settings(url, home)
        print(f"The emulator runs at {gateway}. Starting Airflow in {shown(home)} ...", flush=True)
        migrate(home, env)
        components = Components()
        for command in commands(int(url.rpartition(":")[2])):
            log = logs / f"{command[1]}.log"
            output = stack.enter_context(log.open("w"))
            components.processes[log] = stack.enter_context(running(command, env, output))
        components.wait_until_healthy(url)
        facts = {"emulator": gateway, "seconds": options.seconds, "logs": shown(logs), "videos": shown(home / "videos")}
        print(READY.format(url=url, dag=DAG_ID, elapsed=time.monotonic() - started, **facts), flush=True)
        while True:
            components.check()
            time.sleep(1)


def main() -> None:
    """Read the command line and run until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=ROOT / "build" / "ui", help="where everything is stored")
    parser.add_argument("--port", type=int, default=AIRFLOW_PORT, help="Airflow's port, or the next free one")
    parser.add_argument(
        "--emulator-port", type=int, default=EMULATOR_PORT, help="the emulator's port, or the next free one"
    )
    parser.add_argument("--seconds", type=float, default=GENERATION_SECONDS, help="how long a generation takes")
    options = parser.parse_args()
    stop_like_ctrl_c()
    try:
        serve(options.home.absolute(), options)
    except KeyboardInterrupt:
        print("\nStopped, with everything that was started.")


if __name__ == "__main__":
    main()
