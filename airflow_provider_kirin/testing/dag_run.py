"""Run a DAG in the process of a test, with Airflow's own ``dag.test()``."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.configuration import AIRFLOW_HOME
from airflow.models.taskinstance import TaskInstance
from airflow.utils import db
from airflow.utils.session import create_session
from sqlalchemy import inspect, select

from airflow_provider_kirin.api.pauses import limited_pauses
from airflow_provider_kirin.compat import dagbag_module

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.providers.common.compat.sdk import DAG

#: Seconds. As in ``fast_retries()``.
_MAX_PAUSE = 0.05


@dataclass(frozen=True)
class DagTestRun:
    """A DAG run that has ended.

    :param dag_run: Airflow's own record of it
    """

    dag_run: DagRun

    @property
    def state(self) -> str:
        """``success`` or ``failed``."""
        return str(getattr(self.dag_run.state, "value", self.dag_run.state))

    @property
    def states(self) -> dict[str, str]:
        """The state of each task; those of a mapped task are ``task[0]``, ``task[1]``..."""
        return {
            ti.task_id + (f"[{ti.map_index}]" if ti.map_index >= 0 else ""): str(getattr(ti.state, "value", ti.state))
            for ti in self._task_instances()
        }

    def xcom(self, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task returned, or another of its XComs; None if there is none.

        :param task_id: the task
        :param key: the XCom's key
        :param map_index: which instance of a mapped task
        """
        found = [ti for ti in self._task_instances() if (ti.task_id, ti.map_index) == (task_id, map_index)]
        if not found:
            raise KeyError(f"This run has no task instance {task_id!r} with map index {map_index}.")
        return found[0].xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)

    def _task_instances(self) -> list[Any]:
        rows = select(TaskInstance).filter_by(dag_id=self.dag_run.dag_id, run_id=self.dag_run.run_id)
        with create_session() as session:
            found = list(session.scalars(rows.order_by(TaskInstance.task_id, TaskInstance.map_index)))
            session.expunge_all()
        return found


def run_dag(dag: DAG, *, fast_retries: bool = True, **options: Any) -> DagTestRun:
    """Run a DAG once, in this process, and wait until it has ended.

    Deferred tasks continue in this process as well. Failed tasks are retried as the DAG asks for.

    :param dag: the DAG
    :param fast_retries: shorten this package's waits, and set the ``retry_delay`` of all tasks to 0 for this run
    :param options: of ``dag.test()``: ``run_conf``, ``logical_date`` (``execution_date`` on Airflow 2)
    """
    _check_database()
    _store(dag)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_kept_params(dag))
        if fast_retries:
            stack.enter_context(limited_pauses(_MAX_PAUSE))
            stack.enter_context(_no_retry_delays(dag))
        return DagTestRun(dag.test(**options))


@contextlib.contextmanager
def _kept_params(dag: Any) -> Iterator[None]:
    """Restore the params afterwards: Airflow writes a run's conf into those of the tasks, whose process ends then."""
    params = [owner.params.get_param(name) for owner in (dag, *dag.tasks) for name in owner.params]
    before = [(param, param.value) for param in params]
    try:
        yield
    finally:
        for param, value in before:
            param.value = value


@contextlib.contextmanager
def _no_retry_delays(dag: Any) -> Iterator[None]:
    before = [(task, task.retry_delay) for task in dag.tasks]
    for task, _ in before:
        task.retry_delay = timedelta(0)
    try:
        yield
    finally:
        for task, delay in before:
            task.retry_delay = delay


@functools.cache
def _check_database() -> None:
    """Migrate an empty SQLite database; raise an error about any other that is not migrated."""
    with _locked(AIRFLOW_HOME):
        with create_session() as session:
            bind = session.get_bind()
            is_new = bind.dialect.name == "sqlite" and not inspect(bind).get_table_names()
        if is_new:
            _migrate()
    try:
        db.check_migrations(0)
    except TimeoutError as error:
        raise RuntimeError(
            f"The database of this Airflow {airflow_version} is not migrated. Run `airflow db migrate`, or set "
            f"AIRFLOW_HOME to an empty folder before Airflow is imported. {error}"
        ) from None


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Let one process after the other in: workers of pytest-xdist may share a database."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _migrate() -> None:
    # In a process of its own: migrations set up logging, and would take it from the tests.
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`airflow db migrate` failed:\n{done.stdout[-2000:]}")


def _store(dag: Any) -> None:
    """Store a DAG as the DAG processor does: on Airflow 3, ``dag.test()`` knows only those of a DAG bundle."""
    if airflow_version.startswith("2."):
        dag.sync_to_db()
        return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    manager = DagBundlesManager()
    manager.sync_bundles_to_db()
    bundles = [bundle.name for bundle in manager.get_all_dag_bundles()]
    bundle = "dags-folder" if "dags-folder" in bundles else bundles[0]
    dagbag = dagbag_module()
    bag = dagbag.DagBag(os.devnull, collect_dags=False)
    bag.bag_dag(dag)
    if hasattr(dagbag, "sync_bag_to_db"):
        dagbag.sync_bag_to_db(bag, bundle, None)
    else:  # Airflow 3.0
        dag.relative_fileloc = dag.relative_fileloc or Path(dag.fileloc).name
        bag.sync_to_db(bundle, None)
