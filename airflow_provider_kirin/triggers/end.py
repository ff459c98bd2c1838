"""How a trigger ends its task itself, so that no worker is started to pass a result on (Airflow 3.3 and later)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.metrics import report_outcome
from airflow_provider_kirin.state.keys import USAGE_KEY
from airflow_provider_kirin.state.usage import usage_entries
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger


async def end_task(trigger: KirinTaskTrigger, done: Sequence[KirinTask], result: Any) -> TriggerEvent | None:
    """Store a task's result as a worker would, and return the event that ends the task.

    Airflow stores the XComs that the event itself can carry as JSON in JSON; ``XCom.set`` stores what a worker does,
    through the XCom backend that is configured.

    What the generations cost is stored and told here too: no worker will.

    :param trigger: knows its task instance
    :param done: the generations
    :param result: what the task returns
    :return: None where the result could not be stored: a worker has to do it
    """
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.triggers.base import TaskSuccessEvent

    ti: Any = trigger.task_instance
    if ti is None:
        # dag.test() runs a trigger without one.
        return None
    values = {USAGE_KEY: usage_entries(done)} | ({XCom.XCOM_RETURN_KEY: result} if trigger.do_xcom_push else {})
    try:
        # A backend may do I/O: not in the event loop.
        await sync_to_async(_store, thread_sensitive=False)(ti, values)
    except Exception as error:
        trigger.log.warning("The result could not be stored from here; a worker will: %s", one_line(error))
        return None
    # The first metric of a process looks up the address of its server.
    await sync_to_async(_report, thread_sensitive=False)(ti, trigger, done)
    return TaskSuccessEvent()


def _store(ti: Any, values: Mapping[str, Any]) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    for key, value in values.items():
        XCom.set(
            key=key,
            value=value,
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=map_index_of(ti),
        )


def _report(ti: Any, trigger: KirinTaskTrigger, done: Sequence[KirinTask]) -> None:
    seconds = time.time() - trigger.started_at
    for kirin_task in done:
        report_outcome(kirin_task, ti=ti, kirin_conn_id=trigger.kirin_conn_id, seconds=seconds)
