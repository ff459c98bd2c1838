"""Submit, wait, use the result: an image and a prompt become an MP4 file, in three steps."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_kirin.operators.kirin import KirinDownloadOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")


@dag(schedule=None, start_date=datetime(2026, 1, 1), tags=["kirin", "example"], doc_md=__doc__)
def kirin_image_to_video() -> None:
    # Each step has retries=2 by default: a retry finds what is already paid for and never pays again.
    submit = KirinSubmitOperator(
        task_id="submit",
        payload={
            "image": str(IMAGES / "teapot.jpg"),
            "prompt": "The camera glides slowly towards the teapot while steam rises from its spout.",
            "mode": "std",
            "duration": "5",
        },
    )
    # Deferred: no worker is held while Kirin generates.
    wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, timeout=1800)
    download = KirinDownloadOperator(task_id="download", kirin_task_id=submit.output, destination=OUTPUT)

    @task
    def report(video: dict[str, Any], files: list[str]) -> str:
        text = f"{files[0]} cost {video['usage']['cost']} USD"
        print(text)
        return text

    wait >> download
    report(wait.output, download.output)


kirin_image_to_video()
