"""How fast a video is downloaded, beside curl, from the same gateway to the same disk."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def kirin(url: str, file: Path) -> None:
    """Download with our hook."""
    from airflow_provider_kirin.hooks.kirin import KirinHook

    os.environ["AIRFLOW_CONN_KIRIN_DEFAULT"] = json.dumps({"conn_type": "kirin", "host": url, "password": "sk-bench"})
    hook = KirinHook()
    began = time.perf_counter()
    hook.download(url, file)
    print(time.perf_counter() - began)


def measured(url: str, folder: Path, *, repeats: int) -> dict[str, float]:
    """Return the seconds that each way takes, medians, taking turns.

    :param url: the video
    :param folder: where to put it
    :param repeats: how often
    """
    file = folder / "video.mp4"
    seconds: dict[str, list[float]] = {"kirin": [], "curl": []}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.downloading", url, str(file)]
    for _ in range(repeats):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds["kirin"].append(float(done.stdout.splitlines()[-1]))
        file.unlink()
        began = time.perf_counter()
        subprocess.run(["curl", "--silent", "--fail", "--noproxy", "*", "-o", file, url], check=True)
        seconds["curl"].append(time.perf_counter() - began)
        file.unlink()
    return {way: statistics.median(taken) for way, taken in seconds.items()}


def main() -> None:
    """Download once, and print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    kirin(given.url, given.file)


if __name__ == "__main__":
    main()
