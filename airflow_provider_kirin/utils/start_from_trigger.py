"""Rules for starting and ending a task in the triggerer (Airflow 3.3 and later), without a worker.

Starting there is opt-in (``start_from_trigger=True``), and refused when the DAG is parsed if it would hang, or if
something that the DAG asks for would silently not happen. Ending there is automatic: Airflow does some of the work
around a successful task on workers only, so a task ends in the triggerer only if none of that is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS, has_execute_hook

if TYPE_CHECKING:
    from airflow.triggers.base import StartTriggerArgs

#: Seconds by which Airflow's own deadline is later. The trigger enforces the timeout; Airflow's is a backstop.
BACKSTOP = 120.0
#: Template names that ask Airflow for something that a triggerer's supervisor cannot answer: rendering never returns.
_HANGS_IN_TRIGGERER = re.compile(r"\b(xcom_pull|get_previous_dagrun|inlet_events|task_state_store|prev_\w+_success)\b")


class InstanceProperty(property):
    """A property that has a plain value on the class, which is what Airflow reads when it maps an operator."""

    def __init__(self, getter: Any, on_class: Any = None) -> None:
        super().__init__(getter)
        self._on_class = on_class

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self._on_class if instance is None else super().__get__(instance, owner)


def decide(wanted: bool | None, reasons: Iterator[str], *, argument: str, task_id: str) -> bool:
    """Return whether to do something in the triggerer.

    :param wanted: the user's choice; None means yes unless there is a reason against it
    :param reasons: the reasons that require a worker
    :param argument: the name of the argument that holds the choice
    :param task_id: for the error message
    :raises ValueError: if the choice is True and there is a reason against it
    """
    if wanted is False:
        return False
    reason = next(reasons, None)
    if reason is not None and wanted:
        raise ValueError(
            f"{argument}=True is not possible for task {task_id!r}: {reason}. Remove {argument}=True, and a worker "
            "does this part."
        )
    return reason is None


def why_end_on_worker(task: Any) -> Iterator[str]:
    """Yield what would silently not happen if a successful task ended in the triggerer.

    :param task: the operator, as the DAG configured it
    """
    if not AIRFLOW_V_3_3_PLUS:
        yield "it needs Airflow 3.3"
        return
    if task.has_on_success_callback:
        yield "it has an on_success_callback, which runs on a worker"
    if task.outlets:
        yield "it has outlets, whose asset events come from a worker"
    if has_execute_hook(task, "post_execute") or _overrides(task, "post_execute"):
        yield "it has a post_execute, which runs on a worker"
    if getattr(task, "multiple_outputs", False):
        yield "it has multiple_outputs, which a worker pushes"
    if task.returns_dag_result:
        yield "it returns the DAG's result, which a worker stores"
    if _is_mapped_over(task):
        yield "another task is mapped over its result, whose length a worker stores"
    yield from (f"its class overrides {name}" for name in ("execute", "execute_complete") if _overrides(task, name))
    if _has_listener("on_task_instance_success"):
        yield "a plugin listens to task instances (OpenLineage does), and Airflow calls it on workers only"


def why_start_on_worker(task: Any) -> Iterator[str]:
    """Yield what would hang, or silently not happen, if a sensor started in the triggerer.

    :param task: the sensor
    """
    if not AIRFLOW_V_3_3_PLUS:
        yield "it needs Airflow 3.3"
        return
    if not task.deferrable:
        yield "it has deferrable=False"
    if task.get_closest_mapped_task_group() is not None:
        yield "it is in a mapped task group, and only a worker resolves the arguments of each instance"
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        yield "[triggerer] queues_enabled is on, and Airflow assigns a queue only when a worker defers"
    if task.has_on_execute_callback:
        yield "it has an on_execute_callback, which runs on a worker"
    if has_execute_hook(task, "pre_execute") or _overrides(task, "pre_execute"):
        yield "it has a pre_execute, which runs on a worker"
    if _overrides(task, "execute"):
        yield "its class overrides execute, which runs on a worker"
    if task.execution_timeout is not None:
        yield "it has an execution_timeout, which a worker enforces; use timeout"
    if any(param.source == "task" and param.schema for _, param in task.params.items()):
        yield "it has params of its own with a schema, and an invalid value would stop the triggerer"
    ids = reference(task.kirin_task_id)
    if ids is None:
        yield "its kirin_task_id must be a string, the output of one unmapped task, or a list of these"
    if not isinstance(task.kirin_conn_id, str):
        yield "its kirin_conn_id must be a string"
    for value in (*(ids if isinstance(ids, list) else [ids]), task.kirin_conn_id):
        if has_template(value) and (found := _HANGS_IN_TRIGGERER.search(value)):
            yield f"a template with {found[0]} hangs in the triggerer; for an XCom give the output of its task"


def reference(kirin_task_id: Any) -> Any:
    """Return the ids in the form that the trigger takes: strings as they are, a task's output as its task id and key.

    :param kirin_task_id: the sensor's argument
    :return: None for anything that only a worker can resolve
    """
    from airflow.sdk.definitions.mappedoperator import MappedOperator
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(kirin_task_id, str):
        return kirin_task_id
    if isinstance(kirin_task_id, (list, tuple)):
        entries = [reference(entry) for entry in kirin_task_id]
        return None if any(entry is None or isinstance(entry, list) for entry in entries) else entries
    if isinstance(kirin_task_id, PlainXComArg):
        upstream = kirin_task_id.operator
        if not isinstance(upstream, MappedOperator) and upstream.get_closest_mapped_task_group() is None:
            return {"task_id": upstream.task_id, "key": kirin_task_id.key}
    return None


def start_arguments(task: Any, *, end_from_trigger: bool) -> StartTriggerArgs:
    """Return what Airflow needs to start a sensor in the triggerer.

    :param task: the sensor
    :param end_from_trigger: whether its task may end there as well
    """
    from airflow.triggers.base import StartTriggerArgs

    return StartTriggerArgs(
        trigger_cls="airflow_provider_kirin.triggers.start.KirinStartTrigger",
        trigger_kwargs={
            "kirin_task_id": reference(task.kirin_task_id),
            "kirin_conn_id": task.kirin_conn_id,
            "timeout": task.timeout,
            "backstop": BACKSTOP,
            "poll_interval": task.poll_interval,
            "fail_fast": task.fail_fast,
            "end_from_trigger": end_from_trigger,
            "do_xcom_push": task.do_xcom_push,
        },
        next_method="execute_complete",
        timeout=timedelta(seconds=task.timeout + BACKSTOP),
    )


def has_template(value: Any) -> bool:
    """Return whether a string, or a string in a list, contains a Jinja template.

    :param value: the value of a template field
    """
    if isinstance(value, list):
        return any(has_template(entry) for entry in value)
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))


def _is_mapped_over(task: Any) -> bool:
    """Return whether another task is mapped over its result.

    The first check is cheap: iter_mapped_dependants() visits every task downstream.
    """
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    dag = task.get_dag()
    direct = (dag.get_task(task_id) for task_id in task.downstream_task_ids) if dag is not None else ()
    if not any(
        isinstance(other, MappedOperator) or other.get_closest_mapped_task_group() is not None for other in direct
    ):
        return False
    return next(iter(task.iter_mapped_dependants()), None) is not None


def _overrides(task: Any, name: str) -> bool:
    """Return whether a user's subclass overrides a method."""
    method = getattr(type(task), name)
    return method is not getattr(BaseOperator, name, None) and not method.__module__.startswith(
        "airflow_provider_kirin."
    )


def _has_listener(hook: str) -> bool:
    """Return whether a plugin listens to an event of task instances."""
    from airflow.sdk.listener import get_listener_manager

    implementations = getattr(get_listener_manager().hook, hook).get_hookimpls()
    # Airflow's example plugin only prints, and is loaded together with the example DAGs.
    return any(not listener.plugin_name.startswith("airflow.example_dags.") for listener in implementations)
