"""How much memory a download takes, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import resource, sys
sys.path.insert(0, {root!r})
from airflow_provider_kirin.hooks.kirin import KirinHook
hook = KirinHook("kirin_default")
hook.download({url!r} + "/small", {place!r} + "-small.mp4")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = hook.download({url!r} + "/large", {place!r} + "-large.mp4")
print(size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def memory_of_a_download(url: str, place: str) -> tuple[int, int]:
    """Download in a process of its own; return the bytes, and by how many kilobytes its peak grew."""
    script = _PROGRAM.format(root=str(Path(__file__).parents[2]), url=url, place=place)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    size, kilobytes = done.stdout.split()[-2:]
    return int(size), int(kilobytes)
