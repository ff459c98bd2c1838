"""What Airflow's parts in the harness call themselves where they would name their host."""

from __future__ import annotations

import os


def part_name() -> str:
    """Return the part's name; Airflow calls this (``[core] hostname_callable``)."""
    return os.environ.get("KIRIN_FAULTS_PART", "harness")
