"""Which parts of a wait need a worker: decided from the task as it stands when Airflow serializes it, or defers it.

On Airflow 3.3 and later a task can start in the triggerer, and end there. Much of what Airflow does around a task
happens on a worker only. So a task takes the short way where that makes no difference to anything that was asked for,
and the ordinary way everywhere else; docs/sensor.md lists what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from airflow.triggers.base import StartTriggerArgs

#: The trigger keeps the deadline itself. Airflow's own is a backstop for a triggerer that does not, seconds later.
BACKSTOP = 120.0
#: Tasks of a DAG: for each one that starts in the triggerer, Airflow unpacks the whole DAG in its event loop. With more
#: it takes longer than it may, and soon more than a worker's run (docs/performance.md).
MAX_DAG_TASKS = 50
#: What a template may use to be rendered in the triggerer as it is on a worker: plain values of the DAG run.
_PLAIN_NAMES = frozenset(
    {
        "dag_run",
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "logical_date",
        "params",
        "run_id",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
    }
)
#: Of ``dag_run`` only these: there its type and state are other texts, and what led to the run is missing.
_PLAIN_OF_RUN = frozenset(
    {"conf", "dag_id", "data_interval_end", "data_interval_start", "logical_date", "run_after", "run_id"}
)
#: Such defaults of params do not come out of the serialized DAG as they went in.
_CHANGED_BY_SERIALIZATION = (dict, list, tuple, Enum)
_LISTENER = "a plugin listens to task instances (OpenLineage does), and hears of them on workers only"


class InstanceProperty(property):
    """A property that is plain False or None on the class, where Airflow looks for it when it maps an operator."""

    def __init__(self, getter: Any, on_class: Any = None) -> None:
        super().__init__(getter)
        self._on_class = on_class

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self._on_class if instance is None else super().__get__(instance, owner)


def decide(wanted: bool | None, reasons: Iterator[str], *, argument: str, task_id: str) -> bool:
    """Return whether a task can do without a worker here.

    :param wanted: the user's choice: None where it makes no difference, True to insist, False for never
    :param reasons: why it cannot
    :param argument: the argument that holds the choice
    :param task_id: for the message
    :raises ValueError: the user insists, and it cannot
    """
    if wanted is False:
        return False
    reason = next(reasons, None)
    if reason is not None and wanted:
        raise ValueError(
            f"{argument}=True of task {task_id!r} cannot be kept: {reason}. Leave it out: the task then needs a worker "
            "only where it has to."
        )
    return reason is None


def why_end_on_worker(task: Any) -> Iterator[str]:
    """Yield what would be lost if a task that succeeds ended in the triggerer.

    :param task: an operator, with what it was given
    """
    if not AIRFLOW_V_3_3_PLUS:
        yield "it needs Airflow 3.3"
        return
    if task.has_on_success_callback:
        yield "it has an on_success_callback, which runs on a worker"
    if task.outlets:
        yield "it has outlets, whose asset events come from a worker"
    if task._post_execute_hook or _overrides(task, "post_execute"):
        yield "it has a post_execute, which runs on a worker"
    if getattr(task, "multiple_outputs", False):
        yield "it has multiple_outputs, which a worker takes apart"
    if task.returns_dag_result:
        yield "it returns the DAG's result, which a worker stores"
    if _is_mapped_over(task):
        yield "another task is mapped over its result, whose length a worker stores"
    yield from (f"its class overrides {name}" for name in ("execute", "execute_complete") if _overrides(task, name))
    if _has_listener("on_task_instance_success"):
        yield _LISTENER


def why_start_on_worker(task: Any, *, ignore_dag_size: bool = False) -> Iterator[str]:
    """Yield what would be lost if a sensor started in the triggerer.

    :param task: the sensor
    :param ignore_dag_size: skip the DAG size limit (``MAX_DAG_TASKS``)
    """
    if not AIRFLOW_V_3_3_PLUS:
        yield "it needs Airflow 3.3"
        return
    if not task.deferrable:
        yield "it has deferrable=False"
    if task.has_on_execute_callback:
        yield "it has an on_execute_callback, which runs on a worker"
    if task._pre_execute_hook or _overrides(task, "pre_execute"):
        yield "it has a pre_execute, which runs on a worker"
    if task.execution_timeout is not None:
        yield "it has an execution_timeout, which counts on a worker"
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        yield "[triggerer] queues_enabled is on, and what starts in the triggerer is put in no queue"
    if task.pool != "default_pool" or task.max_active_tis_per_dag or task.max_active_tis_per_dagrun:
        yield "its pool or max_active_tis limits how many run at a time, which the way through the triggerer passes by"
    if _overrides(task, "execute"):
        yield "its class overrides execute"
    if getattr(task, "multiple_outputs", False) or _overrides(task, "execute_complete"):
        yield "it may push XComs that only a worker clears before another try"
    if any(param.source == "task" and param.schema for _, param in task.params.items()):
        yield "it has params of its own with a schema, which is checked on a worker"
    if not ignore_dag_size and (dag := task.get_dag()) is not None and len(dag.task_dict) > MAX_DAG_TASKS:
        yield f"its DAG has more than {MAX_DAG_TASKS} tasks, all of which the triggerer would unpack for it"
    if task.get_closest_mapped_task_group() is not None:
        yield "it is in a mapped task group"
    if (where := reference(task.kirin_task_id)) is None or not _is_plain(where, task):
        yield "its kirin_task_id is known on a worker only: neither fixed, nor a plain template, nor one task's output"
    if not isinstance(task.kirin_conn_id, str) or not _is_plain(task.kirin_conn_id, task):
        yield "its kirin_conn_id is known on a worker only: neither fixed, nor a plain template"
    if _has_listener("on_task_instance_running"):
        yield _LISTENER


def reference(kirin_task_id: Any) -> Any:
    """Return an argument as the triggerer can look it up: texts as they are, a task's output as its place.

    :param kirin_task_id: the sensor's argument
    :return: None for what only a worker can resolve
    """
    from airflow.sdk.definitions.mappedoperator import MappedOperator
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(kirin_task_id, str):
        return kirin_task_id
    if isinstance(kirin_task_id, (list, tuple)):
        places = [reference(one) for one in kirin_task_id]
        return None if None in places or any(isinstance(place, list) for place in places) else places
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
    """Tell whether a text, or one in a list, has to be rendered.

    :param value: of a template field
    """
    if isinstance(value, list):
        return any(has_template(one) for one in value)
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))


def _is_plain(value: Any, task: Any) -> bool:
    """Tell whether a value has no template, or one that is the same in the triggerer."""
    if isinstance(value, list):
        return all(_is_plain(one, task) for one in value)
    if isinstance(value, str) and value.endswith(tuple(task.template_ext)):
        return False
    return not has_template(value) or (not _has_own_template_settings(task) and _uses_plain_names(value, task))


def _has_own_template_settings(task: Any) -> bool:
    """Tell whether a worker renders a task's templates by other rules than the triggerer, which has Airflow's own."""
    import jinja2

    dag = task.get_dag()
    return bool(getattr(task, "render_template_as_native_obj", None)) or (
        dag is not None
        and bool(
            dag.render_template_as_native_obj
            or dag.user_defined_macros
            or dag.user_defined_filters
            or dag.jinja_environment_kwargs
            or dag.template_undefined is not jinja2.StrictUndefined
        )
    )


def _uses_plain_names(template: str, task: Any) -> bool:
    """Tell whether all that a template names has the same value in the triggerer."""
    import jinja2
    from jinja2 import meta, nodes

    try:
        tree = jinja2.Environment().parse(template)
        names = meta.find_undeclared_variables(tree)
    except jinja2.TemplateError:
        return False
    if not names <= _PLAIN_NAMES or any(tree.find_all((nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport))):
        return False
    if "params" in names and any(
        isinstance(param.value, _CHANGED_BY_SERIALIZATION) for _, param in task.params.items()
    ):
        return False
    runs = [name for name in tree.find_all(nodes.Name) if name.name == "dag_run"]
    plain = [use for use in tree.find_all(nodes.Getattr) if use.node in runs and use.attr in _PLAIN_OF_RUN]
    return len(runs) == len(plain)


def _is_mapped_over(task: Any) -> bool:
    """Tell whether another task is mapped over its result; in a few steps where none is, for DAGs of many tasks."""
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    dag = task.get_dag()
    direct = (dag.get_task(task_id) for task_id in task.downstream_task_ids) if dag is not None else ()
    if not any(isinstance(one, MappedOperator) or one.get_closest_mapped_task_group() is not None for one in direct):
        return False
    return next(iter(task.iter_mapped_dependants()), None) is not None


def _overrides(task: Any, name: str) -> bool:
    """Tell whether a user's subclass does something of its own in a method."""
    method = getattr(type(task), name)
    return method is not getattr(BaseOperator, name, None) and not method.__module__.startswith(
        "airflow_provider_kirin."
    )


def _has_listener(hook: str) -> bool:
    """Tell whether a plugin wants to hear of this on a worker."""
    from airflow.sdk.listener import get_listener_manager

    heard_by = getattr(get_listener_manager().hook, hook).get_hookimpls()
    # Airflow's example plugin only prints, and is there wherever the example DAGs are.
    return any(not implementation.plugin_name.startswith("airflow.example_dags.") for implementation in heard_by)
