"""An argument that was a template, or another task's output, and turns out empty: refused before anything is paid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import task

from airflow_provider_kirin.decorators.kirin import kirin_task
from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.testing import fast_retries
from tests.support.dag_runs import all_files
from tests.support.emulator import KEY

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

EMPTY = "turned out to be empty"
#: Ways to write an argument that turns out None.
AS_TEMPLATE = "{{ ti.xcom_pull('nothing') }}"
AS_JSON = "{{ ti.xcom_pull('nothing') | tojson }}"
AS_OUTPUT = "output"
ARGUMENTS = ["destination", "filename_template", "max_cost_usd", "external_task_id", "prompt", "image_tail", "payload"]


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun stands still."}


@task
def nothing() -> None:
    return None


def refused(ended: Any, field: str, emulator: Any, task_id: str = "generate") -> bool:
    """Whether the task failed at once, named the field, and nothing was asked for or paid."""
    states = {name.partition("[")[0]: state for name, state in ended.states().items()}
    assert states[task_id] == "failed", ended.log[-3000:]
    assert f"{field} = " in ended.log, ended.log[-3000:]
    return emulator.submitted == 0 and emulator.requests("POST") == []


class TestRefusedBeforeAnythingIsPaid:
    @pytest.mark.parametrize(
        ("written", "native"),
        [(AS_TEMPLATE, False), (AS_TEMPLATE, True), (AS_JSON, False), (AS_OUTPUT, False)],
        ids=["template", "native template", "json", "output"],
    )
    @pytest.mark.parametrize("argument", ARGUMENTS)
    def test_an_argument(self, dag, run, payload, emulator, tmp_path, argument, written, native):
        dag.render_template_as_native_obj = native
        with dag:
            empty = nothing()
            value = empty if written == AS_OUTPUT else written
            given: dict[str, Any] = {"payload": payload, "destination": str(tmp_path)}
            if argument in ("prompt", "image_tail"):
                given["payload"] = {**payload, "mode": "pro", argument: value}
            else:
                given[argument] = value
            empty >> KirinGenerateVideoOperator(task_id="generate", retries=2, **given)
        ended = run(dag)
        assert refused(ended, argument, emulator) and ended.ti("generate").try_number == 1
        assert EMPTY in ended.log or argument == "payload"

    @pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
    @pytest.mark.parametrize("argument", ["destination", "max_cost_usd", "external_task_id"])
    def test_of_a_decorated_task(self, dag, run, payload, emulator, tmp_path, argument, native):
        dag.render_template_as_native_obj = native
        with dag:
            empty = nothing()

            @kirin_task(**{"destination": str(tmp_path), argument: AS_TEMPLATE})
            def generate(unused: Any) -> dict[str, Any]:
                return payload

            empty >> generate(unused=None)
        assert refused(run(dag), argument, emulator)

    @pytest.mark.parametrize(
        ("argument", "how"),
        [
            ("destination", "expand_kwargs"),
            ("external_task_id", "rows with templates"),
            *(
                ("max_cost_usd", how)
                for how in ("expand", "expand_kwargs", "partial", "partial template", "rows with templates")
            ),
        ],
    )
    def test_of_a_mapped_task(self, dag, run, payload, emulator, tmp_path, argument, how):
        with dag:

            @task
            def values() -> list[Any]:
                return [None]

            @task
            def rows(value: Any = None) -> list[dict[str, Any]]:
                return [{"payload": payload, argument: value}]

            fixed = {} if argument == "destination" else {"destination": str(tmp_path)}
            partial = KirinGenerateVideoOperator.partial
            if how == "expand":
                partial(task_id="generate", **fixed, payload=payload).expand(**{argument: values()})
            elif how == "expand_kwargs":
                partial(task_id="generate", **fixed).expand_kwargs(rows())
            elif how == "rows with templates":
                partial(task_id="generate", **fixed).expand_kwargs(rows(AS_TEMPLATE))
            else:
                value = AS_TEMPLATE if how == "partial template" else nothing()
                partial(task_id="generate", **fixed, **{argument: value}).expand(payload=[payload])
        assert refused(run(dag), argument, emulator)

    @pytest.mark.parametrize("argument", ["destination", "filename_template"])
    def test_of_a_download(self, dag, run, payload, tmp_path, argument):
        paid = KirinHook().submit(payload).id
        with dag:
            given = {"destination": str(tmp_path), argument: AS_TEMPLATE}
            KirinDownloadOperator(task_id="generate", kirin_task_id=paid, **given)
        ended = run(dag)
        assert ended.states()["generate"] == "failed" and f"{argument} = 'None': it was written" in ended.log
        assert list(tmp_path.iterdir()) == []

    def test_after_the_wait_it_does_not_end_green_without_a_file(self, dag, run, payload, emulator, airflow_db):
        """The operator that resumes after a deferral is another object, and its arguments are rendered again."""

        def where(ti: Any) -> Any:
            return None if emulator.submitted else str(airflow_db / "videos")

        dag.user_defined_macros = {"where": where}
        dag.render_template_as_native_obj = True
        slow = {**payload, "prompt": "[[seconds:0.5]]"}
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=slow, destination="{{ where(ti) }}", poll_interval=0.1
            )
        ended = run(dag)
        assert ended.state == "failed" and "destination = None: it was written" in ended.log
        assert emulator.submitted == 1 and ended.xcoms()["generate", -1, "kirin_usage"]


class TestALiteralNoneMeansNotGiven:
    @pytest.mark.parametrize("how", ["plain", "partial", "expand", "expand_kwargs"])
    def test_everywhere(self, dag, run, payload, emulator, how):
        nothing_given = dict.fromkeys(["destination", "filename_template", "max_cost_usd", "external_task_id"])
        payload = {**payload, "negative_prompt": None}
        partial = KirinGenerateVideoOperator.partial
        with dag:
            if how == "plain":
                KirinGenerateVideoOperator(task_id="generate", payload=payload, **nothing_given)
            elif how == "partial":
                partial(task_id="generate", **nothing_given).expand(payload=[payload])
            elif how == "expand":
                partial(task_id="generate", payload=payload).expand(destination=[None])
            else:
                partial(task_id="generate").expand_kwargs([{"payload": payload, **nothing_given}])
        assert run(dag).state == "success" and emulator.submitted == 1

    @pytest.mark.parametrize("how", ["partial", "default_args", "left out"])
    def test_beside_rows_of_another_task(self, dag, run, payload, emulator, how):
        literal: dict[str, Any] = {"destination": None, "external_task_id": None}
        if how == "default_args":
            dag.default_args = literal
        with dag:

            @task
            def rows() -> list[dict[str, Any]]:
                return [{"payload": {**payload, "negative_prompt": None}}]

            fixed = literal if how == "partial" else {}
            KirinGenerateVideoOperator.partial(task_id="generate", **fixed).expand_kwargs(rows())
        assert run(dag).state == "success" and emulator.submitted == 1

    def test_a_subclass_s_own_arguments_are_its_own(self, dag, run, payload, emulator):
        with dag:
            WithANote(task_id="generate", payload=payload, note=AS_TEMPLATE)
        dag.render_template_as_native_obj = True
        assert run(dag).state == "success" and emulator.submitted == 1


class WithANote(KirinGenerateVideoOperator):
    template_fields = (*KirinGenerateVideoOperator.template_fields, "note")

    def __init__(self, *, note: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.note = note


class TestADestinationNamesAPlace:
    @pytest.mark.parametrize(
        "destination", ["", " ", "videos", "./videos", "None", "file:/videos", "file://", "s3:///", "://videos"]
    )
    def test_a_literal_one_when_the_dag_is_parsed(self, payload, destination):
        with pytest.raises(KirinDestinationError, match="destination = "):
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=destination)
        with pytest.raises(KirinDestinationError, match="destination = "):
            KirinDownloadOperator(task_id="download", kirin_task_id="a", destination=destination)

    @pytest.mark.parametrize(
        "rendered", ["None", "null", "", "videos", "../videos", "None/videos", "file://", "file:///"]
    )
    def test_a_rendered_one_before_anything_is_paid(self, dag, run, payload, emulator, rendered):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination="{{ params.where }}", params={"where": rendered}
            )
        assert refused(run(dag), "destination", emulator)

    def test_home_is_one(self, dag, run, payload, emulator, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination="~/videos/a.mp4")
        assert run(dag).state == "success" and (tmp_path / "videos" / "a.mp4").is_file()


class TestNativeRendering:
    """``render_template_as_native_obj=True`` makes numbers of strings that look like some."""

    @pytest.fixture
    def native(self, dag):
        dag.render_template_as_native_obj = True
        return dag

    def test_strings_and_ids_take_numbers(self, native, run, payload, emulator, tmp_path):
        numbers = {"prompt": "{{ '42' }}", "duration": "{{ 10 }}"}
        with native:
            submit = KirinSubmitOperator(
                task_id="submit",
                payload={**payload, **numbers},
                external_task_id="{{ 900 + 17 }}",
                take="{{ 2 }}",
            )
            wait = KirinTaskSensor(task_id="wait", kirin_task_id="{{ 917 }}", poke_interval=0.1)
            download = KirinDownloadOperator(
                task_id="download",
                kirin_task_id="{{ 917 }}",
                destination=str(tmp_path),
                filename_template="{external_task_id}.mp4",
            )
            submit >> wait >> download
        ended = run(native)
        assert ended.state == "success", ended.log[-3000:]
        (paid,) = emulator.ledger()["paid"]
        assert "external task id 917: " in ended.log and "prompt='42', duration='10'" in ended.log
        assert ended.result("wait")["id"] == ended.result("submit") == paid["id"], "one id, one result"
        assert (tmp_path / "917.mp4").is_file()

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"prompt": "{{ 'True' }}"}, "prompt"),
            ({"prompt": "{{ '[1, 2]' }}"}, "prompt"),
            ({"negative_prompt": "{{ {'a': 1} }}"}, "negative_prompt"),
        ],
    )
    def test_what_cannot_be_meant_names_the_cause(self, native, run, payload, emulator, given, field):
        with native:
            KirinGenerateVideoOperator(task_id="generate", payload={**payload, **given})
        ended = run(native)
        assert refused(ended, field, emulator) and "render_template_as_native_obj=True turned" in ended.log

    @pytest.mark.parametrize("rendered", ["42", "['/videos']"])
    def test_a_destination_too(self, native, run, payload, emulator, rendered):
        with native:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination="{{ params.where }}", params={"where": rendered}
            )
        ended = run(native)
        assert refused(ended, "destination", emulator) and "render_template_as_native_obj=True turned" in ended.log

    def test_an_id_that_lost_its_letters(self, native, run, emulator):
        with native:
            KirinTaskSensor(task_id="wait", kirin_task_id="{{ '12e45' }}")
        ended = run(native)
        assert ended.state == "failed" and "render_template_as_native_obj=True" in ended.log


@pytest.mark.parametrize(
    "operator",
    [
        lambda: KirinSubmitOperator(task_id="t", payload={"prompt": "p", "image": "https://h.example/a.png"}),
        lambda: KirinGenerateVideoOperator(task_id="t", payload={"prompt": "p", "image": "https://h.example/a.png"}),
        lambda: KirinDownloadOperator(task_id="t", kirin_task_id="a", destination="/d"),
        lambda: KirinTaskSensor(task_id="t", kirin_task_id="a"),
    ],
)
def test_without_a_task_instance_the_error_says_what_is_missing(operator):
    with pytest.raises(ValueError, match=r'context\["ti"\], the task instance, is missing'):
        operator().execute({})


class TestSecrets:
    CELL = "{{ conn.kirin_default.password }}"

    def test_a_cell_of_a_table_does_not_send_the_key(self, dag, run, payload, emulator, airflow_db):
        """Airflow renders templates in the rows of expand_kwargs()."""
        with dag:

            @task
            def rows() -> list[dict[str, Any]]:
                return [{"payload": {**payload, "prompt": f"Say {self.CELL}"}}]

            KirinGenerateVideoOperator.partial(task_id="generate").expand_kwargs(rows())
        ended = run(dag)
        assert refused(ended, "prompt", emulator) and "contains the connection's API key" in ended.log
        assert KEY not in ended.log + ended.everything_stored() and KEY.encode() not in all_files(airflow_db)

    @pytest.mark.parametrize("how", ["literal", "template", "output", "mapped"])
    def test_a_signed_url_is_sent_and_not_shown(self, dag, run, emulator, airflow_db, picture_url, how):
        with dag:
            unsigned = picture_url.partition("?")[0]
            given: Any = picture_url
            if how == "template":
                given = unsigned + "?X-Amz-Signature={{ signature }}"
                dag.user_defined_macros = {"signature": SIGNATURE}
            payload = {"image": given, "prompt": "The sun stands still."}
            if how == "mapped":
                KirinGenerateVideoOperator.partial(task_id="generate").expand(payload=made(payload))
            else:
                if how == "output":
                    payload["image"] = with_signature(unsigned)
                KirinGenerateVideoOperator(task_id="generate", payload=payload)
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        assert emulator.submitted == 1, "the signature was needed, and sent"
        index = 0 if how == "mapped" else -1
        assert ended.rendered("generate", index)["payload"]["image"] == unsigned + "?..."
        assert SIGNATURE not in json.dumps(ended.rendered("generate", index)) + ended.log
        if how in ("literal", "template"):
            assert SIGNATURE not in ended.everything_stored() + all_files(airflow_db).decode(errors="replace")


SIGNATURE = "secret-sign-61d0f0c2"


@task(show_return_value_in_logs=False)
def made(payload: dict[str, Any]) -> list[dict[str, Any]]:
    return [payload]


@task(show_return_value_in_logs=False)
def with_signature(url: str) -> str:
    return f"{url}?X-Amz-Signature={SIGNATURE}"


@pytest.fixture
def picture_url(image_bytes, raw_server) -> str:
    """A presigned URL: without its signature the host says 403."""
    good = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image_bytes)}\r\n\r\n".encode()
    bad = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

    def answer(connection, server):
        is_signed = f"X-Amz-Signature={SIGNATURE}".encode() in server.requests[-1]
        server.send(connection, good + image_bytes if is_signed else bad)

    return f"{raw_server(answer).url}/cup.jpg?X-Amz-Signature={SIGNATURE}"


def test_a_connection_that_does_not_exist_holds_a_worker_for_15_seconds(dag, run, payload, emulator):
    with dag:
        KirinSubmitOperator(task_id="submit", payload=payload, kirin_conn_id="kirin_defualt")
    with fast_retries() as waited:
        ended = run(dag)
    assert ended.state == "failed" and "There is no Airflow connection 'kirin_defualt'" in ended.log
    assert sum(waited) == 15.5
