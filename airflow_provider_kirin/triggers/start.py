"""The trigger of a sensor that starts in the triggerer (Airflow 3.3 and later): it looks up the ids itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_kirin.api.requests import validate_task_ids
from airflow_provider_kirin.exceptions import KirinIdError
from airflow_provider_kirin.state.keys import USAGE_KEY
from airflow_provider_kirin.triggers.base import KirinTrigger
from airflow_provider_kirin.triggers.encoding import make_event
from airflow_provider_kirin.triggers.events import hand_back_to_worker
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from airflow_provider_kirin.utils.start_from_trigger import has_template
from airflow_provider_kirin.utils.task_instance import where_of

if TYPE_CHECKING:
    import jinja2


class KirinStartTrigger(KirinTrigger):
    """Look up the ids, then wait as :class:`.KirinTaskTrigger` does.

    Airflow creates it from static arguments. It renders the attributes that are named like template fields of the
    sensor; the result of an upstream task is looked up here. Start and deadline are derived from the timeout that
    Airflow stores with the task instance, so that a restart of the triggerer does not extend the wait.

    :param kirin_task_id: an id, the XCom that holds it (``{"task_id": ..., "key": ...}``), or a list of either
    :param kirin_conn_id: the Airflow connection
    :param timeout: seconds to wait at most
    :param backstop: seconds by which Airflow's own timeout is later
    :param poll_interval: seconds between polls of one generation; None adapts them
    :param fail_fast: whether to fire as soon as one generation has no video
    :param end_from_trigger: whether to end the task here once all generations have their videos
    :param do_xcom_push: whether to push the result to XCom
    """

    #: When Airflow's own timeout of the task instance expires; set by the triggerer.
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for all generations and fire one event."""
        await self._clear_results()
        deadline = time.time() + self.timeout
        if self.timeout_after is not None:
            deadline = self.timeout_after.timestamp() - self.backstop
        if self._is_unrendered():
            self.log.warning("The DAG has changed, and Airflow renders no templates here; a worker continues the wait.")
            yield TriggerEvent(hand_back_to_worker(deadline))
            return
        given = await self._look_up()
        try:
            ids = validate_task_ids(given)
        except KirinIdError as error:
            # The worker that resumes finds the same error, and fails the task without a retry.
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
        """Return the environment for rendering. A missing value fails the try, as on a worker, and is not empty.

        :param dag: the DAG, whose settings Airflow does not apply here
        """
        import jinja2

        environment = super().get_template_env(dag)
        environment.undefined = jinja2.StrictUndefined
        return environment

    async def on_kill(self) -> None:
        """Log which generations may continue at Kirin."""
        if self._waiting is not None:
            await self._waiting.on_kill()

    def _is_unrendered(self) -> bool:
        """Return whether a template was not rendered.

        Airflow renders, and sets the task, only if the latest version of the DAG starts the task in the triggerer.
        """
        return self.task is None and has_template([self.kirin_task_id, self.kirin_conn_id])

    async def _clear_results(self) -> None:
        """Delete the XComs of an earlier try, as a worker does before it executes a task."""
        ti: Any = self.task_instance
        if ti.try_number > 1:
            # An XCom backend may block on I/O.
            await sync_to_async(_delete_results, thread_sensitive=False)(ti)

    async def _look_up(self) -> Any:
        if isinstance(self.kirin_task_id, list):
            return [await self._look_up_one(entry) for entry in self.kirin_task_id]
        return await self._look_up_one(self.kirin_task_id)

    async def _look_up_one(self, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        from airflow.sdk.execution_time.xcom import XCom

        ti: Any = self.task_instance
        # An XCom backend may block on I/O.
        return await sync_to_async(XCom.get_one, thread_sensitive=False)(
            key=given["key"], task_id=given["task_id"], dag_id=ti.dag_id, run_id=ti.run_id, map_index=-1
        )


def _delete_results(ti: Any) -> None:
    from airflow.sdk.execution_time.xcom import XCom

    for key in (XCom.XCOM_RETURN_KEY, USAGE_KEY):
        XCom.delete(key=key, **where_of(ti))
