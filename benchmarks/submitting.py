"""What submitting an image costs: time and memory, beside the barest upload of the same body.

Each measurement is a process of its own: `python -m benchmarks.submitting kirin picture.jpeg URL` prints JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROMPT = "The camera circles the teapot."


@dataclass(frozen=True)
class Submitting:
    """What one submission cost.

    :param seconds: from the file's name to the gateway's answer
    :param cpu_seconds: of the process
    :param memory: MB by which the process grew at most
    """

    seconds: float
    cpu_seconds: float
    memory: float


def kirin(file: Path, url: str) -> Callable[[], object]:
    """Return what submits with our hook: every check of payload and image included."""
    from airflow_provider_kirin.hooks.kirin import KirinHook

    os.environ["AIRFLOW_CONN_KIRIN_DEFAULT"] = json.dumps({"conn_type": "kirin", "host": url, "password": "sk-bench"})
    # That Airflow loads its secrets backends at the first lookup of a process is not the hook's cost.
    KirinHook.get_connection("kirin_default")
    return lambda: KirinHook().submit({"image": str(file), "prompt": PROMPT})


def bare(file: Path, url: str) -> Callable[[], object]:
    """Return what a script would do that checks nothing: read, encode, post."""
    import base64

    import requests

    def submit() -> object:
        image = base64.b64encode(file.read_bytes()).decode()
        body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"prompt": PROMPT, "image": image}}]}
        headers = {"Authorization": "Bearer sk-bench"}
        response = requests.post(f"{url}/model/v1/generation", json=body, headers=headers, timeout=60)
        response.raise_for_status()
        return response.json()["id"]

    return submit


WAYS = {"kirin": kirin, "bare": bare}


def measure(way: str, file: Path, url: str) -> Submitting:
    """Submit once, in this process.

    :param way: key of :data:`WAYS`
    :param file: the image
    :param url: the gateway
    """
    # A worker has loaded Airflow, and HTTP client and image library load once a process.
    for module in ("airflow.sdk", "PIL.JpegImagePlugin", "requests"):
        importlib.import_module(module)
    submit = WAYS[way](file, url)
    before = _memory()
    started, cpu = time.perf_counter(), time.process_time()
    submit()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Submitting(seconds, cpu, (_memory(peak=True) - before) / 1024)


def _memory(*, peak: bool = False) -> int:
    """Return the kB that this process holds, or held at most since the last time that this was asked."""
    status = Path("/proc/self/status").read_text()
    value = int(status.partition("VmHWM:" if peak else "VmRSS:")[2].split()[0])
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    return value


def measured(file: Path, url: str, *, repeats: int) -> dict[str, Submitting]:
    """Submit in fresh processes, the ways taking turns; return each one's medians.

    :param file: the image
    :param url: the gateway
    :param repeats: how often
    """
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, done in runs.items():
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.submitting", way, str(file), url]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            done.append(json.loads(said.splitlines()[-1]))
    return {
        way: Submitting(**{name: statistics.median(run[name] for run in done) for name in done[0]})
        for way, done in runs.items()
    }


def main() -> None:
    """Submit once and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("file", type=Path)
    parser.add_argument("url")
    given = parser.parse_args()
    print(json.dumps(dataclasses.asdict(measure(given.way, given.file, given.url))))


if __name__ == "__main__":
    main()
