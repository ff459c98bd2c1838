"""What came from what, as Airflow's Asset events, its hook lineage and OpenLineage show it, after real task runs."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetAlias, ObjectStoragePath, task

from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from tests.support.emulator import KEY
from tests.support.raw_server import RawServer
from tests.support.video_host import is_mp4
from tests.support.waiting import HANG

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "The sun goes round. [[seconds:0.3]]"
DIGEST = "sha256:" + hashlib.sha256(PROMPT.encode()).hexdigest()
FACTS = ("bytes", "sha256", "width", "height", "frame_rate", "seconds", "has_audio")
QUICK: dict[str, Any] = {"poll_interval": 0.1}


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": PROMPT}


def expected_extra(result: dict[str, Any], uri: str, digest: str | None = DIGEST) -> dict[str, Any]:
    about = {"kirin_task_id": result["id"], "cost": "0.28", "prompt_digest": digest}
    (details,) = result.get("file_details") or [{}]
    facts = {name: details[name] for name in FACTS if name in details}
    several = {"file_details": [{"uri": uri, **facts}]} if facts else {}
    return {"uri": uri, "uris": [uri], **about, **facts, **several}


class TestAssetEvents:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_of_an_asset(self, dag, run, payload, tmp_path, deferrable):
        videos = Asset("kirin_videos")
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path),
                outlets=[videos],
                deferrable=deferrable,
                **QUICK,
            )
        ended = run(dag)
        (event,), result = ended.asset_events(), ended.result("generate")
        assert event.asset.name == "kirin_videos"
        assert event.extra == expected_extra(result, result["files"][0])

    @pytest.mark.parametrize(("key", "quoted"), [("a.mp4", "a.mp4"), ("No #1/v?.mp4", "No%20%231/v%3F.mp4")])
    def test_a_consumer_can_open_the_file(self, dag, run, payload, s3, key, quoted):
        outlets = [Asset("kirin_videos"), AssetAlias("kirin_videos_of_today")]
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=f"s3://studio@videos/{key}", outlets=outlets, **QUICK
            )
        ended = run(dag)
        events = {event.asset.uri: event.extra for event in ended.asset_events()}
        # One file is one asset, in every process.
        assert sorted(events) == ["kirin_videos", f"s3://videos/{quoted}"]
        uris = [extra["uri"] for extra in events.values()] + events["kirin_videos"]["uris"]
        for uri in uris:
            assert is_mp4(ObjectStoragePath(uri).read_bytes()), uri

    def test_of_an_alias_an_asset_with_the_files_uri(self, dag, run, payload, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path / "Müllers Katze.mp4"),
                outlets=[AssetAlias("kirin_videos_of_today"), Asset("kirin_videos")],
                **QUICK,
            )
        ended = run(dag)
        result = ended.result("generate")
        (uri,) = result["files"]
        assert sorted(event.asset.name for event in ended.asset_events()) == sorted(["kirin_videos", uri])
        extras = {event.asset.name: event.extra for event in ended.asset_events()}
        expected = expected_extra(result, uri)
        assert extras.pop("kirin_videos") == expected
        assert extras.pop(uri) == {key: value for key, value in expected.items() if key not in ("uris", "file_details")}

    def test_without_a_destination_they_name_the_video_at_kirin_without_its_signature(self, dag, run, payload):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, outlets=[Asset("kirin_videos")], **QUICK)
        ended = run(dag)
        (event,), result = ended.asset_events(), ended.result("generate")
        assert "Signature=" in result["videos"][0]["url"] and "Signature" not in json.dumps(event.extra)
        assert event.extra == expected_extra(result, result["videos"][0]["url"].partition("?")[0])

    def test_of_a_download(self, dag, run, payload, tmp_path):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            download = KirinDownloadOperator(
                task_id="download",
                kirin_task_id=submit.output,
                destination=str(tmp_path),
                outlets=[Asset("kirin_videos")],
            )
            wait >> download
        ended = run(dag)
        (event,) = ended.asset_events()
        files = ended.xcoms()["download", -1, "kirin_files"]
        assert event.extra == expected_extra(ended.result("wait") | files, ended.result("download")[0])

    def test_of_mapped_downloads_each_its_own(self, dag, run, payload, tmp_path):
        payloads = [{**payload, "prompt": f"Number {n}"} for n in range(2)]
        with dag:
            submit = KirinSubmitOperator.partial(task_id="submit").expand(payload=payloads)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            download = KirinDownloadOperator.partial(
                task_id="download", destination=str(tmp_path), outlets=[AssetAlias("kirin_videos_of_today")]
            ).expand(kirin_task_id=submit.output)
            wait >> download
        ended = run(dag)
        digests = {event.extra["kirin_task_id"]: event.extra["prompt_digest"] for event in ended.asset_events()}
        assert digests == {
            ended.result("submit", n): "sha256:" + hashlib.sha256(f"Number {n}".encode()).hexdigest() for n in range(2)
        }

    def test_of_a_generation_that_another_dag_submitted_the_prompt_is_not_known(
        self, dag, run, payload, emulator, conn_id, tmp_path
    ):
        from airflow_provider_kirin.hooks.kirin import KirinHook

        kirin_task_id = KirinHook(conn_id).submit({**payload, "prompt": "p"}).id
        with dag:
            KirinDownloadOperator(
                task_id="download",
                kirin_task_id=kirin_task_id,
                destination=str(tmp_path),
                outlets=[Asset("kirin_videos")],
            )
        ended = run(dag)
        (event,) = ended.asset_events()
        result = {"id": kirin_task_id, **ended.xcoms()["download", -1, "kirin_files"]}
        assert event.extra == expected_extra(result, ended.result("download")[0], None)

    def test_a_name_that_airflow_does_not_take_loses_no_video(self, dag, run, payload, tmp_path):
        folder = Path(str(tmp_path), *["é" * 50] * 5)  # 6 characters each as a URI
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(folder),
                outlets=[AssetAlias("kirin_videos_of_today")],
                **QUICK,
            )
        ended = run(dag)
        assert ended.state == "success" and len(ended.result("generate")["files"]) == 1
        assert ended.asset_events() == [] and "No Asset event for" in ended.log


class TestOfTaskFlow:
    @pytest.mark.parametrize("fails", [False, True], ids=["at once", "after a try that paid for another prompt"])
    def test_the_digest_is_that_of_the_prompt_that_was_paid(self, dag, run, image_file, emulator, tmp_path, fails):
        prompts: list[str] = []
        if fails:
            emulator.fault(on="video", kind="status", status=503, times=3)
        with dag:

            @task.kirin(
                destination=str(tmp_path),
                outlets=[Asset("kirin_videos")],
                retries=1,
                retry_delay=timedelta(0),
                **QUICK,
            )
            def video():
                prompts.append(f"Idea {len(prompts)} [[seconds:0.3]]")
                return {"image": image_file, "prompt": prompts[-1]}

            video()
        ended = run(dag)
        (event,) = ended.asset_events()
        assert len(prompts) == 1 + fails and emulator.submitted == 1
        assert event.extra["prompt_digest"] == "sha256:" + hashlib.sha256(prompts[0].encode()).hexdigest()


PRODUCER = """
    import json
    import sys
    from datetime import datetime

    from airflow.sdk import DAG, task
    from airflow.sdk.lineage import get_hook_lineage_collector

    from airflow_provider_kirin.operators.kirin import KirinDownloadOperator, KirinGenerateVideoOperator
    from airflow_provider_kirin.operators.kirin import KirinSubmitOperator
    from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
    from tests.support.dag_runs import run_dag

    given = json.loads(sys.argv[1])

    with DAG("openlineage", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        for deferrable in (True, False):
            KirinGenerateVideoOperator(
                task_id=f"generate_{deferrable}",
                payload={"image": given["image"], "prompt": given["prompt"]},
                destination=given["folder"] + "/generated",
                deferrable=deferrable,
                poll_interval=0.1,
            )
        submit = KirinSubmitOperator(
            task_id="submit",
            payload={"image": given["url"], "image_tail": open(given["image"], "rb").read(), "mode": "pro"},
        )
        wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
        download = KirinDownloadOperator(
            task_id="download", kirin_task_id=submit.output, destination="file://" + given["folder"] + "/downloaded"
        )
        wait >> download

        @task.kirin(destination=given["folder"] + "/made", poll_interval=0.1)
        def made():
            return {"image": given["image"], "prompt": given["prompt"]}

        made()

    ended = run_dag(dag, lambda: "")
    assert ended.state == "success", ended.states()
    lineage = get_hook_lineage_collector().collected_assets
    seen = {
        side: sorted([type(one.context).__name__, one.asset.uri] for one in getattr(lineage, side))
        for side in ("inputs", "outputs")
    }
    ids = {one: ended.result(one) for one in ("generate_True", "generate_False", "submit", "download", "made")}
    print("SEEN " + json.dumps({"lineage": seen, "results": ids}))
"""


@pytest.fixture(scope="module")
def picture_url(image_bytes) -> Iterator[str]:
    """A presigned URL, as a bucket's owner hands it out, with a user in it besides."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image_bytes)}\r\n\r\n"
    server = RawServer(lambda connection, server: server.send(connection, head.encode() + image_bytes))
    host = server.url.removeprefix("http://")
    yield f"http://reader:secret-word@{host}/cup.jpg?X-Amz-Signature=secret-sign#part"
    server.stop()


@pytest.fixture(scope="module")
def seen(airflow_db, running_emulator, image_file, picture_url, tmp_path_factory) -> dict[str, Any]:
    """What the real OpenLineage provider wrote to a file, and Airflow's hook lineage collected.

    In a process of its own: all that is configured when Airflow is imported.
    """
    folder = tmp_path_factory.mktemp("openlineage")
    script, events = folder / "producer.py", folder / "events.jsonl"
    script.write_text(textwrap.dedent(PRODUCER))
    given = {"image": image_file, "url": picture_url, "prompt": PROMPT, "folder": str(folder)}
    connection = {"conn_type": "kirin", "host": running_emulator.url, "password": KEY}
    transport = {"type": "file", "log_file_path": str(events), "append": True}
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_CONN_KIRIN_DEFAULT": json.dumps(connection),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
    }
    command = [sys.executable, str(script), json.dumps(given)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=HANG, check=False)
    said = next((line for line in done.stdout.splitlines() if line.startswith("SEEN ")), None)
    assert said, (done.stdout + done.stderr)[-5000:]
    written = events.read_text()
    parsed = [json.loads(line) for line in written.splitlines()]
    # Whatever a forked listener prints may follow on the same line.
    seen, _ = json.JSONDecoder().raw_decode(said.removeprefix("SEEN "))
    return {**seen, "text": written, "events": parsed}


class TestOpenLineage:
    @staticmethod
    def complete(seen: dict[str, Any], task_id: str) -> dict[str, Any]:
        (event,) = [
            event
            for event in seen["events"]
            if event["eventType"] == "COMPLETE" and event["job"]["name"] == f"openlineage.{task_id}"
        ]
        return event

    @staticmethod
    def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [(one["namespace"], one["name"]) for one in datasets]

    @pytest.mark.parametrize("task_id", ["generate_True", "generate_False", "made"])
    def test_image_and_file(self, seen, image_file, task_id):
        event, result = self.complete(seen, task_id), seen["results"][task_id]
        assert self.names(event["inputs"]) == [("file", image_file)]
        assert self.names(event["outputs"]) == [("file", result["files"][0].removeprefix("file://"))]
        assert event["run"]["facets"]["externalQuery"]["externalQueryId"] == result["id"]

    def test_in_steps(self, seen, picture_url):
        place = urlsplit(picture_url)
        picture = [(f"http://{place.hostname}:{place.port}", "cup.jpg")]
        submit, download = self.complete(seen, "submit"), self.complete(seen, "download")
        assert self.names(submit["inputs"]) == self.names(download["inputs"]) == picture
        assert self.names(download["outputs"]) == [("file", seen["results"]["download"][0].removeprefix("file://"))]

    def test_no_secret_is_in_any_event(self, seen, image_bytes):
        assert len(seen["events"]) >= 2 * 6, "each task has a START and a COMPLETE"
        for secret in (KEY, "secret-word", "secret-sign", "Signature", "Expires=", PROMPT):
            assert secret not in seen["text"], secret
        assert base64.b64encode(image_bytes).decode()[100:140] not in seen["text"]

    def test_the_hook_lineage_has_them_too(self, seen, image_file, picture_url):
        results = seen["results"]
        files = [results[one]["files"][0] for one in ("generate_True", "generate_False", "made")]
        inputs = {uri for hook, uri in seen["lineage"]["inputs"] if hook == "KirinHook"}
        outputs = {uri for hook, uri in seen["lineage"]["outputs"] if hook == "KirinHook"}
        place = urlsplit(picture_url)
        assert inputs == {Path(image_file).as_uri(), f"http://{place.hostname}:{place.port}/cup.jpg"}
        assert outputs == {*files, *results["download"]}
