"""Every night a video for each row of a CSV file, as one task. A second DAG starts when they are all there."""

from __future__ import annotations

import csv
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath, dag, task

from airflow_provider_kirin.operators.batch import KirinBatchOperator

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")
VIDEOS = Asset("kirin-nightly-batch")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Also where Airflow starts new DAGs unpaused and shows its providers' examples: each night costs videos.
    is_paused_upon_creation=True,
    tags=["kirin", "example"],
    doc_md=__doc__,
)
def kirin_nightly_batch() -> None:
    @task(retries=2)
    def export_products() -> str:
        """Stand in for the shop's export: one line a product, an empty cell where the default will do."""
        path = Path(OUTPUT) / "products.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["sku", "image", "prompt", "negative_prompt"])
            table.writerow(["TEAPOT-1", IMAGES / "teapot.jpg", "The camera circles the teapot.", ""])
            table.writerow(["MUG-1", IMAGES / "mug.jpg", "Steam rises from the mug, slowly.", "text"])
            table.writerow(["SNEAKER-1", IMAGES / "sneaker.png", "The sneaker turns on its heel.", ""])
        return str(path)

    KirinBatchOperator(
        task_id="videos",
        # Or the path or URI of a file: "s3://aws_default@catalogue/{{ ds }}/products.csv".
        payloads=export_products(),
        # Names each row in files, in the manifest and in errors.
        key="sku",
        destination=OUTPUT,
        # As many as your account generates at once. The batch finds out if it is fewer.
        max_in_flight=5,
        # The whole run stops before it would cost more.
        max_cost_usd=5,
        # A night may lose a worker more than once, and each try continues where the last one ended.
        retries=5,
        outlets=[VIDEOS],
    )


@dag(schedule=[VIDEOS], start_date=datetime(2026, 1, 1), tags=["kirin", "example"], doc_md=__doc__)
def kirin_publish_batch() -> None:
    @task
    def publish(triggering_asset_events: Any = None) -> list[str]:
        """Read the manifest of the batch that started this run: a line for each row, with its files."""
        events = triggering_asset_events[VIDEOS] if triggering_asset_events else []
        files = []
        for event in events:
            with ObjectStoragePath(event.extra["uri"]).open() as manifest:
                for row in map(json.loads, manifest):
                    print(f"{row['key']}: {row['status']}, {row.get('cost')} USD, {row['files']}")
                    files += row["files"]
        return files

    publish()


kirin_nightly_batch()
kirin_publish_batch()
