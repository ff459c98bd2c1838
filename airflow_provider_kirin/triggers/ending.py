"""How a trigger ends its task itself, so that no worker is started to pass a result on (Airflow 3.3 and later)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_provider_kirin.api.text import one_line

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger, TriggerEvent


async def end_task(trigger: BaseTrigger, result: Any, *, push: bool) -> TriggerEvent | None:
    """Store a task's result as a worker would, and return the event that ends the task.

    Airflow stores the XComs that the event itself can carry as JSON in JSON; ``XCom.set`` stores what a worker does,
    through the XCom backend that is configured.

    :param trigger: knows its task instance
    :param result: what the task returns
    :param push: whether the result goes to XCom
    :return: None where the result could not be stored: a worker has to do it
    """
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.triggers.base import TaskSuccessEvent

    ti: Any = trigger.task_instance
    if ti is None:
        # dag.test() runs a trigger without one.
        return None
    try:
        if push:
            # A backend may do I/O: not in the event loop.
            await sync_to_async(XCom.set, thread_sensitive=False)(
                key=XCom.XCOM_RETURN_KEY,
                value=result,
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=-1 if ti.map_index is None else ti.map_index,
            )
    except Exception as error:
        trigger.log.warning("The result could not be stored from here; a worker will: %s", one_line(error))
        return None
    return TaskSuccessEvent()
