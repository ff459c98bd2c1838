"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def describe_machine() -> str:
    """Return cores, versions, and how busy the machine is before anything is measured."""
    import airflow

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores of {name}, {platform.system()}, Python {platform.python_version()}, "
        f"Airflow {airflow.__version__}; load before: {load:.1f}; {time.strftime('%Y-%m-%d', time.gmtime())}"
    )
