"""Which of a mapped task's instances one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def map_index_of(ti: Any) -> int:
    """Return the map index as XComs and URLs have it: -1 where the task is not mapped, which Airflow also calls None.

    :param ti: Airflow's task instance, or the key of one
    """
    return -1 if ti.map_index is None else int(ti.map_index)


def is_unmapped_copy(operator: Any) -> bool:
    """Tell whether an operator was made anew, on a worker, for one instance of a mapped task.

    Airflow marks such an operator only by this private name.

    :param operator: an operator
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def arguments_from_outputs(operator: Any, context: Mapping[str, Any]) -> list[str]:
    """Return the arguments that ``expand()`` or ``expand_kwargs()`` took from another task's output.

    Their values are there before Airflow renders, so nothing else tells them from what a DAG file says.

    :param operator: an operator, mapped or not
    :param context: Airflow's
    """
    dag = operator.get_dag() if is_unmapped_copy(operator) else None
    mapped: Any = dag.task_dict.get(operator.task_id) if dag is not None else None
    # What the decorated function is called with is its own business, and stands elsewhere.
    expanded = getattr(getattr(mapped, "expand_input", None), "value", None)
    if expanded is None:
        return []
    if isinstance(expanded, Mapping):
        return [name for name, values in expanded.items() if not isinstance(values, (Mapping, Sequence))]
    if isinstance(expanded, Sequence) and isinstance(expanded[map_index_of(context["ti"])], Mapping):
        return []
    # The row is another task's. Airflow keeps what the operator was made with only under this private name.
    return [name for name in operator._BaseOperator__init_kwargs if name not in mapped.partial_kwargs]


def require_task_instance(context: Mapping[str, Any]) -> None:
    """Refuse to run without Airflow: everything that makes a submission safe to retry hangs on the task instance.

    :param context: what ``execute()`` was called with
    :raises ValueError: it has no task instance
    """
    if context.get("ti") is None:
        raise ValueError(
            'This operator needs the context that Airflow calls execute() with, and its task instance, context["ti"], '
            "is missing. Run the DAG with dag.test(), or, outside of a DAG, use KirinHook."
        )
