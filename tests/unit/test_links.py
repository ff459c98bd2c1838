"""Where the buttons under a task instance lead to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin.links.kirin import KirinGenerationLink, video_link
from airflow_provider_kirin.plugins import generation

SIGNED = "https://cdn.example/v.mp4?Expires=1&Signature=secret"
LASTING = "https://cdn.example/v.mp4"

with_pages = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="the Kirin pages need Airflow 3.1")


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
        (["s3://conn@bucket/#1?.mp4"], "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=%231%3F.mp4"),
    ],
)
def test_link_opens_the_video_and_names_generation_and_job(given: Any, link: str) -> None:
    assert video_link(given) == link


@pytest.mark.parametrize(
    "given",
    [
        result(SIGNED),
        result(SIGNED, files=["file:///data/v.mp4"]),
        result("ftp://cdn.example/v.mp4"),
        result("javascript:alert(1)"),
        result("https://[x"),
        {**result(), "videos": None},
        ["file:///data/v.mp4"],
        [],
        {},
        None,
        "dc26",
    ],
)
def test_no_link_to_signed_urls_and_to_what_browsers_cannot_open(given: Any) -> None:
    assert video_link(given) == ""


class TestGenerationLink:
    TI = SimpleNamespace(dag_id="größe.v1", run_id="manual__2026-11-25T10:00:00+00:00", task_id="make", map_index=2)

    @with_pages
    def test_the_dag_is_in_the_path_where_every_airflow_looks_for_it(self) -> None:
        assert KirinGenerationLink().get_link(None, ti_key=self.TI) == (
            "kirin/generation/gr%C3%B6%C3%9Fe.v1/manual__2026-11-25T10%3A00%3A00%2B00%3A00/make/2"
        )

    @pytest.mark.skipif(AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 has them")
    def test_before_airflow_3_1_there_is_neither_link_nor_page(self) -> None:
        assert KirinGenerationLink().get_link(None, ti_key=self.TI) == ""
        assert generation.KirinGenerationPlugin.fastapi_apps == generation.KirinGenerationPlugin.react_apps == []

    @with_pages
    @pytest.mark.parametrize(
        ("base_url", "script"),
        [
            ("http://localhost:8080", "/kirin/static/kirin.js"),
            ("https://airflow.example/team/a/", "/team/a/kirin/static/kirin.js"),
        ],
    )
    def test_entry_has_an_absolute_path_as_airflow_3_1_imports_it_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch, base_url: str, script: str
    ) -> None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
        (entry,) = generation.KirinGenerationPlugin.react_apps
        assert entry["bundle_url"].partition("?")[0] == script

    @with_pages
    def test_pages_can_be_switched_off_and_callbacks_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__KIRIN__UI", "False")
        assert [app["name"] for app in generation.KirinGenerationPlugin.fastapi_apps] == ["Kirin callbacks"]
        assert generation.KirinGenerationPlugin.react_apps == []
        assert KirinGenerationLink().get_link(None, ti_key=self.TI) == ""
