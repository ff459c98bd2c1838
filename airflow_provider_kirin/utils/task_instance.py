"""Task instances, mapped and unmapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_kirin.api.idempotency import StepIdentity
from airflow_provider_kirin.compat import init_arguments, is_unmapped_copy


def map_index_of(ti: Any) -> int:
    """Return the map index as in XComs and URLs: -1 if the task is not mapped, for which Airflow also uses None.

    :param ti: a task instance, or its key
    """
    return -1 if ti.map_index is None else int(ti.map_index)


def is_mapped(task: Any) -> bool:
    """Return whether a task of a DAG file is mapped. Its class is then ``operator_class``, of which it has no instance.

    :param task: as the DAG file defines it
    """
    # Operators that are not mapped have an operator_class, too.
    return hasattr(task, "partial_kwargs")


def class_of(task: Any) -> Any:
    """Return the class of a task's operator.

    :param task: as the DAG file defines it
    """
    return task.operator_class if is_mapped(task) else type(task)


def where_of(ti: Any) -> dict[str, Any]:
    """Return the ids that name a task instance, without its try: ``dag_id``, ``run_id``, ``task_id``, ``map_index``.

    :param ti: a task instance
    """
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": map_index_of(ti)}


def identity_of(ti: Any, *, conn_id: str, take: Any, namespace: str) -> StepIdentity:
    """Return what makes the step of a task instance the same one on every try; see :class:`.StepIdentity`."""
    return StepIdentity(conn_id=conn_id, take=take, namespace=namespace, **where_of(ti))


def arguments_from_outputs(operator: Any, context: Mapping[str, Any]) -> list[str]:
    """Return the names of the arguments that ``expand()`` or ``expand_kwargs()`` took from another task's output.

    Airflow sets their values before it renders templates, so they look like values from the DAG file.

    :param operator: the operator, mapped or not
    :param context: the task's context
    """
    dag: Any = operator.get_dag() if is_unmapped_copy(operator) else None
    mapped: Any = dag.task_dict.get(operator.task_id) if dag is not None else None
    # The arguments of a decorated function are not ours, and Airflow keeps them elsewhere.
    expanded = getattr(getattr(mapped, "expand_input", None), "value", None)
    if expanded is None:
        return []
    if isinstance(expanded, Mapping):
        return [name for name, values in expanded.items() if not isinstance(values, (Mapping, Sequence))]
    if isinstance(expanded, Sequence) and isinstance(expanded[map_index_of(context["ti"])], Mapping):
        return []
    # The row is another task's output. A None in default_args is the DAG file's own.
    inherited = (dag.default_args, getattr(mapped.task_group, "default_args", None))
    own = {name for defaults in inherited for name, value in (defaults or {}).items() if value is None}
    return [name for name in init_arguments(operator) if name not in own and name not in mapped.partial_kwargs]


def require_task_instance(context: Mapping[str, Any]) -> None:
    """Refuse to run without Airflow: a submission is safe to retry only with a task instance.

    :param context: the argument of ``execute()``
    :raises ValueError: if it has no task instance
    """
    if context.get("ti") is None:
        raise ValueError(
            'context["ti"], the task instance, is missing. execute() needs the context that Airflow creates: '
            "run the DAG with dag.test(), or use KirinHook outside of a DAG."
        )
