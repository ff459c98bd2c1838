"""TaskFlow: a function returns each payload, its task returns the video, and new videos start another DAG."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import Asset, dag, task

IMAGES = Path(__file__).parent / "images"
OUTPUT = os.environ.get("KIRIN_EXAMPLE_OUTPUT", "/tmp/kirin")
#: Every new video is an event of this asset.
VIDEOS = Asset("kirin_videos")


@dag(schedule=None, start_date=datetime(2026, 1, 1), tags=["kirin", "example"], doc_md=__doc__)
def kirin_taskflow() -> None:
    @task
    def products() -> list[dict[str, str]]:
        """Stand in for a query."""
        return [{"name": "teapot", "picture": "teapot.jpg"}, {"name": "mug", "picture": "mug.jpg"}]

    # retries=2 is the default here too: a later try adopts what the first one has paid for.
    @task.kirin(destination=OUTPUT, outlets=[VIDEOS], max_active_tis_per_dagrun=2)
    def video(product: dict[str, str]) -> dict[str, Any]:
        """Run on a worker before anything is paid: read images, ask a language model, or skip the product."""
        return {
            "image": (IMAGES / product["picture"]).read_bytes(),
            "prompt": f"The camera circles the {product['name']}.",
        }

    @task
    def report(videos: list[dict[str, Any]]) -> list[str]:
        return [f"{video['files'][0]} cost {video['usage']['cost']} USD" for video in videos]

    report(video.expand(product=products()))


@dag(schedule=[VIDEOS], start_date=datetime(2026, 1, 1), catchup=False, tags=["kirin", "example"], doc_md=__doc__)
def kirin_on_new_videos() -> None:
    @task
    def report_new_videos(triggering_asset_events: Any = None) -> list[str]:
        """Run after the DAG above, whenever there are new videos."""
        events = triggering_asset_events[VIDEOS] if triggering_asset_events else []
        lines = [f"{event.extra['uri']} cost {event.extra['cost']} USD" for event in events]
        print("\n".join(lines))
        return lines

    report_new_videos()


kirin_taskflow()
kirin_on_new_videos()
