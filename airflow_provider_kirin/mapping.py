"""Which of a mapped task's instances one is."""

from __future__ import annotations

from typing import Any


def map_index_of(ti: Any) -> int:
    """Return the map index as XComs and URLs have it: -1 where the task is not mapped, which Airflow also calls None.

    :param ti: Airflow's task instance, or the key of one
    """
    return -1 if ti.map_index is None else int(ti.map_index)
