"""``@task.kirin`` in real task runs."""

from __future__ import annotations

import base64
import io
import itertools
import os
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import task
from PIL import Image

from tests.support.dag_runs import all_files
from tests.support.video_host import is_mp4

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

AGAIN: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}
QUICK: dict[str, Any] = {"poll_interval": 0.1}


@pytest.fixture
def calls() -> list[Any]:
    """The calls of a test's functions."""
    return []


class TestTheFunction:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_its_payload_becomes_a_video_and_is_made_once(
        self, dag, run, image_file, emulator, tmp_path, calls, deferrable
    ):
        with dag:

            @task.kirin(destination=str(tmp_path / "{{ dag.dag_id }}.mp4"), deferrable=deferrable, **QUICK)
            def video(product: str, run_id: str | None = None) -> dict[str, Any]:
                calls.append(run_id)
                return {"image": image_file, "prompt": f"{product} turns. [[seconds:0.3]]"}

            video("A {{ dag.dag_id }}")
        ended = run(dag)
        assert ended.states() == {"video": "success"}, ended.log[-3000:]
        result, path = ended.result("video"), tmp_path / f"{dag.dag_id}.mp4"
        assert result["files"] == [path.as_uri()] and is_mp4(path.read_bytes())
        assert [row["id"] for row in emulator.ledger()["paid"]] == [result["id"]]
        assert result["usage"]["cost"] == "0.28" and result["external_task_id"].startswith("airflow-")
        assert calls == [ended.run_id], "once, with the context that it asked for, and not again after the deferral"
        assert f"A {dag.dag_id}" in str(ended.rendered("video")["op_args"])

    def test_its_annotation_does_not_take_the_result_apart(self, dag, run, image_file):
        with dag:

            @task.kirin(**QUICK)
            def video() -> dict[str, Any]:
                return {"image": image_file}

            @task
            def cost(result: dict[str, Any]) -> str:
                return result["usage"]["cost"] + " USD"

            cost(video())
        ended = run(dag)
        assert ended.result("cost") == "0.28 USD"
        keys = {key for task_id, _, key in ended.xcoms() if task_id == "video" and not key.startswith("_link_")}
        assert keys == {"return_value", "kirin_submission", "kirin_order", "kirin_usage"}

    def test_multiple_outputs_takes_it_apart(self, dag, run, image_file):
        with dag:

            @task.kirin(multiple_outputs=True, **QUICK)
            def video():
                return {"image": image_file}

            @task
            def name(kirin_task_id: str) -> str:
                return kirin_task_id

            name(video()["id"])
        ended = run(dag)
        assert ended.result("name") == ended.result("video")["id"]

    def test_returned_strings_are_not_rendered(self, dag, run, image_file, emulator):
        with dag:

            @task.kirin(**QUICK)
            def video():
                return {"image": image_file, "prompt": "{{ conn.kirin_default.password }}"}

            video()
        ended = run(dag)
        assert ended.state == "success"
        assert "{{ conn.kirin_default.password }}" in ended.log

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (None, "must be a mapping"),
            ([], "must be a mapping"),
            ({"promt": "x"}, "Did you mean 'prompt'"),
            ({"image": "https://h.example/a.png", "external_task_id": "x"}, "may return another one on the next try"),
        ],
    )
    def test_what_it_returns_is_judged_before_anything_is_paid(self, dag, run, emulator, payload, said):
        with dag:
            task.kirin(task_id="video", **AGAIN)(lambda: payload)()
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("video").try_number == 1
        assert said in ended.log and emulator.submitted == 0

    def test_an_exception_of_the_function_is_retried(self, dag, run, image_file, emulator, calls):
        with dag:

            @task.kirin(**QUICK, **AGAIN)
            def video():
                calls.append(1)
                if len(calls) == 1:
                    raise ConnectionError("the catalogue is away")
                return {"image": image_file}

            video()
        ended = run(dag)
        assert ended.state == "success" and ended.ti("video").try_number == 2 and emulator.submitted == 1

    def test_coroutines_generators_and_a_payload_argument_are_refused(self, dag):
        async def later(): ...

        def one_by_one():
            yield {}

        with dag:
            for function in (later, one_by_one):
                with pytest.raises(TypeError, match="plain function"):
                    task.kirin()(function)()
            with pytest.raises(TypeError, match="does not take a payload"):
                task.kirin(payload={})(lambda: {})()


class TestMapped:
    def test_over_a_literal(self, dag, run, image_file, emulator, tmp_path):
        with dag:

            @task.kirin(destination=str(tmp_path), **QUICK)
            def video(name: str, image: str):
                return {"image": image, "prompt": name}

            video.partial(image=image_file).expand(name=["teapot", "mug", "sneaker"])
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        results = [ended.result("video", index) for index in range(3)]
        assert len({result["id"] for result in results}) == 3 == emulator.submitted
        assert len(list(tmp_path.rglob("*.mp4"))) == 3

    def test_over_what_another_task_returns_and_on_to_the_next(self, dag, run, image_file, emulator):
        with dag:

            @task
            def products():
                return ["teapot", "mug"]

            @task.kirin(deferrable=False, **QUICK)
            def video(name: str):
                return {"image": image_file, "prompt": name}

            @task
            def total(results):
                return len(list(results))

            total(video.expand(name=products()))
        ended = run(dag)
        assert ended.result("total") == 2 == emulator.submitted

    def test_the_same_row_twice_is_two_videos(self, dag, run, image_file, emulator):
        with dag:
            task.kirin(task_id="video", **QUICK)(lambda name: {"image": image_file}).expand(name=["mug", "mug"])
        assert run(dag).state == "success" and emulator.submitted == 2


class TestPaidOnce:
    """The function returns another payload each time, as one that asks a language model does."""

    @pytest.fixture
    def whims(self, image_file, calls):
        def prompts(*args: Any):
            calls.append(args)
            return {"image": image_file, "prompt": f"Idea number {len(calls)}, {os.urandom(8).hex()} [[seconds:0.3]]"}

        return prompts

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_a_try_that_failed_after_paying(self, dag, run, whims, emulator, tmp_path, calls, deferrable):
        emulator.fault(on="video", kind="status", status=503, times=3)
        with dag:
            decorate = task.kirin(
                task_id="video", destination=str(tmp_path / "a.mp4"), deferrable=deferrable, **QUICK, **AGAIN
            )
            decorate(whims)("teapot")
        ended = run(dag)
        assert ended.state == "success" and ended.ti("video").try_number == 2
        assert len(calls) == 2, "called on each try"
        assert [row["id"] for row in emulator.ledger()["paid"]] == [ended.result("video")["id"]]
        assert "already exists" in ended.log and "The function's return value is not used" in ended.log

    @pytest.mark.parametrize("spoilt", [{"prompt": "x" * 2600}, {"external_task_id": "mine"}])
    def test_what_a_later_try_returns_need_not_even_be_a_payload(
        self, dag, run, image_file, emulator, tmp_path, spoilt
    ):
        emulator.fault(on="video", kind="status", status=503, times=3)
        tries = itertools.count()
        with dag:
            decorate = task.kirin(
                task_id="video", destination=str(tmp_path / "a.mp4"), deferrable=False, **QUICK, **AGAIN
            )
            decorate(lambda: {"image": image_file, **(spoilt if next(tries) else {})})()
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        assert [row["id"] for row in emulator.ledger()["paid"]] == [ended.result("video")["id"]]
        assert "This try's payload is not needed" in ended.log

    def test_a_timeout_while_waiting(self, dag, run, image_file, emulator):
        prompts = (f"Idea number {number} [[seconds:600]]" for number in itertools.count())
        with dag:
            decorate = task.kirin(task_id="video", timeout=0.1, deferrable=False, **QUICK, **AGAIN)
            decorate(lambda: {"image": image_file, "prompt": next(prompts)})()
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("video").try_number == 3 and emulator.submitted == 1
        assert "did not finish" in ended.log or "did not end" in ended.log

    def test_a_response_that_was_lost(self, dag, run, whims, emulator, calls):
        emulator.fault(on="submit", kind="lose_response")
        # The lookup after it fails too, so that the next try has to find the generation.
        emulator.fault(on="get", kind="status", status=400, times=1)
        with dag:
            task.kirin(task_id="video", on_unknown_submit="resubmit", **QUICK, **AGAIN)(whims)()
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        assert [row["id"] for row in emulator.ledger()["paid"]] == [ended.result("video")["id"]]

    def test_a_retry_that_is_called_with_something_else_adopts(self, dag, run, image_file, emulator, tmp_path):
        emulator.fault(on="video", kind="status", status=503, times=3)
        names = itertools.count()
        dag.user_defined_macros = {"name": lambda: f"product {next(names)}"}
        with dag:
            decorate = task.kirin(
                task_id="video", destination=str(tmp_path / "a.mp4"), deferrable=False, **QUICK, **AGAIN
            )
            decorate(lambda name: {"image": image_file})("{{ name() }}")
        ended = run(dag)
        assert ended.state == "success" and ended.ti("video").try_number == 2 and emulator.submitted == 1
        assert "external_task_id of this try differs" in ended.log


class TestImagesThatItReturns:
    @pytest.mark.parametrize("shape", ["bytes", "base64"])
    def test_are_in_the_request_and_nowhere_else(self, dag, run, emulator, airflow_db, tmp_path, shape):
        out = io.BytesIO()
        Image.frombytes("RGB", (320, 320), os.urandom(320 * 320 * 3)).save(out, "PNG")
        image, text = out.getvalue(), base64.b64encode(out.getvalue()).decode()
        emulator.fault(on="video", kind="status", status=503, times=3)
        with dag:

            @task.kirin(destination=str(tmp_path), **QUICK, **AGAIN)
            def video():
                return {"image": image if shape == "bytes" else text, "prompt": "p"}

            video()
        ended = run(dag)
        assert ended.state == "success" and ended.ti("video").try_number == 2 and emulator.submitted == 1
        stored = ended.everything_stored() + ended.log
        for piece in (text[:40], text[300:340], text[-40:], repr(image[300:312])[2:-1]):
            assert piece not in stored
        files = all_files(airflow_db)
        assert image[300:330] not in files and text[300:340].encode() not in files
