"""Which of a mapped task's instances one is."""

from __future__ import annotations

from typing import Any


def map_index_of(ti: Any) -> int:
    """Return the map index as XComs and URLs have it: -1 where the task is not mapped, which Airflow also calls None.

    :param ti: Airflow's task instance, or the key of one
    """
    return -1 if ti.map_index is None else int(ti.map_index)


def is_of_mapped(operator: Any) -> bool:
    """Tell whether an operator was made anew, on a worker, for one instance of a mapped task.

    Airflow marks such an operator only by this private name.

    :param operator: an operator
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))
