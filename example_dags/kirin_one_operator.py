"""The same in one step: submit, wait without a worker, download. The prompt is given when the DAG is triggered."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    tags=["kirin", "example"],
    doc_md=__doc__,
    params={
        "prompt": Param("Coffee is poured into the mug in slow motion.", type="string", minLength=1, maxLength=2500),
        "mode": Param("std", enum=["std", "pro"]),
    },
)
def kirin_one_operator() -> None:
    KirinGenerateVideoOperator(
        task_id="generate",
        payload={
            "image": str(IMAGES / "mug.jpg"),
            "prompt": "{{ params.prompt }}",
            "mode": "{{ params.mode }}",
        },
        destination=OUTPUT + "/{{ dag_run.run_id }}/mug.mp4",
        # The default of Kirin tasks (Airflow's is 0): the next try finds what this one has paid for.
        retries=2,
    )


kirin_one_operator()
