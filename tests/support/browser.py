"""Headless Chromium, and an API server of Airflow alone: what tests of the pages and the screenshots need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from sys import executable
from typing import Any

import requests

from tests.support.waiting import HANG, until

#: Debian's name, and others'.
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


def find_chromium() -> str | None:
    """Return the path of Chromium; None if this machine has none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Run Chromium while the block runs: Playwright's browser object."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Any, *, theme: str = "light", width: int = 1280, height: int = 860, scale: float = 1.0) -> Any:
    """Return a page of a browser that was never used, in which Airflow has a theme."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=theme, locale="en-US"
    )
    context.set_default_timeout(HANG * 1000)
    # Only if nothing was chosen yet: a test may use Airflow's switch.
    context.add_init_script(f"localStorage.getItem('theme') ?? localStorage.setItem('theme', '{theme}')")
    return context.new_page()


def play(page: Any) -> None:
    """Play the video, and wait until its time advances."""
    page.wait_for_selector("video")
    # Not wait_for_function(), which a content security policy forbids.
    page.evaluate("""() => new Promise((resolve, reject) => {
        const video = document.querySelector('video');
        video.ontimeupdate = () => video.currentTime > 0.2 && resolve();
        video.muted = true;
        video.play().catch(reject);
    })""")


@contextmanager
def api_server(url: str, log: Path, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Run Airflow's API server alone while the block runs.

    :param url: where, as in ``http://127.0.0.1:8080``
    :param log: its output goes there
    """
    command = [executable, "-m", "uvicorn", "airflow.api_fastapi.main:app", "--host", "127.0.0.1"]
    command += ["--port", url.rpartition(":")[2]]
    with (
        log.open("wb") as output,
        Popen(command, env=dict(env), stdin=DEVNULL, stdout=output, stderr=STDOUT) as process,
    ):

        def answers() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            try:
                return requests.get(f"{url}/api/v2/version", timeout=HANG).ok
            except requests.ConnectionError:
                return False

        try:
            until(answers, "the API server answers", pause=0.2)
            yield url
        finally:
            process.terminate()
            process.wait(HANG)
