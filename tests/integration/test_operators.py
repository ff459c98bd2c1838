"""Operators and sensor in real task runs: Airflow renders, runs, defers, stores and retries them."""

from __future__ import annotations

import base64
import io
import json
import os
import textwrap
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest
from airflow.sdk import DAG, task
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence
from airflow.sdk.listener import get_listener_manager
from PIL import Image

from airflow_provider_kirin.exceptions import KirinPayloadError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.testing import fast_retries
from tests.support import listener
from tests.support.dag_runs import all_files
from tests.support.emulator import KEY, picture
from tests.support.raw_server import whole
from tests.support.video_host import is_mp4

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

#: Every way of waiting, as arguments of the sensor.
MODES: dict[str, dict[str, Any]] = {
    "deferrable": {"deferrable": True},
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
}
AGAIN = {"retries": 2, "retry_delay": timedelta(0)}


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round. [[seconds:0.3]]"}


def without_links(result: dict[str, Any]) -> dict[str, Any]:
    """Each lookup signs the links again."""
    videos = [{**video, "url": video["url"].partition("?")[0]} for video in result["videos"]]
    return {**result, "videos": videos}


@pytest.fixture
def ends_at_once(image_file) -> dict[str, Any]:
    """A payload whose end the first look sees."""
    return {"image": image_file, "prompt": "The sun stands still."}


#: What meets every GET after the look for an earlier try's generation, and the look that sees the end of this one.
AFTER_THE_END = {"on": "get", "kind": "garbage", "skip": 2}
#: How a gateway says 404: the API does not know the id, or a load balancer has no gateway behind it.
NOT_FOUND = {"on": "get", "kind": "status", "status": 404, "body": {"detail": "Request not found"}}
NO_GATEWAY = {**NOT_FOUND, "body": "<html>default backend - 404</html>", "content_type": "text/html"}


class TestTheThreeSteps:
    def test_submit_wait_download(self, dag, run, payload, emulator, tmp_path):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            download = KirinDownloadOperator(
                task_id="download", kirin_task_id=submit.output, destination=str(tmp_path / "videos")
            )
            wait >> download
        ended = run(dag)
        assert ended.states() == {"submit": "success", "wait": "success", "download": "success"}
        kirin_task_id = ended.result("submit")
        assert [row["id"] for row in emulator.ledger()["paid"]] == [kirin_task_id]
        video = ended.result("wait")
        assert (video["id"], video["status"], video["usage"]["cost"]) == (kirin_task_id, "completed", "0.28")
        (uri,) = ended.result("download")
        run_folder = ended.run_id.replace(":", "-").replace("+", "-")
        path = tmp_path / "videos" / dag.dag_id / run_folder / f"{kirin_task_id}-0.mp4"
        assert uri == path.as_uri() and is_mp4(path.read_bytes())

    def test_they_ask_for_no_xcom_that_is_not_there(self, dag, run, payload, tmp_path):
        """Airflow 3 logs each one as an error, in the scheduler's log too."""
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            wait >> KirinDownloadOperator(
                task_id="download", kirin_task_id=submit.output, destination=str(tmp_path / "a.mp4")
            )
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(tmp_path), poll_interval=0.1, max_cost_usd=5
            )
            KirinGenerateVideoOperator.partial(task_id="mapped", poll_interval=0.1).expand(payload=[payload])
        ended = run(dag)
        assert ended.state == "success" and "XCom not found" not in ended.log

    def test_the_sensors_xcom_is_exactly_to_dict(self, dag, run, payload, conn_id):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
        ended = run(dag)
        theirs, ours = ended.result("wait"), KirinHook(conn_id).get_task(ended.result("submit")).to_dict()
        assert without_links(theirs) == without_links(ours)
        assert "Signature=" in theirs["videos"][0]["url"], "the link has to work"

    def test_a_task_that_is_not_finished_is_not_downloaded(self, dag, run, submit, tmp_path):
        with dag:
            KirinDownloadOperator(
                task_id="download", kirin_task_id=submit("[[seconds:600]]"), destination=str(tmp_path)
            )
        ended = run(dag)
        assert ended.state == "failed" and "is not finished" in ended.log
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("prompt", "said"), [("[[fail:8002005098]]", "8002005098"), ("[[no-video]]", "without a video")]
    )
    def test_a_task_without_a_video_is_not_downloaded(self, dag, run, submit, tmp_path, prompt, said):
        with dag:
            KirinDownloadOperator(task_id="download", kirin_task_id=submit(prompt), destination=str(tmp_path))
        ended = run(dag)
        assert ended.state == "failed" and said in ended.log

    @pytest.mark.parametrize(
        "lag",
        [NOT_FOUND, NO_GATEWAY, {"on": "get", "kind": "garbage", "body": {"status": "in_progress"}}],
        ids=["404", "load balancer", "in progress"],
    )
    def test_a_replica_that_lags_is_asked_again(self, dag, run, submit, emulator, tmp_path, lag):
        with dag:
            KirinDownloadOperator(
                task_id="download", kirin_task_id=submit(), destination=str(tmp_path / "a.mp4"), **AGAIN
            )
        emulator.fault(times=3, **lag)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("download").try_number == 1
        assert is_mp4((tmp_path / "a.mp4").read_bytes())

    @pytest.mark.parametrize(("fault", "tries"), [(NOT_FOUND, 1), (NO_GATEWAY, 3)], ids=["the API", "load balancer"])
    def test_a_404_that_stays_is_final_only_from_the_api(self, dag, run, emulator, tmp_path, fault, tries):
        with dag:
            KirinDownloadOperator(task_id="download", kirin_task_id="one", destination=str(tmp_path), **AGAIN)
        emulator.fault(times=-1, **fault)
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("download").try_number == tries and "HTTP 404" in ended.log

    def test_a_download_that_is_repeated_costs_nothing(self, dag, run, submit, emulator, tmp_path):
        kirin_task_id = submit()
        with dag:
            KirinDownloadOperator(
                task_id="download", kirin_task_id=kirin_task_id, destination=str(tmp_path / "a.mp4"), **AGAIN
            )
        # All the tries of the first run of the task.
        emulator.fault(on="video", kind="status", status=503, times=3)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("download").try_number == 2
        assert is_mp4((tmp_path / "a.mp4").read_bytes())
        assert emulator.submitted == 1


def generate(payload: dict[str, Any], **options: Any) -> None:
    """Add the operator, which looks often and is retried at once."""
    KirinGenerateVideoOperator(task_id="generate", payload=payload, poll_interval=0.1, **options, **AGAIN)


class TestGenerate:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_with_a_destination(self, dag, run, payload, emulator, tmp_path, deferrable):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path) + "/{{ dag.dag_id }}/{{ ti.task_id }}.mp4",
                poll_interval=0.1,
                deferrable=deferrable,
            )
        ended = run(dag)
        assert ended.states() == {"generate": "success"}
        path = tmp_path / dag.dag_id / "generate.mp4"
        result = ended.result("generate")
        assert result["files"] == [path.as_uri()] and is_mp4(path.read_bytes())
        assert result["status"] == "completed" and [row["id"] for row in emulator.ledger()["paid"]] == [result["id"]]

    def test_without_one_it_returns_exactly_to_dict(self, dag, run, payload, conn_id):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, poll_interval=0.1)
        result = run(dag).result("generate")
        named = KirinHook(conn_id).get_task(result["id"]).to_dict() | {"external_task_id": result["external_task_id"]}
        assert without_links(result) == without_links(named)

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_payload_that_is_broken_on_a_later_try_is_not_needed_any_more(
        self, dag, run, image_bytes, emulator, tmp_path, deferrable
    ):
        """Its image lay on the worker of the first try only."""
        image = tmp_path / "cup.jpg"
        image.write_bytes(image_bytes)
        emulator.fault(on="video", kind="status", status=503, times=3)
        dag.user_defined_macros = {"image": lambda ti: image.unlink() if ti.try_number > 1 else None}
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload={"image": str(image), "prompt": "A cup.{{ image(ti) and '' or '' }}"},
                destination=str(tmp_path / "a.mp4"),
                poll_interval=0.1,
                deferrable=deferrable,
                **AGAIN,
            )
        ended = run(dag)
        (paid,) = emulator.ledger()["paid"]
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert "This try's payload is not needed, and could not be sent" in ended.log
        assert ended.result("generate")["id"] == paid["id"]
        assert ended.xcoms()["generate", -1, "kirin_submission"]["kirin_task_id"] == paid["id"]

    @pytest.mark.parametrize(
        "differing",
        [
            {"payload": {"prompt": "It is {{ macros.datetime.now() }}."}},
            {"take": "{{ ti.try_number }}"},
            {"external_task_id": "order-{{ run_id }}-{{ ti.try_number }}"},
            {"model": "{{ 'kirin_v1_6_i2v' if ti.try_number == 1 else 'kirin_v1_5_i2v' }}"},
        ],
        ids=["prompt", "take", "external_task_id", "model"],
    )
    def test_a_retry_that_asks_for_something_else_adopts_what_the_first_try_submitted(
        self, dag, run, payload, emulator, tmp_path, differing
    ):
        arguments = {**differing, "payload": payload | differing.get("payload", {})}
        with dag:
            generate(destination=str(tmp_path / "a.mp4"), deferrable=False, **arguments)
        # All the tries of the first download.
        emulator.fault(on="video", kind="status", status=503, times=3)
        ended = run(dag)
        (paid,) = emulator.ledger()["paid"]
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert emulator.submitted == 1 and ended.result("generate")["id"] == paid["id"]
        assert "external_task_id of this try differs" in ended.log

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_failed_generations_that_cost_something_are_added_up(self, dag, run, payload, emulator, deferrable):
        with dag:
            generate({**payload, "prompt": "[[fail:8002005098:charged]]"}, deferrable=deferrable)
        ended = run(dag)
        assert ended.state == "failed" and emulator.submitted == 3
        assert "The generation of this step that failed cost 0.28 USD." in ended.log
        total = "The 3 generations of this step that failed cost 0.84 USD in total."
        logged = [line.partition("Kirin generation ")[::2] for line in ended.log.splitlines() if total in line]
        assert any(total in before for before, _ in logged), "the log"
        assert any(f"Only a new submission can help. {total}" in error for _, error in logged), "the last error"
        costs = ended.xcoms()["generate", -1, "kirin_submission"]["failed_costs"]
        assert list(costs.values()) == ["0.28", "0.28"]

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_an_input_that_the_model_refuses_is_not_submitted_again(self, dag, run, payload, emulator, deferrable):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload={**payload, "prompt": "[[fail:8002005002]]"}, deferrable=deferrable, **AGAIN
            )
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("generate").try_number == 1
        assert "8002005002" in ended.log and emulator.submitted == 1

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_timeout_names_the_generation_and_the_next_try_adopts_it(self, dag, run, payload, emulator, deferrable):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload={**payload, "prompt": "[[seconds:600]]"},
                timeout=0.5,
                poll_interval=0.1,
                deferrable=deferrable,
                on_retry_callback=lambda _: emulator.finish(),
                **AGAIN,
            )
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number > 1
        assert "did not finish within" in ended.log
        assert emulator.submitted == 1

    def test_an_end_in_the_triggerer_that_cannot_be_kept_is_reported_before_paying(self, dag, run, payload, emulator):
        """Of a mapped task it cannot be seen when the DAG is parsed."""
        with dag:
            many = KirinGenerateVideoOperator.partial(task_id="generate", end_from_trigger=True, **AGAIN).expand(
                payload=[payload]
            )
            KirinDownloadOperator.partial(task_id="use", destination="x").expand(kirin_task_id=many.output)
        ended = run(dag)
        assert ended.ti("generate", 0).state == "failed" and ended.ti("generate", 0).try_number == 1
        assert "another task is mapped over its result" in ended.log and "nothing was spent" in ended.log
        assert emulator.submitted == 0 and emulator.requests("GET", "/task/") == []

    def test_a_listener_added_later_does_not_fail_a_try_that_adopts(self, dag, run, payload, emulator):
        listeners = get_listener_manager()

        def listen_and_finish(context: Any) -> None:
            listeners.add_listener(listener)
            emulator.finish()

        with dag:
            KirinGenerateVideoOperator.partial(
                task_id="generate",
                timeout=0.5,
                poll_interval=0.1,
                end_from_trigger=True,
                on_retry_callback=listen_and_finish,
                **AGAIN,
            ).expand(payload=[{**payload, "prompt": "[[seconds:600]]"}])
        try:
            ended = run(dag)
        finally:
            listeners.pm.unregister(listener)
        assert ended.state == "success" and ended.ti("generate", 0).try_number > 1
        assert "a plugin listens" in ended.log and "completing the task on a worker" in ended.log
        assert emulator.submitted == 1

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_lookup_that_lags_after_the_submission_is_retried(self, dag, run, payload, emulator, deferrable):
        with dag:
            generate(payload, deferrable=deferrable)
        # The first GET looks up what an earlier try submitted.
        emulator.fault(skip=1, times=2, **NOT_FOUND)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 1
        assert emulator.submitted == 1

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_one_that_lags_for_longer_is_left_to_another_try(self, dag, run, payload, emulator, deferrable):
        with dag:
            generate(payload, deferrable=deferrable)
        emulator.fault(skip=1, times=6, **NOT_FOUND)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert emulator.submitted == 1

    def test_a_submission_answered_with_a_wrong_id_is_found_by_another_try(self, dag, run, payload, emulator):
        with dag:
            generate(payload)
        wrong = {"id": "nobodys", "status": "in_progress"}
        emulator.fault(on="submit", kind="accepted_status", status=200, body=wrong)
        ended = run(dag)
        (paid,) = emulator.ledger()["paid"]
        assert ended.state == "success" and ended.result("generate")["id"] == paid["id"]
        assert ended.xcoms()["generate", -1, "kirin_submission"]["kirin_task_id"] == paid["id"]

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_video_that_is_gone_before_it_is_downloaded_is_a_failure(
        self, dag, run, ends_at_once, emulator, tmp_path, deferrable
    ):
        with dag:
            generate(ends_at_once, destination=str(tmp_path), deferrable=deferrable)
        emulator.fault(body={"id": "{ref}", "status": "completed", "output": []}, times=-1, **AFTER_THE_END)
        ended = run(dag)
        assert ended.state == "failed" and "completed without a video" in ended.log
        assert ended.ti("generate").try_number == 1 and emulator.submitted == 1
        assert list(tmp_path.rglob("*.mp4")) == []

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_replica_that_lags_before_the_download_is_asked_again(
        self, dag, run, ends_at_once, emulator, tmp_path, deferrable
    ):
        with dag:
            generate(ends_at_once, destination=str(tmp_path / "a.mp4"), deferrable=deferrable)
        emulator.fault(body={"id": "{ref}", "status": "in_progress"}, times=2, **AFTER_THE_END)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 1
        result = ended.result("generate")
        assert result["status"] == "completed" and result["files"] == [(tmp_path / "a.mp4").as_uri()]
        assert is_mp4((tmp_path / "a.mp4").read_bytes())

    def test_one_that_lags_for_longer_fails_the_try(self, dag, run, ends_at_once, emulator, tmp_path):
        with dag:
            generate(ends_at_once, destination=str(tmp_path / "a.mp4"), deferrable=False)
        emulator.fault(body={"id": "{ref}", "status": "in_progress"}, times=6, **AFTER_THE_END)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert "is not finished (in_progress)" in ended.log
        assert is_mp4((tmp_path / "a.mp4").read_bytes()) and emulator.submitted == 1

    def test_a_download_that_fails_does_not_generate_again(self, dag, run, payload, emulator, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path / "a.mp4"),
                poll_interval=0.1,
                retries=1,
                retry_delay=timedelta(0),
            )
        emulator.fault(on="video", kind="status", status=503, times=3)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert is_mp4((tmp_path / "a.mp4").read_bytes())
        assert emulator.submitted == 1

    @pytest.mark.parametrize("destination", ["nosuchstore://bucket/videos", "gs://bucket/videos"])
    def test_an_unreachable_destination_is_reported_before_paying(self, dag, run, payload, emulator, destination):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=destination, retries=2)
        ended = run(dag)
        assert ended.state == "failed" and "out of reach" in ended.log
        assert emulator.submitted == 0

    def test_a_file_that_may_not_be_replaced_is_reported_before_paying(self, dag, run, payload, emulator, tmp_path):
        (tmp_path / "video.mp4").write_bytes(b"yesterday's")
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(tmp_path / "video.mp4"), overwrite=False
            )
        ended = run(dag)
        assert ended.state == "failed" and "already exists" in ended.log
        assert emulator.submitted == 0

    def test_a_folder_that_cannot_be_made_is_reported_before_paying(self, dag, run, payload, emulator, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(tmp_path / "file" / "videos")
            )
        ended = run(dag)
        assert ended.state == "failed" and "cannot be written" in ended.log
        assert emulator.submitted == 0

    def test_the_result_names_the_external_task_id_that_the_gateway_does_not_repeat(self, dag, run, payload):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, external_task_id="mine", poll_interval=0.1)
        assert run(dag).result("generate")["external_task_id"] == "mine"


@pytest.mark.parametrize("mode", MODES)
class TestTheSensor:
    def test_does_not_wait_for_a_connection_that_is_missing(self, dag, run, mode):
        with dag:
            KirinTaskSensor(
                task_id="wait", kirin_task_id="d1", kirin_conn_id="no_such_connection", retries=0, **MODES[mode]
            )
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and "There is no Airflow connection" in ended.log

    def test_waits(self, dag, run, payload, mode):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload={**payload, "prompt": "[[seconds:0.6]]"})
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.2, **MODES[mode])
        ended = run(dag)
        assert ended.states() == {"submit": "success", "wait": "success"}
        assert ended.result("wait")["id"] == ended.result("submit")

    def test_takes_an_external_task_id(self, dag, run, payload, mode):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload, external_task_id="order-{{ run_id }}")
            wait = KirinTaskSensor(task_id="wait", kirin_task_id="order-{{ run_id }}", poke_interval=0.2, **MODES[mode])
            submit >> wait
        ended = run(dag)
        assert ended.state == "success"
        assert ended.result("wait")["id"] == ended.result("submit")

    def test_takes_a_list_and_keeps_its_order(self, dag, run, submit, mode):
        ids = [submit(f"[[seconds:{seconds}]]") for seconds in (0.6, 0, 0.3)]
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=ids, poke_interval=0.2, **MODES[mode])
        ended = run(dag)
        assert [one["id"] for one in ended.result("wait")] == ids

    def test_takes_all_of_a_mapped_submit(self, dag, run, image_file, emulator, mode):
        payloads = [{"image": image_file, "prompt": f"Number {n} [[seconds:0.2]]"} for n in range(3)]
        with dag:
            submit = KirinSubmitOperator.partial(task_id="submit").expand(payload=payloads)
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.2, **MODES[mode])
        ended = run(dag)
        assert ended.state == "success", ended.states()
        ids = [ended.result("submit", index) for index in range(3)]
        assert [one["id"] for one in ended.result("wait")] == ids
        assert sorted(row["id"] for row in emulator.ledger()["paid"]) == sorted(ids)

    def test_maps_over_a_mapped_submit(self, dag, run, image_file, mode):
        payloads = [{"image": image_file, "prompt": f"Number {n}"} for n in range(2)]
        with dag:
            submit = KirinSubmitOperator.partial(task_id="submit").expand(payload=payloads)
            KirinTaskSensor.partial(task_id="wait", poke_interval=0.2, **MODES[mode]).expand(
                kirin_task_id=submit.output
            )
        ended = run(dag)
        assert ended.state == "success", ended.states()
        for index in range(2):
            assert ended.result("wait", index)["id"] == ended.result("submit", index)

    def test_a_failed_generation_fails_it_with_the_apis_words_and_no_retry(self, dag, run, submit, mode):
        one = submit("[[fail:8002005098]]")
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=one, poke_interval=0.2, **MODES[mode], **AGAIN)
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and ended.ti("wait").try_number == 1
        assert one in ended.log and "8002005098" in ended.log
        assert ended.xcoms() == {} or ("wait", -1, "return_value") not in ended.xcoms()

    def test_the_apis_message_is_in_the_log(self, dag, run, submit, mode):
        with dag:
            one = submit("[[fail:too many dragons:text]]")
            KirinTaskSensor(task_id="wait", kirin_task_id=one, poke_interval=0.2, **MODES[mode])
        assert "too many dragons" in run(dag).log

    def test_a_list_says_which_one_failed(self, dag, run, submit, mode):
        good, bad, empty = submit(), submit("[[fail:8002005098]]"), submit("[[no-video]]")
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=[good, bad, empty], poke_interval=0.2, **MODES[mode], **AGAIN)
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and ended.ti("wait").try_number == 1
        assert "2 of 3" in ended.log and bad in ended.log and empty in ended.log

    def test_a_timeout_fails_it_without_a_retry(self, dag, run, submit, mode):
        one = submit("[[seconds:600]]")
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=one, timeout=3, poke_interval=0.2, **MODES[mode], **AGAIN)
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and ended.ti("wait").try_number == 1
        assert f"{one} did not finish within" in ended.log

    @pytest.mark.parametrize(
        ("asked", "why", "said"),
        [
            ("soft_fail", "[[seconds:600]]", "did not finish"),
            ("soft_fail", "[[fail:8002005098]]", "8002005098"),
            ("never_fail", "", "no id"),
        ],
    )
    def test_soft_fail_and_never_fail_skip_it_and_say_why(self, dag, run, submit, mode, why, said, asked):
        one = submit(why) if why else "no id"
        with dag:
            wait = KirinTaskSensor(
                task_id="wait", kirin_task_id=one, timeout=3, poke_interval=0.2, **{asked: True}, **MODES[mode]
            )

            @task
            def use(video):
                raise AssertionError("there is no video to use")

            use(wait.output)
        ended = run(dag)
        assert ended.states() == {"wait": "skipped", "use": "skipped"}, ended.log[-3000:]
        assert f"because of {asked}: " in ended.log and said in ended.log

    def test_temporary_errors_are_retried(self, dag, run, submit, emulator, mode):
        one = submit()
        emulator.fault(on="get", kind="status", status=503)
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=one, poke_interval=0.2, **MODES[mode])
        ended = run(dag)
        assert ended.states() == {"wait": "success"} and "503" in ended.log

    def test_a_404_that_passes_is_retried(self, dag, run, submit, emulator, mode):
        one = submit()
        emulator.fault(times=2, **NOT_FOUND)
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=one, poke_interval=0.2, **MODES[mode])
        ended = run(dag)
        assert ended.states() == {"wait": "success"} and "HTTP 404" in ended.log

    def test_an_unknown_id_fails_it_long_before_the_timeout(self, dag, run, submit, emulator, mode):
        ids = ["no-such-generation", submit("[[seconds:600]]")]
        with dag:
            KirinTaskSensor(
                task_id="wait", kirin_task_id=ids, poke_interval=600, fail_fast=True, **MODES[mode], **AGAIN
            )
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and ended.ti("wait").try_number == 1
        assert "asking for no-such-generation (HTTP 404): Request not found. Check the id" in ended.log
        assert len(emulator.requests("GET", ids[0])) == 6

    def test_a_wrong_key_fails_it_at_once(self, dag, run, connect, emulator, mode):
        conn_id = connect(emulator.url, key="wrong-key-of-mine", conn_id="wrong")
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id="one", kirin_conn_id=conn_id, **MODES[mode], **AGAIN)
        ended = run(dag)
        assert ended.states() == {"wait": "failed"} and ended.ti("wait").try_number == 1
        assert "API Key" in ended.log and "wrong-key-of-mine" not in ended.log

    def test_no_ids_are_no_generations(self, dag, run, emulator, mode):
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=[], **MODES[mode])
        ended = run(dag)
        assert ended.result("wait") == [] and emulator.requests() == []


def test_the_ids_of_a_mapped_submit_are_fetched_once_a_try(dag, run, image_file, monkeypatch):
    asked_for, fetch = [], LazyXComSequence.__getitem__
    monkeypatch.setattr(LazyXComSequence, "__getitem__", lambda seq, at: (asked_for.append(at), fetch(seq, at))[1])
    payloads = [{"image": image_file, "prompt": f"Number {n} [[seconds:600]]"} for n in range(2)]
    with dag:
        submit = KirinSubmitOperator.partial(task_id="submit").expand(payload=payloads)
        KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1, timeout=1.5, **MODES["poke"])
    assert run(dag).state == "failed"
    # Not one by one either: each would be a request.
    assert asked_for == [slice(None)]


def test_a_list_is_polled_together_and_no_sooner_than_the_gateway_allows(dag, run, submit, emulator):
    refused, busy = submit(), submit()
    emulator.fault(on="get", kind="status", status=429, retry_after=300, match=refused)
    emulator.fault(on="get", kind="garbage", body={"id": "{ref}", "status": "in_progress"}, times=2, match=busy)
    with dag:
        KirinTaskSensor(task_id="wait", kirin_task_id=[refused, busy], poke_interval=0.2, **MODES["poke"])
    with fast_retries(0.1) as waited:
        assert run(dag).state == "success"
    assert len(emulator.requests("GET", refused)) == 2 and len(emulator.requests("GET", busy)) == 3
    assert max(waited) == 300


@pytest.mark.parametrize("operator", ["sensor", "download"])
@pytest.mark.parametrize("given", [None, "['a', 'b']", {"id": "x"}], ids=repr)
def test_what_is_no_id_is_refused(dag, run, emulator, tmp_path, operator, given):
    with dag:

        @task
        def make():
            return given

        if operator == "sensor":
            KirinTaskSensor(task_id="it", kirin_task_id=make(), timeout=5, **AGAIN)
        else:
            KirinDownloadOperator(task_id="it", kirin_task_id=make(), destination=str(tmp_path), **AGAIN)
    ended = run(dag)
    assert ended.states()["it"] == "failed" and ended.ti("it").try_number == 1, ended.states()
    assert "kirin_task_id = " in ended.log and "is not the id of one Kirin generation" in ended.log
    assert emulator.requests() == []


class TestWhatIsRefused:
    def test_a_payload_that_is_wrong_when_it_is_rendered_fails_without_a_retry(self, dag, run, payload, emulator):
        with dag:
            KirinSubmitOperator(
                task_id="submit", payload={**payload, "mode": "{{ 'prro' }}", "cfg_scale": "{{ 1 + 1 }}"}, **AGAIN
            )
        ended = run(dag)
        assert ended.states() == {"submit": "failed"} and ended.ti("submit").try_number == 1
        assert "has 2 problems" in ended.log and "Did you mean 'pro'?" in ended.log and "cfg_scale" in ended.log
        assert emulator.requests() == []

    def test_a_mapped_payload_with_a_typo_fails_without_a_retry_and_without_a_request(
        self, dag, run, image_file, emulator
    ):
        with dag:
            KirinSubmitOperator.partial(task_id="submit", **AGAIN).expand(
                payload=[{"image": image_file, "promt": "x"}, {"image": image_file, "duration": "7"}]
            )
        ended = run(dag)
        assert ended.states() == {"submit[0]": "failed", "submit[1]": "failed"}
        assert [ended.ti("submit", index).try_number for index in range(2)] == [1, 1]
        assert "promt" in ended.log and "Did you mean 'prompt'?" in ended.log and "duration" in ended.log
        assert emulator.ledger()["submits"] == 0 and emulator.submitted == 0

    def test_a_missing_image_fails_without_a_retry(self, dag, run, emulator, tmp_path):
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": str(tmp_path / "no-such.jpg")}, **AGAIN)
        ended = run(dag)
        assert ended.ti("submit").try_number == 1 and "no-such.jpg" in ended.log
        assert emulator.requests() == []

    def test_a_permanent_refusal_is_not_retried(self, dag, run, payload, emulator):
        emulator.fault(on="submit", kind="status", status=402, times=-1)
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, **AGAIN)
        ended = run(dag)
        assert ended.states() == {"submit": "failed"} and ended.ti("submit").try_number == 1
        assert "Top up the account" in ended.log and emulator.submitted == 0

    def test_a_temporary_refusal_is_retried(self, dag, run, payload, emulator):
        emulator.fault(on="submit", kind="status", status=429, retry_after=0.1)
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, **AGAIN)
        ended = run(dag)
        assert ended.states() == {"submit": "success"} and emulator.submitted == 1

    def test_what_may_help_is_tried_again(self, dag, run, submit, emulator, tmp_path):
        with dag:
            KirinDownloadOperator(
                task_id="download", kirin_task_id=submit("[[seconds:600]]"), destination=str(tmp_path), **AGAIN
            )
        ended = run(dag)
        assert ended.states() == {"download": "failed"} and ended.ti("download").try_number == 3

    def test_no_key_fails_without_a_retry(self, dag, run, payload, connect, emulator):
        connect(emulator.url, key=None)
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, **AGAIN)
        ended = run(dag)
        assert ended.ti("submit").try_number == 1 and "has no API key" in ended.log

    @pytest.mark.parametrize(("status", "code"), [(504, 1302), (400, "8002005098"), (408, 1303)])
    def test_an_error_that_may_follow_an_acceptance_proves_nothing(self, dag, run, payload, emulator, status, code):
        emulator.fault(on="submit", kind="accepted_status", status=status, body={"error": {"code": code}}, times=-1)
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, **AGAIN)
        ended = run(dag)
        (paid,) = emulator.ledger()["paid"]
        assert ended.state == "success" and ended.result("submit") == paid["id"]
        assert emulator.submitted == 1

    @pytest.mark.parametrize("kind", ["lose_response", "cut_mid_response", "cut_before"])
    def test_a_lost_response_is_paid_for_once(self, dag, run, payload, emulator, kind):
        # However many tries it takes: one generation is submitted, and it is the one that is returned.
        emulator.fault(on="submit", kind=kind)
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload, on_unknown_submit="resubmit", **AGAIN)
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
        ended = run(dag)
        assert ended.state == "success"
        assert [row["id"] for row in emulator.ledger()["paid"]] == [ended.result("submit")]


class TestTemplates:
    def test_numbers_as_text(self, dag, run, image_file, emulator):
        with dag:
            KirinSubmitOperator(
                task_id="submit",
                payload={
                    "image": image_file,
                    "prompt": "{{ ds_nodash }} at {{ params.place }}",
                    "duration": "{{ params.seconds }}",
                    "cfg_scale": "{{ params.scale }}",
                    "watermark_info": {"enabled": "{{ params.mark }}"},
                    "mode": "{{ 'pro' if params.seconds == 10 else 'std' }}",
                },
            )
        dag.params.update({"place": "home", "seconds": 10, "scale": 0.25, "mark": True})
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        # The price of pro and 10 seconds.
        assert [row["cost"] for row in emulator.ledger()["paid"]] == ["0.98"]
        assert ended.rendered("submit")["payload"]["prompt"].endswith("at home")

    def test_native_objects(self, image_file, run, emulator):
        with DAG(
            "native_objects", schedule=None, start_date=datetime(2026, 1, 1), render_template_as_native_obj=True
        ) as dag:

            @task
            def make():
                return {"image": image_file, "duration": 5, "cfg_scale": 0.5, "watermark_info": {"enabled": False}}

            made = make()
            submit = KirinSubmitOperator(task_id="submit", payload="{{ ti.xcom_pull(task_ids='make') }}")
            wait = KirinTaskSensor(
                task_id="wait", kirin_task_id="{{ [ti.xcom_pull(task_ids='submit')] }}", poke_interval=0.1
            )
            made >> submit >> wait
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        assert [one["id"] for one in ended.result("wait")] == [ended.result("submit")]

    def test_a_payload_from_another_task(self, dag, run, image_file, emulator):
        with dag:

            @task
            def make():
                return {"image": image_file, "prompt": "made elsewhere"}

            KirinSubmitOperator(task_id="submit", payload=make())
        assert run(dag).state == "success" and emulator.submitted == 1

    def test_values_from_other_tasks(self, dag, run, image_file, emulator):
        with dag:

            @task
            def describe():
                return "made elsewhere"

            KirinSubmitOperator(task_id="submit", payload={"image": image_file, "prompt": describe()})
        ended = run(dag)
        assert ended.state == "success" and ended.rendered("submit")["payload"]["prompt"] == "made elsewhere"

    def test_a_payload_as_json_text(self, dag, run, image_file, emulator):
        with dag:
            text = json.dumps({"image": image_file, "prompt": "in {{ dag.dag_id }}"})
            KirinSubmitOperator(task_id="submit", payload=text)
        assert run(dag).state == "success" and emulator.submitted == 1


class TestImagesStayInTheRequest:
    """Pieces of an image are looked for wherever Airflow keeps or shows something."""

    @pytest.fixture
    def secret_image(self) -> bytes:
        # Noise, so that no piece of it occurs elsewhere.
        out = io.BytesIO()
        Image.frombytes("RGB", (320, 320), os.urandom(320 * 320 * 3)).save(out, "PNG")
        return out.getvalue()

    @staticmethod
    def pieces(image: bytes) -> list[str]:
        text = base64.b64encode(image).decode()
        middle = len(text) // 2 // 4 * 4
        # Bytes whose repr is the same wherever quotes are escaped.
        windows = (image[at : at + 12] for at in range(len(image) // 2, len(image)))
        raw = next(window for window in windows if not set(window) & set(b"\"'\\"))
        shown = repr(raw)[2:-1]
        return [text[:40], text[middle : middle + 40], text[-40:], shown, shown.replace("\\", "\\\\"), raw.hex()]

    def assert_nowhere(self, ended, image, airflow_db: Path):
        stored = ended.everything_stored()
        for piece in self.pieces(image):
            assert piece not in stored
            assert piece not in ended.log
        files = all_files(airflow_db)
        assert base64.b64encode(image)[300:340] not in files
        assert image[300:330] not in files

    @pytest.mark.parametrize("shape", ["bytes", "bytearray", "base64", "data URI"])
    def test_given_in_the_dag(self, dag, run, secret_image, emulator, airflow_db, shape):
        text = base64.b64encode(secret_image).decode()
        image = {
            "bytes": secret_image,
            "bytearray": bytearray(secret_image),
            "base64": text,
            "data URI": f"data:image/png;base64,{text}",
        }[shape]
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload={"image": image, "prompt": "p"}, poll_interval=0.1)
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)
        assert "image" in ended.rendered("generate")["payload"], "something has to stand in its place"

    @pytest.mark.parametrize("shape", ["bytes", "base64"])
    def test_of_mapped_tasks(self, dag, secret_image, shape):
        """Airflow serializes what a mapped task holds fixed, so an image there is refused when the DAG is parsed."""
        image = secret_image if shape == "bytes" else base64.b64encode(secret_image).decode()
        with dag, pytest.raises(KirinPayloadError, match="path or storage URI") as refusal:
            KirinSubmitOperator.partial(task_id="submit", payload={"image": image})
        assert not any(piece in str(refusal.value) for piece in self.pieces(secret_image))

    def test_a_typo_in_what_a_mapped_task_holds_fixed_shows_when_the_dag_is_parsed(self, dag):
        payload = {"image": "/tmp/a.png", "promt": "p"}
        with dag, pytest.raises(KirinPayloadError, match="Did you mean 'prompt'"):
            KirinSubmitOperator.partial(task_id="submit", payload=payload, model="kirin_v1_6_i2v")

    def test_what_a_mapped_task_holds_fixed_is_not_checked_for_a_model_that_it_may_not_have(self, dag, run, emulator):
        """The model comes from expand(), or from default_args."""
        dag.default_args = {"model": "kirin_v1_6_t2v"}
        with dag:
            fixed = {"payload": {"prompt": "A tea cup."}}
            KirinSubmitOperator.partial(task_id="of_default_args", **fixed).expand(take=[1])
            KirinSubmitOperator.partial(task_id="of_expand", **fixed).expand(model=["kirin_v2_6_t2v"])
        assert run(dag).state == "success"
        assert {row["model"] for row in emulator.ledger()["paid"]} == {"kirin_v1_6_t2v", "kirin_v2_6_t2v"}

    def test_brought_by_a_template_of_a_mapped_task(self, dag, run, secret_image, emulator, airflow_db, tmp_path):
        text = base64.b64encode(secret_image).decode()
        dag.user_defined_macros = {"picture": lambda: text}
        with dag:
            KirinSubmitOperator.partial(task_id="submit", payload={"image": "{{ picture() }}"}).expand(take=[1])
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)

    def test_both_images(self, dag, run, secret_image, emulator, airflow_db):
        tail = picture(640, 360, "PNG")
        with dag:
            payload = {"image": secret_image, "image_tail": tail, "mode": "pro"}
            KirinSubmitOperator(task_id="submit", payload=payload)
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)
        self.assert_nowhere(ended, tail, airflow_db)

    def test_brought_by_a_template(self, dag, run, secret_image, emulator, airflow_db):
        text = base64.b64encode(secret_image).decode()
        dag.user_defined_macros = {"picture": lambda: text}
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": "{{ picture() }}", "prompt": "p"})
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)

    @pytest.mark.parametrize("as_json", [False, True], ids=["mapping", "JSON text"])
    def test_brought_by_a_template_of_the_whole_payload(self, dag, run, secret_image, emulator, airflow_db, as_json):
        whole = {"image": base64.b64encode(secret_image).decode(), "prompt": "p"}
        dag.user_defined_macros = {"payload": lambda: json.dumps(whole) if as_json else whole}
        dag.render_template_as_native_obj = not as_json
        with dag:
            KirinSubmitOperator(task_id="submit", payload="{{ payload() }}")
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)

    MANY = "kirin_v1_6_multi_i2v"

    @pytest.mark.parametrize("shape", ["bytes", "base64", "JSON text"])
    def test_in_a_list(self, dag, run, secret_image, emulator, airflow_db, shape):
        text = base64.b64encode(secret_image).decode()
        items = [{"image": secret_image if shape == "bytes" else text}, {"image": picture(320, 320)}]
        dag.user_defined_macros = {"items": lambda: json.dumps([{"image": text}])}
        payload = {"image_list": "{{ items() }}" if shape == "JSON text" else items, "prompt": "p"}
        with dag:
            KirinSubmitOperator(task_id="submit", model=self.MANY, payload=payload)
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        self.assert_nowhere(ended, secret_image, airflow_db)
        shown = ended.rendered("submit")["payload"]
        assert "PNG image" in str(shown["image_list"]), "something has to stand in its place"

    def test_under_a_name_that_no_model_has(self, dag, run, secret_image, emulator, airflow_db):
        payload = {"image": picture(320, 320), "imgae": [{"x": base64.b64encode(secret_image).decode()}]}
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, model="{{ 'kirin_v1_6_i2v' }}", **AGAIN)
        ended = run(dag)
        assert ended.state == "failed" and "Did you mean 'image'" in ended.log
        self.assert_nowhere(ended, secret_image, airflow_db)

    def test_in_a_list_of_mapped_tasks(self, dag, secret_image):
        with dag, pytest.raises(KirinPayloadError, match=r"image_list\.0\.image .*path or storage URI"):
            KirinSubmitOperator.partial(
                task_id="submit", model=self.MANY, payload={"image_list": [{"image": secret_image}], "prompt": "p"}
            )

    def test_a_refused_image_is_not_shown_either(self, dag, run, secret_image, emulator, airflow_db):
        broken = secret_image[: len(secret_image) // 3 * 2]
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": broken, "prompt": "{{ 'x' * 3000 }}"}, **AGAIN)
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("submit").try_number == 1
        assert emulator.requests() == []
        self.assert_nowhere(ended, broken, airflow_db)

    def test_it_survives_a_retry(self, dag, run, secret_image, emulator, airflow_db):
        emulator.fault(on="video", kind="status", status=503, times=3)
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload={"image": secret_image},
                destination=str(airflow_db / "videos"),
                poll_interval=0.1,
                retries=1,
                retry_delay=timedelta(0),
            )
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert emulator.submitted == 1


class TestTheKeyStaysInTheConnection:
    def test_nowhere_in_database_and_logs(self, dag, run, payload, airflow_db, tmp_path):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            KirinTaskSensor(task_id="wrong", kirin_task_id="no-such-generation", timeout=1)
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=str(tmp_path), poll_interval=0.1
            )
        ended = run(dag)
        assert ended.states()["generate"] == "success"
        assert KEY not in ended.log and KEY not in ended.everything_stored()
        assert KEY.encode() not in all_files(airflow_db)

    def test_signed_queries_are_in_the_xcom_only(self, dag, run, payload, tmp_path):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload=payload)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            download = KirinDownloadOperator(task_id="download", kirin_task_id=submit.output, destination=str(tmp_path))
            wait >> download
        ended = run(dag)
        assert ended.state == "success"
        ours = [line for line in ended.log.splitlines() if "airflow_provider_kirin" in line or "Kirin" in line]
        assert ours and not [line for line in ours if "Signature=" in line and "next_kwargs" not in line]


class TestParsing:
    """What Airflow's DAG processor sees of a DAG file."""

    @staticmethod
    def parse(tmp_path: Path, body: str):
        from airflow.dag_processing.dagbag import DagBag

        path = tmp_path / "a_dag_file.py"
        head = """
            from datetime import datetime
            from airflow.sdk import DAG
            from airflow_provider_kirin.operators.kirin import *
            from airflow_provider_kirin.operators.kirin import KirinSubmitOperator, KirinGenerateVideoOperator
            from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
            with DAG("parsed", schedule=None, start_date=datetime(2026, 1, 1)):
        """
        path.write_text(textwrap.dedent(head) + textwrap.indent(textwrap.dedent(body), "    "))
        return DagBag(str(path))

    @pytest.mark.parametrize("operator", ["KirinSubmitOperator", "KirinGenerateVideoOperator"])
    def test_a_typo_in_a_parameter_is_an_import_error(self, airflow_db, tmp_path, operator):
        bag = self.parse(tmp_path, f'{operator}(task_id="s", payload={{"image": "a.jpg", "promt": "x"}})')
        (said,) = bag.import_errors.values()
        assert "promt" in said and "Did you mean 'prompt'?" in said
        assert bag.dags == {}

    def test_all_typos_at_once(self, airflow_db, tmp_path):
        payload = {"image": "a.jpg", "mode": "prro", "duration": 7, "cfg_scale": 2, "prompt": "", "image_tial": "b"}
        bag = self.parse(tmp_path, f'KirinSubmitOperator(task_id="s", payload={payload!r})')
        (said,) = bag.import_errors.values()
        for field in ("mode", "duration", "cfg_scale", "prompt", "image_tial"):
            assert f"- {field} = " in said, said
        assert "'pro'" in said and "'image_tail'" in said

    def test_a_rule_between_fields(self, airflow_db, tmp_path):
        bag = self.parse(tmp_path, 'KirinSubmitOperator(task_id="s", payload={"image_tail": "b.jpg"})')
        (said,) = bag.import_errors.values()
        assert "image_tail" in said and "pro" in said

    @pytest.mark.parametrize(
        "payload",
        [
            '{"image": "a.jpg", "mode": "{{ params.mode }}", "duration": "{{ params.duration }}"}',
            '"{{ params.payload }}"',
            '{"image": "{{ params.image }}"}',
            '{"image": "a.jpg", "prompt": "{% if x %}a{% endif %}"}',
        ],
    )
    def test_templates_are_left_for_later(self, airflow_db, tmp_path, payload):
        bag = self.parse(tmp_path, f'KirinSubmitOperator(task_id="s", payload={payload})')
        assert bag.import_errors == {} and list(bag.dags) == ["parsed"]

    def test_a_typo_beside_a_template_is_found_all_the_same(self, airflow_db, tmp_path):
        payload = '{"image": "{{ params.image }}", "prompt": "{{ params.p }}", "modde": "pro"}'
        bag = self.parse(tmp_path, f'KirinSubmitOperator(task_id="s", payload={payload})')
        (said,) = bag.import_errors.values()
        assert "Did you mean 'mode'?" in said

    def test_no_file_is_read_and_no_request_is_sent(self, airflow_db, tmp_path, emulator):
        bag = self.parse(tmp_path, 'KirinSubmitOperator(task_id="s", payload={"image": "/no/such/file.jpg"})')
        assert bag.import_errors == {} and emulator.requests() == []

    def test_a_typo_in_an_argument_is_airflows_own_error(self, airflow_db, tmp_path):
        bag = self.parse(tmp_path, 'KirinTaskSensor(task_id="s", kirin_taks_id="x")')
        (said,) = bag.import_errors.values()
        assert "kirin_taks_id" in said or "kirin_task_id" in said


class TestModels:
    """Any model of the family by its name; others only with leave."""

    def test_a_text_becomes_a_file_with_sound(self, dag, run, emulator, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                model="kirin_v2_6_t2v",
                payload={"prompt": "Rain in {{ dag.dag_id }}.", "sound": "on", "mode": "pro", "aspect_ratio": "1:1"},
                destination=str(tmp_path / "rain.mp4"),
                poll_interval=0.1,
            )
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        # Twice what a silent one costs.
        assert ended.result("generate")["usage"]["cost"] == "0.98"
        with av.open(str(tmp_path / "rain.mp4")) as container:
            assert {stream.type for stream in container.streams} == {"video", "audio"}

    def test_a_retry_of_a_list_of_images_adopts(self, dag, run, emulator, image_file):
        items = [{"image": image_file}, {"image": picture(320, 320)}]
        with dag:
            for name in ("first", "again"):
                KirinSubmitOperator(
                    task_id=name,
                    model="kirin_v1_6_multi_i2v",
                    payload={"image_list": items, "prompt": "p"},
                    external_task_id="{{ run_id }}",
                )
            dag.get_task("first") >> dag.get_task("again")
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        assert ended.result("first") == ended.result("again")

    def test_what_is_unchecked_is_reported_once(self, dag, run, emulator):
        with dag:
            KirinSubmitOperator(task_id="submit", model="kirin_v2_6_t2v", payload={"prompt": "p", "seed": 7})
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        assert ended.log.count("kirin_v2_6_t2v is only partly documented: 'seed' is sent unchecked") == 1

    def test_a_default_that_costs_more_is_reported(self, dag, run, emulator):
        with dag:
            KirinSubmitOperator(task_id="submit", model="kirin_video_o1", payload={"prompt": "p"})
        assert 'the default of kirin_video_o1 is "pro", which costs more' in run(dag).log

    def test_an_unknown_one_shows_when_the_dag_is_parsed(self, dag):
        with dag:
            for make in (KirinSubmitOperator, KirinGenerateVideoOperator, KirinSubmitOperator.partial):
                with pytest.raises(KirinPayloadError, match="Did you mean 'kirin_v2_6_t2v'"):
                    make(task_id=make.__qualname__, model="kirin_v2_6_tv2", payload={"prompt": "p"})

    def test_an_unknown_one_is_submitted_with_allow_unknown_model(self, dag, run, emulator, image_file):
        with dag:
            KirinSubmitOperator(
                task_id="submit",
                model="kirin_v9_i2v",
                payload={"image": image_file, "new": 1},
                allow_unknown_model=True,
                **AGAIN,
            )
            KirinSubmitOperator.partial(
                task_id="mapped", model="kirin_v9_i2v", payload={"new": 1}, allow_unknown_model=True
            ).expand(take=[1])
        ended = run(dag)
        assert "none of its parameters were checked" in ended.log
        # It reached the gateway, and it is the emulator that does not know the model.
        assert ended.state == "failed" and "App not found: kirin_v9_i2v" in ended.log
        assert emulator.submitted == 0


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_poll_that_is_answered_with_another_generation_is_no_end(
    dag, run, connect, raw_server, image_file, deferrable
):
    """Gateways do not repeat the external task id: only their own id identifies the video."""
    polls: list[str] = []

    def answer(connection, server):
        method, path = server.requests[-1].split(b" ")[:2]
        output = [{"content": [{"type": "video", "url": "http://v/1.mp4"}]}]
        if method == b"POST":
            body = {"id": "mine", "status": "in_progress"}
        elif not path.endswith(b"/mine"):
            return server.send(connection, whole({"message": "Request not found"}, status="404 Not Found"))
        else:
            polls.append("bobs" if len(polls) < 2 else "mine")
            body = {"id": polls[-1], "status": "completed", "output": output}
        return server.send(connection, whole(body))

    connect(raw_server(answer).url)
    with dag:
        KirinGenerateVideoOperator(
            task_id="generate",
            payload={"image": image_file, "prompt": "A prompt."},
            deferrable=deferrable,
            poll_interval=0.1,
            timeout=60,
        )
    ended = run(dag)
    assert ended.state == "success", ended.log[-3000:]
    assert ended.result("generate")["id"] == "mine"
    assert polls == ["bobs", "bobs", "mine"]
