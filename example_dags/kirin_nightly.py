"""A schedule: every night the product of the day gets a video, named after the DAG run."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.providers.common.compat.sdk import dag

from airflow_provider_kirin.operators.kirin import KirinDownloadOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Paused even if Airflow starts new DAGs unpaused and loads providers' examples: each night costs a video.
    is_paused_upon_creation=True,
    tags=["kirin", "example"],
    doc_md=__doc__,
    # Each Kirin task has two retries by default, 30 seconds apart. At night there is time for a longer delay.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
)
def kirin_nightly() -> None:
    submit = KirinSubmitOperator(
        task_id="submit",
        payload={
            "image": str(IMAGES / "sneaker.png"),
            "prompt": "The sneaker of the day lands in a cloud of dust.",
            "negative_prompt": "text, watermark",
            "cfg_scale": 0.7,
        },
    )
    wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, timeout=timedelta(hours=1))
    download = KirinDownloadOperator(
        task_id="download",
        kirin_task_id=submit.output,
        destination=OUTPUT + "/{{ dag_run.run_id }}.mp4",
    )
    wait >> download


kirin_nightly()
