"""End a task in the triggerer, without a worker to return its result (Airflow 3.3 and later)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.metrics import report_outcome
from airflow_provider_kirin.state.keys import CALLBACK_KEY, USAGE_KEY
from airflow_provider_kirin.state.usage import usage_entries
from airflow_provider_kirin.utils.task_instance import where_of

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

    from airflow_provider_kirin.api.task import KirinTask


async def end_task(
    ti: Any,
    done: Sequence[KirinTask],
    result: Any,
    *,
    do_xcom_push: bool,
    kirin_conn_id: str,
    started_at: float,
    log: Any,
) -> TriggerEvent | None:
    """Store a task's result as a worker would, and return the event that ends the task.

    Airflow encodes the XComs of the event itself as JSON twice, so they are stored with ``XCom.set``, which uses the
    configured XCom backend. Costs are recorded and metrics emitted here too, since no worker does it.

    :param ti: the task instance
    :param done: the generations
    :param result: the return value of the task
    :param do_xcom_push: whether to store that value
    :param kirin_conn_id: the Airflow connection, for the metrics' tags
    :param started_at: when the wait began, in seconds since the epoch
    :param log: the trigger's logger
    :return: None if the result could not be stored, so that a worker has to do it
    """
    from airflow.sdk.execution_time.xcom import XCom
    from airflow.triggers.base import TaskSuccessEvent

    values = {USAGE_KEY: usage_entries(done)} | ({XCom.XCOM_RETURN_KEY: result} if do_xcom_push else {})
    try:
        # An XCom backend may block on I/O.
        await sync_to_async(_store, thread_sensitive=False)(ti, values)
    except Exception as error:
        log.warning("The triggerer could not store the result; a worker will: %s", one_line(error))
        return None
    # The first metric of a process resolves the address of the metrics server.
    await sync_to_async(_report, thread_sensitive=False)(ti, done, kirin_conn_id, time.time() - started_at)
    return TaskSuccessEvent()


async def was_woken(ti: Any, started_at: float, log: Any) -> bool:
    """Return whether it was a callback that ended a wait, rather than a user.

    :param ti: the task instance
    :param started_at: when the wait began, in seconds since the epoch
    :param log: the trigger's logger
    """
    try:
        mark = await sync_to_async(_read_mark, thread_sensitive=False)(ti)
    except Exception as error:
        log.warning("Could not read why the wait ended: %s", one_line(error))
        return False
    return isinstance(mark, Mapping) and mark.get("started_at") == started_at


def _read_mark(ti: Any) -> Any:
    from airflow.sdk.execution_time.xcom import XCom

    return XCom.get_one(key=CALLBACK_KEY, **where_of(ti))


def _store(ti: Any, values: Mapping[str, Any]) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    for key, value in values.items():
        XCom.set(key=key, value=value, **where_of(ti))


def _report(ti: Any, done: Sequence[KirinTask], kirin_conn_id: str, seconds: float) -> None:
    for kirin_task in done:
        report_outcome(kirin_task, ti=ti, kirin_conn_id=kirin_conn_id, seconds=seconds)
