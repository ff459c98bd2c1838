"""Two deployments that share an account, DAG ids and run ids: each has its own videos, if it has its own namespace."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import KirinSubmitOperator

pytestmark = pytest.mark.usefixtures("kirin_fast_retries")


def context() -> Any:
    """That of the same task instance in another deployment: nothing of it is on record here."""
    ids = {"dag_id": "d", "run_id": "scheduled__2026-11-28T00:00:00+00:00", "task_id": "t", "map_index": -1}
    ti = SimpleNamespace(**ids, try_number=1, max_tries=2, start_date=None, xcom_push=lambda *_: None)
    ti.xcom_pull = lambda **_: []
    return {"ti": ti, "outlet_events": {}, "dag": SimpleNamespace(tasks=[])}


def step(payload: dict[str, Any], _: Path) -> None:
    KirinSubmitOperator(task_id="t", payload=payload).execute(context())


def batch(payload: dict[str, Any], folder: Path) -> None:
    with pytest.raises(TaskDeferred):
        KirinBatchOperator(task_id="t", payloads=[payload], destination=str(folder)).execute(context())


@pytest.mark.parametrize("run", [step, batch])
def test_staging_pays_for_its_own_video(connect, emulator, image_file, tmp_path, run):
    payload = {"image": image_file, "prompt": "[[seconds:600]]"}
    for deployment, namespace in enumerate(["", "staging", "staging", ""]):
        connect(emulator.url, namespace=namespace)
        run(payload, tmp_path / str(deployment))
    assert emulator.submitted == 2
