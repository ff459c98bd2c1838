"""Start a DAG's sensors as Airflow's scheduler and triggerer do, in this process, over its own code and database."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec
from airflow._shared.timezones import timezone
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.jobs.triggerer_job_runner import (
    ToTriggerSupervisor,
    TriggerRunner,
    TriggerRunnerSupervisor,
    in_process_api_server,
)
from airflow.models.dagbag import DBDagBag
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.sdk import DAG
from airflow.sdk.api.client import Client
from airflow.sdk.execution_time.comms import _new_encoder
from airflow.sdk.execution_time.request_handlers import handle_delete_xcom, handle_get_xcom, handle_set_xcom
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.helpers import log_filename_template_renderer
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from pydantic import TypeAdapter
from sqlalchemy import select

from airflow_provider_kirin.triggers.start import KirinStartTrigger

_BUNDLE = "dags-folder"
RUN = "manual__1"
_HANDLERS: dict[str, Any] = {
    "DeleteXCom": handle_delete_xcom,
    "GetXCom": handle_get_xcom,
    "SetXCom": handle_set_xcom,
}


def _client() -> Client:
    client = Client(base_url=None, token="", dry_run=True, transport=in_process_api_server().transport)
    client.base_url = "http://in-process.invalid./"
    return client


def _over_the_wire(message: Any, **options: Any) -> Any:
    frame = _new_encoder().encode(message.model_dump(**options))
    return type(message).model_validate(msgspec.msgpack.decode(frame))


class Comms:
    """What a trigger's process asks its supervisor goes to Airflow's own handlers and API, and so to the database."""

    def send(self, message: Any) -> Any:
        # Refuses what a triggerer's supervisor does not understand.
        TypeAdapter(ToTriggerSupervisor).validate_python(message)
        return _HANDLERS[type(message).__name__](_client(), message)[0]


@dataclass(frozen=True)
class Started:
    """A DAG run whose sensor ``wait`` is deferred by the scheduler."""

    dag: DAG

    @property
    def ti(self) -> TaskInstance:
        """The task instance."""
        with create_session() as session:
            ti = session.scalar(select(TaskInstance).filter_by(dag_id=self.dag.dag_id, task_id="wait"))
            assert ti is not None
            session.expunge(ti)
            return ti

    def trigger(self) -> tuple[KirinStartTrigger, Any]:
        """Return the trigger as a triggerer makes it of what the database holds now, and its template context."""
        supervisor = SimpleNamespace(job=SimpleNamespace(id=1), logger_cache={}, id=1)
        with create_session() as session:
            row = session.get(Trigger, self.ti.trigger_id)
            workload = _over_the_wire(
                TriggerRunnerSupervisor._create_workload(
                    supervisor, row, DBDagBag(), log_filename_template_renderer(), session
                )
            )
        arguments = Trigger._decrypt_kwargs(workload.encrypted_kwargs)
        made = KirinStartTrigger(**{name: smart_decode_trigger_kwargs(value) for name, value in arguments.items()})
        made.task_instance, context = workload.ti, None
        if workload.dag_data:
            made.task_instance = TriggerRunner.create_runtime_ti(workload.ti, workload.dag_data, workload.dag_run_data)
            context = made.task_instance.get_template_context()
        made.timeout_after = workload.timeout_after
        return made, context

    def worker_context(self) -> Any:
        """Return the template context that a worker would have."""
        ti = self.ti
        with create_session() as session:
            session.get(TaskInstance, ti.id).state = "queued"
        start = _over_the_wire(_client().task_instances.start(ti.id, 1, timezone.utcnow()), exclude_unset=True)
        return RuntimeTaskInstance.model_construct(
            id=ti.id,
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            try_number=ti.try_number,
            map_index=ti.map_index,
            task=self.dag.get_task("wait"),
            _ti_context_from_server=start,
            start_date=ti.start_date,
        ).get_template_context()


def write_dag(dag: DAG) -> None:
    """Store a DAG as the DAG processor does.

    :param dag: the DAG
    """
    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
        session.commit()
        serialized = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db(_BUNDLE, None, [serialized], session=session)
        SerializedDagModel.write_dag(serialized, bundle_name=_BUNDLE, session=session)


def create_run(dag: DAG, session: Any, **options: Any) -> tuple[Any, Any]:
    """Create the DAG run ``RUN`` of a stored DAG; return it with the stored DAG.

    :param dag: the DAG
    :param session: a session of Airflow's database
    :param options: of ``create_dagrun``
    """
    stored = DBDagBag().get_latest_version_of_dag(dag.dag_id, session=session)
    now = timezone.utcnow()
    dag_run = stored.create_dagrun(
        run_id=RUN,
        logical_date=now,
        data_interval=(now, now),
        run_after=now,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state="running",
        session=session,
        **options,
    )
    return dag_run, stored


def start(dag: DAG, *, conf: dict[str, Any] | None = None) -> Started:
    """Create a DAG run, and let the scheduler start its tasks.

    :param dag: has a sensor ``wait`` that starts in the triggerer
    :param conf: the DAG run's
    """
    write_dag(dag)
    with create_session() as session:
        dag_run, stored = create_run(dag, session, conf=conf)
        session.flush()
        dag_run.dag = stored
        schedulable, _ = dag_run.update_state(session=session, execute_callbacks=False)
        for ti in schedulable:
            ti.task = stored.get_task(ti.task_id)
        dag_run.schedule_tis(schedulable, session=session)
    started = Started(dag)
    assert started.ti.state == "deferred"
    return started
