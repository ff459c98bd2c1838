"""The Kirin gallery with 10,000 generations: server time of its pages, and the data for tests and screenshots.

``python -m benchmarks.gallery`` measures on a SQLite database of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

CODES = {"8002005098": "content policy: the image was refused", "1303": "parallel tasks over the limit", "5000": ""}
PROMPTS = (
    "Steam rises slowly from the cup while the camera glides around it, morning light from the left",
    "The sneaker turns once on a concrete pedestal, hard shadow, dust in the light",
    "A teapot pours by itself; the camera follows the stream down into the glass",
    "Slow push-in on the label, shallow depth of field, soft studio light",
)


@dataclass
class Sample:
    """One generation, or one batch, as its task instances recorded it."""

    kirin_task_id: str
    dag_id: str
    run_id: str
    at: datetime
    task_id: str = "generate"
    map_index: int = -1
    state: str = "success"
    submission: dict[str, Any] = field(default_factory=dict)
    order: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    files: list[str] = field(default_factory=list)
    batch: dict[str, Any] | None = None

    def xcoms(self) -> Iterator[tuple[str, Any]]:
        """Yield the keys and values that operators push."""
        if self.batch is not None:
            yield "kirin_batch", self.batch
            return
        ids = {"kirin_task_id": self.kirin_task_id}
        external = f"airflow-{self.kirin_task_id}"
        submission = {
            "external_task_id": external,
            "kirin_conn_id": "kirin_default",
            "price_key": "kirin_v1_6_i2v/std/5",
        }
        yield "kirin_submission", ids | submission | self.submission
        yield "kirin_order", ids | {"model": "kirin_v1_6_i2v", "images": {}, "settings": {}} | self.order
        if self.usage is not None:
            yield "kirin_usage", [ids | {"model": "kirin_v1_6_i2v", "status": "completed", "cost": "0.28"} | self.usage]
        if self.files:
            yield "kirin_files", ids | {"files": self.files}


def samples(count: int, *, dags: int = 5, a_run: int = 20, seed: int = 1) -> Iterator[Sample]:
    """Yield generations of mapped tasks over the last 30 days, one in twenty failed, the oldest first."""
    rng, now = random.Random(seed), datetime.now(UTC)
    for index in range(count):
        run, map_index = divmod(index, a_run)
        at = now - timedelta(days=29.9 * (1 - index / count))
        failed = rng.random() < 0.05
        code = rng.choice(list(CODES))
        end = at + timedelta(seconds=rng.uniform(40, 200))
        usage: dict[str, Any] = {"at": end.isoformat(), "created_at": int(at.timestamp() * 1000)}
        if failed:
            usage |= {"status": "failed", "cost": "0", "error": {"code": code, "message": CODES[code]}}
        yield Sample(
            kirin_task_id=f"d4k{index:017d}",
            dag_id=f"product_videos_{run % dags}",
            run_id=f"scheduled__{run:06d}",
            at=at,
            map_index=map_index,
            state="failed" if failed else "success",
            order={"prompt": f"{rng.choice(PROMPTS)}, no. {index}", "settings": {"mode": "std", "duration": 5}},
            usage=usage,
            files=[] if failed else [f"s3://videos/{index}.mp4"],
        )


def store(stored: Iterable[Sample]) -> None:
    """Write generations to the database of the Airflow at hand, with the DAGs, runs and task instances they need."""
    from airflow.models.dag import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import func, insert, select

    rows = list(stored)
    runs = {(row.dag_id, row.run_id): row for row in rows}
    with create_session(scoped=False) as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        for dag_id in {row.dag_id for row in rows}:
            # Without its file, Airflow's own list of DAGs is an HTTP 500.
            dag = DagModel(dag_id=dag_id, bundle_name="dags-folder", max_active_tasks=16, is_stale=False)
            dag.fileloc, dag.relative_fileloc = f"/dags/{dag_id}.py", f"{dag_id}.py"
            session.merge(dag)
        session.flush()
        first = (session.scalar(select(func.max(DagRun.id))) or 0) + 1
        ids = {key: first + number for number, key in enumerate(runs)}
        session.execute(
            insert(DagRun),
            [
                {"id": ids[key], "dag_id": key[0], "run_id": key[1], "run_type": "manual", "state": "success"}
                | {"run_after": row.at, "start_date": row.at, "queued_at": row.at}
                for key, row in runs.items()
            ],
        )
        places = [
            {"dag_id": row.dag_id, "run_id": row.run_id, "task_id": row.task_id, "map_index": row.map_index}
            for row in rows
        ]
        session.execute(
            insert(TaskInstance),
            [
                {"pool": "default_pool", "state": row.state, "try_number": 1, **place}
                for row, place in zip(rows, places, strict=True)
            ],
        )
        session.execute(
            insert(XComModel),
            [
                {"dag_run_id": ids[row.dag_id, row.run_id], "key": key, "value": value, "timestamp": row.at, **place}
                for row, place in zip(rows, places, strict=True)
                for key, value in row.xcoms()
            ],
        )


def own_airflow(home: Path) -> None:
    """Point Airflow to an empty home, and migrate it. Call it before Airflow is imported."""
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret that is long enough for the signature of a token",
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    subprocess.run(migrate, check=True, stdout=subprocess.DEVNULL, timeout=600)


def measure(client: Any, path: str, times: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the milliseconds of requests, and those of the processor; the first request apart."""
    taken, used = [], []
    for _ in range(times + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = client.get(path)
        taken.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - began_cpu) * 1000)
        assert answer.status_code == 200, answer.text
    return taken, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--a-run", type=int, default=20, help="generations of a DAG run")
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kirin-gallery-") as home:
        own_airflow(Path(home))
        store(samples(options.generations, a_run=options.a_run))
        from airflow.api_fastapi.app import create_app
        from fastapi.testclient import TestClient

        with TestClient(create_app(apps="core"), base_url="http://127.0.0.1") as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            middle = client.get("/kirin/api/generations").json()["next"].split(".")
            half_way = f"{int(middle[0]) // 2}.{middle[1]}.{middle[2]}"
            paths = {
                "first page": "/kirin/api/generations",
                "half way": f"/kirin/api/generations?after={half_way}",
                "one DAG": "/kirin/api/generations?dag=product_videos_3",
                "one day": f"/kirin/api/generations?day={(datetime.now(UTC) - timedelta(days=15)).date()}",
                "failed": "/kirin/api/generations?state=failed",
                "in progress": "/kirin/api/generations?state=in_progress",
                "a few prompts": "/kirin/api/generations?text=no.+42",
                "a word of no prompt": "/kirin/api/generations?text=zeppelin",
                "sums": "/kirin/api/summary",
            }
            print(f"{options.generations:,} generations, {options.a_run} a run")
            print("milliseconds: median, p95 (first); of the processor: median (first)")
            for name, path in paths.items():
                (first, *others), (first_cpu, *cpu) = measure(client, path, options.times)
                late = quantiles(others, n=20)[-1]
                print(
                    f"{name:>20}  {median(others):7.1f} {late:7.1f} ({first:.1f}); {median(cpu):7.1f} ({first_cpu:.1f})"
                )


if __name__ == "__main__":
    main()
