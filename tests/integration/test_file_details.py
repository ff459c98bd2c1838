"""What is known of a stored video, and what is written beside it: real task runs against the emulator."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import closing
from typing import Any

import av
import pytest
from PIL import Image

from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from tests.support.s3 import keys, stored
from tests.support.video_host import MEGABYTE, VideoHost, video

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

QUICK: dict[str, Any] = {"poll_interval": 0.1}


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round.", "duration": 5}


def decoded(path: Any) -> dict[str, Any]:
    """Return the same facts as a decoder sees them."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "width": stream.width,
            "height": stream.height,
            "frame_rate": float(stream.average_rate),
            "seconds": round(container.duration / av.time_base, 3),
            "has_audio": bool(container.streams.audio),
        }


class TestFileDetails:
    def test_are_what_a_decoder_sees(self, dag, run, payload, tmp_path):
        path = tmp_path / "v.mp4"
        with dag:
            generate = KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(path), multiple_outputs=True, **QUICK
            )
            generate >> KirinDownloadOperator(
                task_id="download", kirin_task_id=generate.output["id"], destination=str(path)
            )
        ended = run(dag)
        (details,) = ended.result("generate")["file_details"]
        assert details == {"uri": path.as_uri(), **decoded(path), "sidecar": None, "poster": None}
        assert ended.xcoms()["generate", -1, "file_details"] == [details]
        # An existing video is not downloaded again, and no less is known of it.
        assert ended.xcoms()["download", -1, "kirin_files"]["file_details"] == [details]
        assert ended.result("download") == [path.as_uri()]

    def test_after_a_cut_are_those_of_the_whole(self, connect, tmp_path):
        hook = KirinHook(connect("http://127.0.0.1:9", timeout=5))
        body = video(2 * MEGABYTE)
        with VideoHost(body, turns=[MEGABYTE]) as host:
            file = hook.save_video(f"{host.url}/v.mp4", tmp_path / "v.mp4")
            assert (file.bytes, file.sha256) == (len(body), hashlib.sha256(body).hexdigest())
            assert len(host.requests) == 2

    def test_of_another_version_after_a_cut_are_those_of_the_file(self, connect, tmp_path):
        hook = KirinHook(connect("http://127.0.0.1:9", timeout=5))
        other = video(MEGABYTE, seed=3)

        def change(host: VideoHost) -> None:
            if len(host.requests) == 2:
                host.body, host.headers = other, {"ETag": '"two"'}

        with VideoHost(video(2 * MEGABYTE), turns=[MEGABYTE], before=change) as host:
            file = hook.save_video(f"{host.url}/v.mp4", tmp_path / "v.mp4")
        assert (file.bytes, file.sha256) == (len(other), hashlib.sha256(other).hexdigest())


class TestFilesBesideTheVideo:
    def test_say_what_was_ordered_and_show_it(self, dag, run, payload, tmp_path):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload, external_task_id="teapot-1")
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            download = KirinDownloadOperator(
                task_id="download",
                kirin_task_id=submit.output,
                destination=str(tmp_path / "teapot.mp4"),
                sidecar=True,
                poster=True,
            )
            submit >> wait >> download
        ended = run(dag)
        (details,) = ended.xcoms()["download", -1, "kirin_files"]["file_details"]
        assert details["sidecar"] == (tmp_path / "teapot.json").as_uri()
        assert details["poster"] == (tmp_path / "teapot.jpg").as_uri()
        known = json.loads((tmp_path / "teapot.json").read_text())
        assert known["external_task_id"] == "teapot-1" and known["cost"] == "0.28"
        assert known["order"]["prompt"] == payload["prompt"] and known["dag_id"] == dag.dag_id
        assert known["file"] == {"name": "teapot.mp4", **decoded(tmp_path / "teapot.mp4")}
        assert known["poster"] == "teapot.jpg"
        with Image.open(tmp_path / "teapot.jpg") as picture:
            assert (picture.format, *picture.size) == ("JPEG", details["width"], details["height"])

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_in_object_storage(self, dag, run, payload, s3, deferrable):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload | {"image": f"data:image/jpeg;base64,{_base64(payload['image'])}"},
                destination="s3://studio@videos/new/teapot.mp4",
                deferrable=deferrable,
                sidecar=True,
                poster=True,
                **QUICK,
            )
        (details,) = run(dag).result("generate")["file_details"]
        assert details["poster"] == "s3://studio@videos/new/teapot.jpg"
        assert keys(s3) == ["new/teapot.jpg", "new/teapot.json", "new/teapot.mp4"]
        text = stored(s3, "new/teapot.json").decode()
        assert json.loads(text)["order"]["model"] == "kirin_v1_6_i2v"
        assert _base64(payload["image"])[:40] not in text and "studio" not in text

    def test_that_exist_are_kept_without_overwrite(self, dag, run, payload, tmp_path):
        (tmp_path / "teapot.json").write_text("mine")
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path / "teapot.mp4"),
                overwrite=False,
                sidecar=True,
                **QUICK,
            )
        run(dag)
        assert (tmp_path / "teapot.json").read_text() == "mine"

    def test_a_poster_without_pyav_is_refused_before_anything_is_paid(
        self, dag, run, payload, tmp_path, emulator, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, "av", None)
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(tmp_path), poster=True, retries=0, **QUICK
            )
        ended = run(dag)
        assert ended.state == "failed" and emulator.submitted == 0
        assert "airflow-provider-kirin[media]" in ended.log

    def test_a_poster_that_cannot_be_made_costs_no_video(self, connect, tmp_path):
        from airflow_provider_kirin.api.task import KirinTask
        from airflow_provider_kirin.download.destination import Destination, save_videos

        with (
            VideoHost(video(MEGABYTE)) as host,
            closing(KirinHook(connect("http://127.0.0.1:9", timeout=5))) as hook,
        ):
            response = {
                "id": "a",
                "status": "completed",
                "output": [{"content": [{"type": "video", "url": f"{host.url}/v.mp4"}]}],
            }
            destination = Destination(str(tmp_path / "v.mp4"), poster=True)
            (file,) = save_videos(hook, KirinTask.from_response(response), destination)
        assert file.poster is None and [path.name for path in tmp_path.iterdir()] == ["v.mp4"]

    def test_need_a_destination(self, dag, payload):
        with dag, pytest.raises(ValueError, match="give a destination"):
            KirinGenerateVideoOperator(task_id="generate", payload=payload, sidecar=True)


def _base64(path: str) -> str:
    import base64
    from pathlib import Path

    return base64.b64encode(Path(path).read_bytes()).decode()
