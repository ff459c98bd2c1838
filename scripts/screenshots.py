"""Draw the screenshots of docs/images: ``make screenshots``. An API server, the emulator and headless Chromium.

The generations are made up, their videos are the emulator's, and one of them really runs there.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local_airflow import API_KEY, EXAMPLES, ROOT, emulator

sys.path.insert(0, str(ROOT))

DAGS = ("product_videos", "spring_campaign", "product_videos", "nightly_catalog")
PROMPTS = {
    "mug.jpg": "Steam rises slowly from the mug while the camera glides around it, soft morning light",
    "sneaker.png": "The sneaker turns once on a concrete pedestal, hard shadow, dust in the light",
    "teapot.jpg": "The teapot pours by itself; the camera follows the stream down into the glass",
}
#: Seconds for each thing that is waited for, on a busy machine: then Playwright says which it was.
PATIENCE = 180
#: How long the generation runs that is drawn in progress, light and dark.
RUNS = 900
FAILURE = {"code": "8002005098", "message": "The image was refused by the content policy"}


def ask(gateway: str, path: str, body: Any = None) -> Any:
    """Return the emulator's answer."""
    headers = {"Authorization": f"Bearer {API_KEY}", "X-Model": "kirin_v1_6_i2v", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(gateway + path, data, headers), timeout=60) as answer:
        return json.load(answer)


def submit(gateway: str, image: str, seconds: float) -> str:
    """Start a generation at the emulator, and return its id."""
    params = {
        "image": base64.b64encode((EXAMPLES / "images" / image).read_bytes()).decode(),
        "prompt": f"{PROMPTS[image]} [[seconds:{seconds}]]",
    }
    return str(ask(gateway, "/model/v1/generation", {"model": "kirin_v1_6_i2v", "input": [{"params": params}]})["id"])


def make_batch(started: datetime, manifest: str) -> dict[str, Any]:
    """Return the record of a batch in progress."""
    refused = (
        "image: 240 x 180 pixels; width and height must be 300 or more. Give a larger image, or fit_images='auto'."
    )
    without_video = [
        {"key": "TEAPOT-017", "status": "failed", "code": FAILURE["code"], "error": FAILURE["message"]},
        {"key": "MUG-023", "status": "refused", "code": "KirinPayloadError", "error": refused},
        {"key": "SNEAKER-038", "status": "failed", "code": FAILURE["code"], "error": FAILURE["message"]},
    ]
    return {
        "manifest": manifest,
        "model": "kirin_v1_6_i2v",
        "rows": 120,
        "counts": {"todo": 59, "sent": 10, "saved": 48, "failed": 2, "refused": 1},
        "failed": 3,
        "cost": "13.44",
        "started_at": started.isoformat(),
        "at": (datetime.now(UTC) - timedelta(seconds=40)).isoformat(),
        "seconds_left": 540,
        "reasons": [["failed", FAILURE["code"], 2], ["refused", "KirinPayloadError", 1]],
        "without_video": without_video,
    }


def make_generations(gateway: str, home: Path) -> Iterator[Any]:
    """Yield what the pictures show: a month of made-up ones, then the latest, of which the first one runs."""
    from benchmarks.gallery import Sample, samples

    videos, images = home / "videos", home / "images"
    videos.mkdir()
    shutil.copytree(EXAMPLES / "images", images)
    yield from samples(260, dags=3, a_run=4)
    films = {}
    for image in PROMPTS:
        kirin_task_id = submit(gateway, image, 0)
        link = ask(gateway, f"/model/v1/generation/task/{kirin_task_id}")["output"][0]["content"][0]["url"]
        films[image] = videos / f"{kirin_task_id}.mp4"
        with urllib.request.urlopen(link, timeout=60) as source:
            films[image].write_bytes(source.read())
    started = datetime.now(UTC) - timedelta(minutes=42)
    batch = Sample(
        "batch",
        "nightly_catalog",
        f"scheduled__{started:%Y-%m-%d}T02:00:00+00:00",
        started,
        task_id="videos",
        state="deferred",
        batch=make_batch(started, (videos / "manifest.jsonl").as_uri()),
    )
    running_id = submit(gateway, "teapot.jpg", RUNS)
    now = datetime.now(UTC)
    for index in range(12, -1, -1):
        image = list(PROMPTS)[index % 3] if index else "teapot.jpg"
        at = now - timedelta(minutes=17 * index, seconds=2)
        end = at + timedelta(seconds=83)
        failed = index == 4
        usage: dict[str, Any] = {
            "at": (end + timedelta(seconds=2)).isoformat(),
            "completed_at": int(end.timestamp() * 1000),
        }
        usage |= {"created_at": int((at + timedelta(seconds=0.6)).timestamp() * 1000)}
        if failed:
            usage |= {"status": "failed", "cost": "0", "error": FAILURE}
        if index == 1:
            yield batch
        yield Sample(
            kirin_task_id=f"d4k7q2nfgb{index:010d}" if index else running_id,
            dag_id=DAGS[index % 4],
            run_id=f"manual__{at:%Y-%m-%dT%H:%M:%S}+00:00",
            at=at,
            state="failed" if failed else "success" if index else "deferred",
            submission={"kirin_conn_id": "kirin_default"},
            order={
                "prompt": PROMPTS[image],
                "negative_prompt": "text, watermark, hands",
                "settings": {"mode": "std", "duration": 5},
                "images": {"image": (images / image).as_uri()},
            },
            usage=usage if index else None,
            files=[] if failed or not index else [films[image].as_uri()],
        )


def save(page: Any, path: Path) -> None:
    """Save what a page shows: WebP is a tenth of a PNG."""
    from PIL import Image

    print(path.name, flush=True)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, quality=86, method=6)


def draw(browser: Any, url: str, places: dict[str, str], folder: Path) -> None:
    """Save the pictures."""
    from tests.support.browser import new_page

    for theme in ("light", "dark"):
        page = new_page(browser, theme=theme, scale=2.0)
        page.context.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{url}/plugin/kirin", wait_until="load")
        page.wait_for_selector(".k-tile")
        page.wait_for_timeout(1500)
        save(page, folder / f"ui-gallery-{theme}.webp")
        for name, ti in places.items():
            page.goto(f"{url}/plugin/kirin?ti={quote(ti, safe='')}", wait_until="load")
            page.wait_for_selector(".k-details")
            if name == "video":
                page.wait_for_function("document.querySelector('video')?.readyState >= 2")
                page.evaluate("""() => new Promise((resolve) => {
                    const video = document.querySelector('video');
                    video.onseeked = resolve;
                    video.currentTime = 1.6;
                })""")
            if name == "progress":
                page.wait_for_function("parseInt(document.querySelector('.k-number')?.textContent) >= 1")
            page.wait_for_timeout(600)
            save(page, folder / f"ui-{name}-{theme}.webp")
        page.context.close()


def main() -> None:
    """Start everything, draw, and end everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--port", type=int, default=8931)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kirin-screenshots-") as folder, contextlib.ExitStack() as stack:
        home = Path(folder)
        gateway = stack.enter_context(emulator(home, port=0, seconds=3))
        from benchmarks.gallery import own_airflow, store
        from tests.support.browser import api_server, chromium

        own_airflow(home)
        os.environ |= {
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{options.port}",
            "AIRFLOW__KIRIN__MEDIA_ROOTS": f"{home / 'videos'}, {home / 'images'}",
            "AIRFLOW_CONN_KIRIN_DEFAULT": json.dumps({"conn_type": "kirin", "host": gateway, "password": API_KEY}),
        }
        made = list(make_generations(gateway, home))
        store(made)
        last = {"failed": lambda one: one.state == "failed", "batch": lambda one: one.batch}
        picks = {"video": made[-2], "progress": made[-1]}
        picks |= {name: next(filter(is_it, reversed(made))) for name, is_it in last.items()}
        places = {name: f"{one.dag_id}/{one.run_id}/{one.task_id}/{one.map_index}" for name, one in picks.items()}
        url = stack.enter_context(api_server(os.environ["AIRFLOW__API__BASE_URL"], home / "api-server.log"))
        draw(stack.enter_context(chromium()), url, places, options.into)


if __name__ == "__main__":
    main()
