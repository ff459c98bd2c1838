"""A real Airflow: scheduler, DAG processor, API server and two triggerers, on PostgreSQL.

Its workers are the LocalExecutor's, in the scheduler, or two of Celery's, with Redis between.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from tests.support.system.broker import Redis
from tests.support.system.postgres import Postgres
from tests.support.system.processes import HOST, MARK, Part, free_port, is_ours, kill_all, leftovers
from tests.support.waiting import HANG, until

ROOT = Path(__file__).resolve().parents[3]
TRIGGERERS = ("triggerer-1", "triggerer-2")
CELERY_WORKERS = ("worker-1", "worker-2")
#: Seconds without a heartbeat after which Airflow gives up a task, a triggerer, a scheduler. Its own defaults are
#: 300, 30 and 30; what happens then is the same.
LOST_TASK, LOST_TRIGGERER, LOST_SCHEDULER = 15, 8, 10
#: Seconds after which Redis hands out a message again whose task has not ended. Airflow's own default is a day.
REDELIVERED = 10

_SETTINGS = {
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    # Each part has a name of its own, so that the job that holds a trigger leads to its process.
    "CORE__HOSTNAME_CALLABLE": "tests.support.system.part_name.part_name",
    "CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "300",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "LOGGING__COLORED_CONSOLE_LOG": "False",
    "USAGE_DATA_COLLECTION__ENABLED": "False",
}
#: For tests that kill: notices what is lost in seconds, and runs many scenarios at a time.
IMPATIENT = {
    "CORE__PARALLELISM": "24",
    "SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": str(LOST_SCHEDULER),
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(LOST_TASK),
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "5",
    "TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(LOST_TRIGGERER),
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}
_THEIRS = (
    *("AIRFLOW_", "_AIRFLOW_", "KIRIN_", "COVERAGE_", "COV_CORE_", "PYTEST_"),
    # With it each task's process would compile this package again. Where it is installed, it is compiled.
    "PYTHONDONTWRITEBYTECODE",
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def clean_environment() -> dict[str, str]:
    """Return the environment without the user's own Airflow, proxies, and what would slow Airflow down."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_THEIRS) and name.lower() not in _PROXIES
    }


def _celery(redis: Redis) -> dict[str, str]:
    return {
        "CORE__EXECUTOR": "CeleryExecutor",
        "CELERY__BROKER_URL": redis.url,
        "CELERY__WORKER_CONCURRENCY": "12",
        "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(REDELIVERED),
        # By itself a worker looks only every 100 s for what is to be handed out again.
        "CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_INTERVAL": "2",
        "CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
    }


class Deployment:
    """An Airflow that shares nothing with any other one on this machine.

    :param home: an empty folder
    :param settings: what differs from Airflow's own defaults, as in ``{"CORE__PARALLELISM": "4"}``
    :param triggerers: their names
    :param workers: the names of Celery's; none means the LocalExecutor
    """

    def __init__(
        self,
        home: Path,
        *,
        settings: Mapping[str, str] = IMPATIENT,
        triggerers: Sequence[str] = TRIGGERERS,
        workers: Sequence[str] = (),
    ) -> None:
        self.home = home
        self._triggerers = triggerers
        self.workers = workers
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        self.url = f"http://{HOST}:{free_port()}"
        self.postgres = Postgres()
        self._redis = Redis() if workers else None
        settings = _SETTINGS | dict(settings) | (_celery(self._redis) if self._redis else {})
        self._http = requests.Session()
        self._http.trust_env = False
        self._env = clean_environment() | {
            MARK: str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            # Process titles leave /proc/PID/environ alone, by which the harness knows its own.
            "SPT_NOENV": "1",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.postgres.url,
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }
        self.parts: dict[str, Part] = {}

    def start(self) -> None:
        """Start everything, and wait until Airflow says that it is healthy."""
        airflow = [sys.executable, "-m", "airflow"]
        migrated = subprocess.run(
            [*airflow, "db", "migrate"], env=self._env, capture_output=True, text=True, timeout=HANG, check=False
        )
        assert migrated.returncode == 0, (migrated.stdout + migrated.stderr)[-3000:]
        port = self.url.rpartition(":")[2]
        commands = {
            "api-server": ["api-server", "--host", HOST, "--port", port],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            # Without their log servers two of them can live on one host.
            **{name: ["triggerer", "--skip-serve-logs"] for name in self._triggerers},
            **{name: ["celery", "worker", "--skip-serve-logs", "-H", name] for name in self.workers},
        }
        for name, command in commands.items():
            env = self._env | {"KIRIN_FAULTS_PART": name}
            self.parts[name] = Part(name, [*airflow, *command], env, self.home)
            self.parts[name].start()
        until(self.is_healthy, "Airflow is healthy", pause=0.5)

    def stop(self) -> None:
        """End everything that was started, and everything that those started."""
        for part in self.parts.values():
            part.kill()
        kill_all(leftovers(self.home))
        self.postgres.stop()
        if self._redis:
            self._redis.stop()

    def is_healthy(self) -> bool:
        """Return whether each part says so, and both triggerers do."""
        for part in self.parts.values():
            part.check()
        try:
            health = self.call("GET", "/monitor/health")
        except requests.ConnectionError:
            return False
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(one) or {}).get("status") == "healthy" for one in wanted) and len(
            self.live_triggerers()
        ) == len(self._triggerers)

    def live_triggerers(self) -> set[str]:
        """Return the names of the triggerers whose heart beats."""
        jobs = self.call("GET", "/jobs", params={"job_type": "TriggererJob", "is_alive": "true"})["jobs"]
        return {job["hostname"] for job in jobs}

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request to Airflow's REST API, its response decoded."""
        response = self._http.request(method, f"{self.url}/api/v2{path}", timeout=HANG, **options)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        return response.json() if response.content else None

    # What scenarios need -----------------------------------------------------------------------------------------

    def wait_for_dags(self, dag_ids: Iterable[str]) -> None:
        """Wait until these DAGs can run."""
        wanted = set(dag_ids)

        def all_there() -> bool:
            errors = self.call("GET", "/importErrors")["import_errors"]
            assert not errors, errors
            known = self.call("GET", "/dags", params={"limit": 500})["dags"]
            return wanted <= {dag["dag_id"] for dag in known if not dag["is_paused"]}

        until(all_there, f"the DAGs are parsed: {sorted(wanted)}", pause=0.5)

    def connect(self, conn_id: str, host: str, password: str, extra: str) -> None:
        """Define a connection of type kirin."""
        body = {"connection_id": conn_id, "conn_type": "kirin", "host": host, "password": password, "extra": extra}
        self.call("POST", "/connections", json=body)

    def start_run(self, dag_id: str, run_id: str, conf: dict[str, Any], *, is_dated: bool = False) -> None:
        """Start a run: as the UI does, without a logical date, or with one."""
        date = datetime.now(UTC).isoformat() if is_dated else None
        self.call("POST", f"/dags/{dag_id}/dagRuns", json={"dag_run_id": run_id, "logical_date": date, "conf": conf})

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state."""
        return str(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tis(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def ti(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return one task instance."""
        return next(
            ti for ti in self.tis(dag_id, run_id) if ti["task_id"] == task_id and ti["map_index"] in (map_index, -1)
        )

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return an XCom."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, params={"map_index": map_index, "deserialize": "true"})["value"]

    def clear(self, dag_id: str, run_id: str, task_ids: list[str] | None = None) -> None:
        """Clear tasks of a run, as the UI does: whatever their state."""
        body = {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True}
        chosen = {} if task_ids is None else {"task_ids": task_ids}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body | chosen)

    def task_log(self, dag_id: str, run_id: str) -> str:
        """Return the logs of all tries of all tasks of a run."""
        folder = self.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.log*")))

    def task_pid(self, ti: dict[str, Any]) -> int:
        """Return the process that runs a task instance."""
        pid = int(ti["pid"])
        assert is_ours(pid, self.home), f"process {pid} of {ti['dag_id']} is gone"
        return pid
