"""Where the button under a task instance leads to."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kirin.links.kirin import video_link

SIGNED = "https://cdn.example/v.mp4?Expires=1&Signature=secret"
LASTING = "https://cdn.example/v.mp4"


def result(url: str = SIGNED, files: list[str] | None = None, **video: Any) -> dict[str, Any]:
    videos = [{"url": url, "type": "video", "duration": 5.0, "job_id": "838 307", **video}]
    return {"id": "dc26", "status": "completed", "videos": videos, **({} if files is None else {"files": files})}


@pytest.mark.parametrize(
    ("given", "link"),
    [
        (result(LASTING), f"{LASTING}#kirin_task=dc26&job=838%20307"),
        (result(LASTING, job_id=None), f"{LASTING}#kirin_task=dc26"),
        (result(LASTING, files=["file:///data/v.mp4"]), f"{LASTING}#kirin_task=dc26&job=838%20307"),
        (
            result(files=["s3://bucket/a b/v.mp4"]),
            "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=a%20b/v.mp4#kirin_task=dc26&job=838%20307",
        ),
        (
            result(LASTING, files=["gs://bucket/v.mp4"]),
            "https://console.cloud.google.com/storage/browser/_details/bucket/v.mp4#kirin_task=dc26&job=838%20307",
        ),
        (["s3://conn@bucket/v.mp4"], "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=v.mp4"),
    ],
)
def test_leads_to_the_video_and_names_generation_and_job(given: Any, link: str) -> None:
    assert video_link(given) == link


@pytest.mark.parametrize(
    "given",
    [
        result(SIGNED),
        result(SIGNED, files=["file:///data/v.mp4"]),
        result("ftp://cdn.example/v.mp4"),
        result("javascript:alert(1)"),
        {**result(), "videos": None},
        ["file:///data/v.mp4"],
        [],
        {},
        None,
        "dc26",
    ],
)
def test_there_is_none_to_what_no_browser_opens_and_to_what_is_signed(given: Any) -> None:
    assert video_link(given) == ""
