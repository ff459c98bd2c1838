"""Run a DAG for real, in this process, with Airflow's own ``dag.test()``, and read what it left in the database."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.asset import AssetEvent
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from tests.support.waiting import HANG


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended."""

    dag_id: str
    run_id: str
    state: str
    log: str

    def ti(self, task_id: str, map_index: int = -1) -> Any:
        """Return a task instance."""
        from airflow.models.taskinstance import TaskInstance

        with create_session() as session:
            found = session.scalar(self._rows(TaskInstance).filter_by(task_id=task_id, map_index=map_index))
            assert found is not None, f"there is no {task_id}[{map_index}] in {self.dag_id}"
            session.expunge(found)
            return found

    def states(self) -> dict[str, str]:
        """Return the state of each task instance; ``task`` or ``task[0]``."""
        from airflow.models.taskinstance import TaskInstance

        with create_session() as session:
            rows = session.scalars(self._rows(TaskInstance)).all()
            return {ti.task_id + (f"[{ti.map_index}]" if ti.map_index >= 0 else ""): str(ti.state) for ti in rows}

    def xcoms(self) -> dict[tuple[str, int, str], Any]:
        """Return every XCom of the run, by task id, map index and key."""
        with create_session() as session:
            rows = session.scalars(self._rows(XComModel)).all()
            return {(row.task_id, row.map_index, row.key): XComModel.deserialize_value(row) for row in rows}

    def result(self, task_id: str, map_index: int = -1) -> Any:
        """Return what a task returned."""
        return self.xcoms()[task_id, map_index, "return_value"]

    def rendered(self, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return the rendered template fields, as the UI shows them."""
        with create_session() as session:
            rows = self._rows(RenderedTaskInstanceFields).filter_by(task_id=task_id, map_index=map_index)
            return dict(session.scalars(rows).one().rendered_fields)

    def asset_events(self) -> list[Any]:
        """Return the Asset events that the run's tasks left, oldest first, each with its ``asset`` and ``extra``."""
        with create_session() as session:
            events = select(AssetEvent).options(joinedload(AssetEvent.asset)).order_by(AssetEvent.id)
            rows = session.scalars(events.filter_by(source_dag_id=self.dag_id, source_run_id=self.run_id)).all()
            session.expunge_all()
            return list(rows)

    def everything_stored(self) -> str:
        """Return all that the database holds about this DAG and run, as text."""
        with create_session() as session:
            serialized = session.scalars(select(SerializedDagModel).filter_by(dag_id=self.dag_id)).all()
            rendered = session.scalars(self._rows(RenderedTaskInstanceFields)).all()
            parts = [json.dumps(one.data) for one in serialized] + [json.dumps(one.rendered_fields) for one in rendered]
            parts += [json.dumps(row.value) for row in session.scalars(self._rows(XComModel))]
        return "\n".join(parts)

    def _rows(self, model: Any) -> Any:
        return select(model).filter_by(dag_id=self.dag_id, run_id=self.run_id)


def all_files(folder: Path) -> bytes:
    """Return what all files of Airflow's home hold, its database among them.

    Another process reads them: where one that uses a SQLite database opens and closes its file otherwise, it loses its
    locks, and others do not see what it writes.

    :param folder: the home
    """
    command = ["find", str(folder), "-type", "f", "-exec", "cat", "{}", "+"]
    return subprocess.run(command, capture_output=True, check=True, timeout=HANG).stdout


def run_dag(dag: DAG, log: Any, **options: Any) -> Run:
    """Run a DAG once.

    :param dag: made in memory, or parsed
    :param log: returns what was logged since it was called last
    :param options: of ``dag.test()``
    """
    bundle = "dags-folder"
    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
        session.commit()
        # As the DAG processor does; dag.test() itself would look for the DAG among the files of the DAGs folder.
        SerializedDAG.bulk_write_to_db(bundle, None, [dag], session=session)
        SerializedDagModel.write_dag(LazyDeserializedDAG.from_dag(dag), bundle_name=bundle, session=session)
    log()
    dag_run = dag.test(**options)
    return Run(dag.dag_id, dag_run.run_id, str(dag_run.state), log())
