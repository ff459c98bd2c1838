"""The trigger of a sensor that no worker started (Airflow 3.3 and later): it finds out by itself what to wait for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_kirin.api.requests import validate_task_ids
from airflow_provider_kirin.exceptions import KirinIdError
from airflow_provider_kirin.state.keys import USAGE_KEY
from airflow_provider_kirin.triggers.encoding import make_event
from airflow_provider_kirin.triggers.events import hand_back_to_worker
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger, serialize_arguments
from airflow_provider_kirin.utils.start_from_trigger import has_template
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    import jinja2


class KirinStartTrigger(BaseTrigger):
    """Look up the ids, then wait as :class:`.KirinTaskTrigger` does.

    Airflow makes it from static arguments: the attributes that share their names with the sensor's template fields are
    rendered, an upstream task's result is looked up here, and the times follow from the timeout that Airflow keeps
    with the task instance, so that a restart of the triggerer grants no more time.

    :param kirin_task_id: an id, the place of one (``{"task_id": ..., "key": ...}``), or a list of either
    :param kirin_conn_id: the connection
    :param timeout: seconds to wait at most
    :param backstop: seconds that Airflow's own timeout comes later
    :param poll_interval: seconds between looks at one generation; None adapts them
    :param fail_fast: whether to fire as soon as one generation gave no video
    :param end_from_trigger: whether to end the task here, once all have their videos
    :param do_xcom_push: whether the result goes to XCom
    """

    #: Airflow's own timeout of the task instance; the triggerer sets it.
    timeout_after: datetime | None = None

    def __init__(
        self,
        *,
        kirin_task_id: Any,
        kirin_conn_id: str,
        timeout: float,
        backstop: float,
        poll_interval: float | None = None,
        fail_fast: bool = False,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
    ) -> None:
        super().__init__()
        self.kirin_task_id = kirin_task_id
        self.kirin_conn_id = kirin_conn_id
        self.timeout = timeout
        self.backstop = backstop
        self.poll_interval = poll_interval
        self.fail_fast = fail_fast
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self._waiting: KirinTaskTrigger | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow needs to make this trigger anew, in any triggerer."""
        return serialize_arguments(self)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all generations and fire one event."""
        await self._clear_results()
        deadline = time.time() + self.timeout
        if self.timeout_after is not None:
            deadline = self.timeout_after.timestamp() - self.backstop
        if self._is_unrendered():
            self.log.warning("The DAG has changed, and Airflow renders nothing for this task here: a worker goes on.")
            yield TriggerEvent(hand_back_to_worker(deadline))
            return
        given = await self._look_up()
        try:
            ids = validate_task_ids(given)
        except KirinIdError as error:
            # The worker that is woken finds the same, and fails the task for good.
            yield make_event([error])
            return
        self._waiting = KirinTaskTrigger(
            kirin_task_ids=ids,
            kirin_conn_id=self.kirin_conn_id,
            started_at=deadline - self.timeout,
            deadline=deadline,
            poll_interval=self.poll_interval,
            fail_fast=self.fail_fast,
            result_shape=("one" if isinstance(given, (str, int)) else "list") if self.end_from_trigger else None,
            do_xcom_push=self.do_xcom_push,
        )
        self._waiting.task_instance = self.task_instance
        yield await self._waiting.wait()

    def get_template_env(self, dag: Any = None) -> jinja2.Environment:
        """Return what Airflow renders with: as on a worker, what is missing fails the try, and is not read as empty.

        :param dag: Airflow's
        """
        import jinja2

        environment = super().get_template_env(dag)
        environment.undefined = jinja2.StrictUndefined
        return environment

    async def on_kill(self) -> None:
        """Say what may go on at Kirin."""
        if self._waiting is not None:
            await self._waiting.on_kill()

    def _is_unrendered(self) -> bool:
        """Tell whether something is left to render.

        Airflow renders, and names the task, only while the DAG as it is now starts the task in the triggerer.
        """
        return self.task is None and has_template([self.kirin_task_id, self.kirin_conn_id])

    async def _clear_results(self) -> None:
        """Delete what an earlier try has left, as a worker does before it executes a task."""
        ti: Any = self.task_instance
        if ti.try_number > 1:
            # A backend may do I/O: not in the event loop.
            await sync_to_async(_delete_results, thread_sensitive=False)(ti)

    async def _look_up(self) -> Any:
        if isinstance(self.kirin_task_id, list):
            return [await self._look_up_one(one) for one in self.kirin_task_id]
        return await self._look_up_one(self.kirin_task_id)

    async def _look_up_one(self, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        from airflow.sdk.execution_time.xcom import XCom

        ti: Any = self.task_instance
        # A backend may do I/O: not in the event loop.
        return await sync_to_async(XCom.get_one, thread_sensitive=False)(
            key=given["key"], task_id=given["task_id"], dag_id=ti.dag_id, run_id=ti.run_id, map_index=-1
        )


def _delete_results(ti: Any) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    for key in (XCom.XCOM_RETURN_KEY, USAGE_KEY):
        XCom.delete(key=key, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=map_index_of(ti))
