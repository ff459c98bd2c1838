"""DAGs that are scheduled on new videos: a real scheduler starts them, with what they need to know of each video."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.emulator import KEY, picture
from tests.support.system.deployment import ROOT, Deployment
from tests.support.system.gateway import Gateway
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]
PROMPT = "The cup turns. [[seconds:1]]"
PAGE = ROOT / "docs" / "how-to" / "react.md"

DAGS = """
    from datetime import datetime
    from airflow.sdk import DAG, Asset, AssetAlias, task
    from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

    VIDEOS, OF_TODAY = Asset("kirin_videos"), AssetAlias("kirin_videos_of_today")
    ALWAYS = {"start_date": datetime(2026, 1, 1), "catchup": False}

    with DAG("producer", schedule=None, **ALWAYS):
        KirinGenerateVideoOperator(
            task_id="generate",
            payload={"image": %(image)r, "prompt": %(prompt)r},
            destination=%(videos)r,
            poll_interval=0.5,
            outlets=[VIDEOS, OF_TODAY],
        )

    with DAG("on_the_asset", schedule=VIDEOS, **ALWAYS):

        @task
        def watch(triggering_asset_events=None):
            return [event.extra for event in triggering_asset_events[VIDEOS]]

        watch()

    with DAG("on_the_alias", schedule=OF_TODAY, **ALWAYS):

        @task
        def watch(triggering_asset_events=None):
            return [event.extra for event in triggering_asset_events[OF_TODAY]]

        watch()
"""


@pytest.fixture
def airflow() -> Iterator[Deployment]:
    """A whole Airflow, with an emulator behind its default connection, the three DAGs, and those of the page."""
    home = Path(tempfile.mkdtemp(prefix="kirin-assets-"))
    (home / "cup.jpg").write_bytes(picture(320, 320))
    gateway = Gateway(home / "gateway")
    deployment = Deployment(home / "airflow")
    given = {"image": str(home / "cup.jpg"), "prompt": PROMPT, "videos": str(home / "videos")}
    (deployment.dags / "videos.py").write_text(textwrap.dedent(DAGS) % given)
    (home / "catalogue").mkdir()
    shutil.copy(home / "cup.jpg", home / "catalogue" / "teapot.jpg")
    shown = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (deployment.dags / "react.py").write_text(shown[0].replace('"/data/', f'"{home}/'))
    try:
        deployment.start()
        deployment.connect("kirin_default", gateway.url, KEY, json.dumps({"callback_base_url": deployment.url}))
        deployment.wait_for_dags(["producer", "on_the_asset", "on_the_alias", "order_video", "fetch_video"])
        yield deployment
    finally:
        deployment.stop()
        gateway.stop()
        shutil.rmtree(home, ignore_errors=True)


def test_a_new_video_starts_the_dags_that_wait_for_it(airflow: Deployment) -> None:
    airflow.start_run("producer", "one", {})
    until(lambda: airflow.run_state("producer", "one") == "success", "the video is there", pause=0.5)
    result = airflow.xcom("producer", "one", "generate")
    (details,) = result["file_details"]
    facts = {name: value for name, value in details.items() if name not in ("uri", "sidecar", "poster")}
    expected = {
        "uri": result["files"][0],
        "kirin_task_id": result["id"],
        "cost": "0.28",
        "prompt_digest": "sha256:" + hashlib.sha256(PROMPT.encode()).hexdigest(),
        **facts,
    }
    of_asset = {"uris": result["files"], "file_details": [{"uri": result["files"][0], **facts}]}
    # An alias has an event for each video.
    extras = {"on_the_asset": expected | of_asset, "on_the_alias": expected}
    for dag_id, extra in extras.items():
        run = until(lambda dag_id=dag_id: _done(airflow, dag_id), f"{dag_id} ran by itself", pause=0.5)
        assert run["run_type"] == "asset_triggered"
        assert airflow.xcom(dag_id, run["dag_run_id"], "watch") == [extra]

    # The page's first DAG is scheduled, and has run by itself.
    fetched = until(partial(_done, airflow, "fetch_video"), "a callback has started fetch_video", pause=0.5)
    files = airflow.xcom("fetch_video", fetched["dag_run_id"], "download", map_index=0)
    assert [Path(file.removeprefix("file://")).stat().st_size > 0 for file in files] == [True]


def _done(airflow: Deployment, dag_id: str) -> dict[str, Any] | None:
    runs = airflow.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]
    return next((run for run in runs if run["state"] == "success"), None)
