"""Deferred task instances whose generations the emulator has, and the web application that receives callbacks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from airflow._shared.timezones import timezone
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_kirin.api.callback_token import CallbackToken, callback_url, signing_key
from airflow_provider_kirin.state.keys import SUBMISSION_KEY
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from tests.support.triggerer import RUN, create_run, write_dag


@dataclass(frozen=True)
class Deferred:
    """A DAG run in the database, whose tasks are put into states by hand, as workers would."""

    dag: DAG

    def __post_init__(self) -> None:
        write_dag(self.dag)
        with create_session() as session:
            # For the callbacks of the task, which the DAG processor runs.
            session.get(DagModel, self.dag.dag_id).relative_fileloc = "dag.py"
            create_run(self.dag, session)

    def put_into_state(self, task_id: str, state: str | None, *, next_method: str | None = None) -> None:
        """Put a task into a state in which it is not deferred."""
        with create_session() as session:
            ti = self._ti(session, task_id)
            ti.state, ti.next_method, ti.trigger_id = state, next_method, None

    def defer(self, task_id: str, kirin_task_ids: list[str], **options: Any) -> KirinTaskTrigger:
        """Defer a task, as a worker does that has submitted these generations, or waits for them."""
        now = time.time()
        defaults = {"kirin_conn_id": "kirin_default", "started_at": now, "deadline": now + 600}
        trigger = KirinTaskTrigger(kirin_task_ids=kirin_task_ids, **(defaults | options))
        self._defer(task_id, trigger)
        return trigger

    def defer_batch(self, task_id: str, kirin_task_ids: list[str], **options: Any) -> KirinBatchTrigger:
        """Defer a batch that has submitted these generations, long enough ago for the next wave."""
        at = time.time() - 30
        defaults = {"kirin_conn_id": "kirin_default", "folder": None, "deadline": at + 600, "poll_interval": None}
        defaults |= {"deferred_at": at, "earliest_event": at, "has_more": True, "retry_at": None}
        in_flight = [[kirin_task_id, at] for kirin_task_id in kirin_task_ids]
        trigger = KirinBatchTrigger(**{"in_flight": in_flight, "awaits_callback": True, **defaults, **options})
        self._defer(task_id, trigger)
        return trigger

    def _defer(self, task_id: str, trigger: Any) -> None:
        with create_session() as session:
            row = Trigger.from_object(trigger)
            session.add(row)
            session.flush()
            ti = self._ti(session, task_id)
            ti.state, ti.trigger_id, ti.next_method, ti.next_kwargs = "deferred", row.id, "execute_complete", {}
            ti.try_number, ti.start_date = 1, timezone.utcnow()

    def submitted(self, task_id: str, kirin_task_id: str, external_task_id: str) -> None:
        """Leave the record of a submission, as a worker does."""
        ids = {"kirin_task_id": kirin_task_id, "external_task_id": external_task_id}
        self.pushed(task_id, SUBMISSION_KEY, ids | {"kirin_conn_id": "kirin_default"})

    def pushed(self, task_id: str, key: str, value: Any) -> None:
        """Leave an XCom, as a worker does."""
        with create_session() as session:
            XComModel.set(
                key,
                value,
                dag_id=self.dag.dag_id,
                task_id=task_id,
                run_id=RUN,
                serialize=False,
                session=session,
            )

    def ti(self, task_id: str) -> TaskInstance:
        """Return a task instance as it is now."""
        with create_session() as session:
            ti = self._ti(session, task_id)
            session.expunge(ti)
            return ti

    def xcoms(self, task_id: str) -> dict[str, Any]:
        """Return the XComs of a task."""
        query = select(XComModel).filter_by(dag_id=self.dag.dag_id, run_id=RUN, task_id=task_id)
        with create_session() as session:
            return {row.key: XComModel.deserialize_value(row) for row in session.scalars(query)}

    def _ti(self, session: Any, task_id: str) -> TaskInstance:
        return session.scalars(
            select(TaskInstance).filter_by(dag_id=self.dag.dag_id, run_id=RUN, task_id=task_id)
        ).one()

    def token(self, task_id: str, external_task_id: str, **changes: Any) -> CallbackToken:
        """Return what the task's callback URL would say."""
        fields = {
            "dag_id": self.dag.dag_id,
            "run_id": RUN,
            "task_id": task_id,
            "map_index": -1,
            "external_task_id": external_task_id,
            "kirin_conn_id": "kirin_default",
            "expires_at": int(time.time()) + 600,
        }
        return CallbackToken(**(fields | changes))


def path_of(token: CallbackToken, key: str) -> str:
    """Return path and query of a callback URL.

    :param token: what it says
    :param key: the API key of the connection
    """
    return callback_url("", token.sign(signing_key(key)))
