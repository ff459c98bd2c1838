"""What the tasks of a DAG would submit in one run, as far as that is known before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.pricing import PRICED
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import KirinSubmitOperator
from airflow_provider_kirin.operators.payload_templates import is_dynamic
from airflow_provider_kirin.utils.task_instance import class_of, is_mapped

#: Stands for a value that is known only at run time, and does not affect the price.
_STAND_IN = "known at run time"


@dataclass(frozen=True)
class Purchase:
    """One generation of a task, or an unknown number of equal ones.

    :param dag_id: the DAG
    :param task_id: the task
    :param is_counted: whether it is one generation; otherwise their number is known only at run time
    :param payload: parameters with the same price; None if the price is known only at run time
    :param model: the model's id
    :param conn_id: the Airflow connection that pays
    """

    dag_id: str
    task_id: str
    is_counted: bool
    payload: Mapping[str, Any] | None
    model: str
    conn_id: str


def purchases_of(dag: Any) -> Iterator[Purchase]:
    """Yield what the tasks of a DAG would submit if all of them ran.

    :param dag: as its file defines it
    :raises KirinTableError: the table of a batch cannot be read
    """
    for task in sorted(dag.tasks, key=lambda task: task.task_id):
        task_class = class_of(task)
        if not isinstance(task_class, type):
            continue
        if issubclass(task_class, KirinSubmitOperator):
            yield from _of_generations(dag.dag_id, task)
        elif issubclass(task_class, KirinBatchOperator):
            yield from _of_batch(dag.dag_id, task)


def _of_generations(dag_id: str, task: Any) -> Iterator[Purchase]:
    fixed = task.partial_kwargs if is_mapped(task) else vars(task)
    instances = _instances(task) if is_mapped(task) else [{}]
    is_counted = instances is not None and task.get_closest_mapped_task_group() is None
    for own in [{}] if instances is None else instances:
        arguments = {**fixed, **own}
        yield _purchase(dag_id, task.task_id, is_counted, arguments.get("payload"), arguments)


def _of_batch(dag_id: str, task: Any) -> Iterator[Purchase]:
    arguments = task.partial_kwargs if is_mapped(task) else vars(task)
    table = None if is_mapped(task) or task.get_closest_mapped_task_group() is not None else task.static_table()
    if table is None:
        yield _purchase(dag_id, task.task_id, False, None, arguments)
        return
    for row in table():
        if not row.problems:
            yield _purchase(dag_id, task.task_id, True, row.payload, arguments)


def _purchase(dag_id: str, task_id: str, is_counted: bool, payload: Any, arguments: Mapping[str, Any]) -> Purchase:
    model, conn_id = arguments.get("model", DEFAULT_MODEL), arguments.get("kirin_conn_id", DEFAULT_CONN_ID)
    is_known = not (is_dynamic(model) or is_dynamic(conn_id))
    return Purchase(dag_id, task_id, is_counted, _priced(payload) if is_known else None, str(model), str(conn_id))


def _instances(task: Any) -> list[Mapping[str, Any]] | None:
    """Return the arguments of each instance of a mapped task; None if they are another task's output."""
    # A decorated task maps the arguments of its function.
    value = (getattr(task, "op_kwargs_expand_input", None) or task.expand_input).value
    if isinstance(value, Mapping):
        lists = [list(each.items()) if isinstance(each, Mapping) else each for each in value.values()]
        if all(isinstance(each, (list, tuple)) for each in lists):
            return [dict(zip(value, each, strict=True)) for each in product(*lists)]
    elif isinstance(value, Sequence) and all(isinstance(each, Mapping) for each in value):
        return list(value)
    return None


def _priced(payload: Any) -> dict[str, Any] | None:
    """Return a payload without what is known only at run time; None if that affects the price."""
    if isinstance(payload, str) and not is_dynamic(payload):
        with suppress(ValueError):
            payload = json.loads(payload)
    if not isinstance(payload, Mapping) or any(is_dynamic(payload.get(name)) for name in PRICED):
        return None
    return {name: _STAND_IN if is_dynamic(value) else value for name, value in payload.items()}
