"""The page of a generation."""

from __future__ import annotations

from decimal import Decimal

from airflow_provider_kirin.api.task import KirinTask, KirinTaskError, KirinUsage, KirinVideo
from airflow_provider_kirin.plugins.page import HEADERS, render, render_message

EVIL = '"><script>alert(1)</script>'
VIDEO = KirinVideo("https://cdn.example/v.mp4?Expires=1&Signature=x", duration=5.0, job_id="838307")


def test_page_shows_ids_cost_and_video() -> None:
    page = render(KirinTask("dc26", "completed", "kirin_v1_6_i2v", videos=[VIDEO], usage=KirinUsage(Decimal("0.28"))))
    for shown in ("dc26", "838307", "0.28 USD", "kirin_v1_6_i2v", "completed"):
        assert f"<dd>{shown}</dd>" in page
    assert 'src="https://cdn.example/v.mp4?Expires=1&amp;Signature=x"' in page
    assert "refresh" not in page


def test_page_refreshes_until_the_generation_is_finished() -> None:
    page = render(KirinTask("dc26", "in_progress", progress=0.425))
    assert "<dd>42%</dd>" in page and 'http-equiv="refresh"' in page and "<video" not in page and "Cost" not in page


def test_page_shows_the_error_of_a_failed_generation() -> None:
    page = render(KirinTask("dc26", "failed", error=KirinTaskError("8002005098", "too many dragons")))
    assert "<dd>8002005098 too many dragons</dd>" in page and "Cost" not in page


def test_gateway_strings_are_escaped() -> None:
    videos = [KirinVideo(f"https://cdn.example/{EVIL}", job_id=EVIL), KirinVideo("javascript:alert(1)")]
    done = KirinTask(EVIL, "completed", EVIL, videos=videos, external_task_id=EVIL)
    failed = KirinTask(EVIL, "failed", error=KirinTaskError(EVIL, EVIL))
    for page in (render(done), render(failed), render_message(EVIL, EVIL)):
        assert "<script" not in page and "javascript:" not in page


def test_page_is_not_cached_and_runs_no_script() -> None:
    assert HEADERS["Cache-Control"] == "no-store"
    assert HEADERS["Content-Security-Policy"].startswith("default-src 'none'")
