"""A video for each row of a table: one mapped operator, a limit on how many run at once, and a summary."""

from __future__ import annotations

import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")


@dag(schedule=None, start_date=datetime(2026, 1, 1), tags=["kirin", "example"], doc_md=__doc__)
def kirin_product_table() -> None:
    @task
    def products() -> list[dict[str, Any]]:
        """Stand in for a query: one payload per product."""
        table = [
            ("teapot.jpg", "The camera circles the teapot."),
            ("mug.jpg", "Steam rises from the mug."),
            ("sneaker.png", "The sneaker turns slowly on its heel."),
        ]
        return [{"image": str(IMAGES / image), "prompt": prompt} for image, prompt in table]

    # Each row has retries=2 by default; a retry finds what an earlier try of its row has paid for.
    videos = KirinGenerateVideoOperator.partial(
        task_id="generate",
        destination=OUTPUT,
        # One folder per run, one file per row. The values are made safe for paths.
        filename_template="{dag_id}/{run_id}/{map_index:03d}.mp4",
        # Suppliers send WebP, banners and thumbnails: these are converted. Images that fit are sent unchanged.
        fit_images="auto",
        # A row that finds the account full waits for a place, without a worker: no limit is needed for that. This one
        # leaves places to other DAGs.
        max_active_tis_per_dagrun=2,
        # Cells are plain data here; expand_kwargs() would render templates in them.
    ).expand(payload=products())

    @task
    def summary(results: list[dict[str, Any]]) -> str:
        costs = [Decimal(result["usage"]["cost"]) for result in results]
        text = f"{len(costs)} videos for {sum(costs)} USD"
        print(text)
        return text

    summary(videos.output)


kirin_product_table()
