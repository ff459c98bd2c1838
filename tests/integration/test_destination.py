"""Where operators put videos, and images that are made to fit: whole DAG runs against the emulator."""

from __future__ import annotations

import io
import json
import re
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseHook, ObjectStoragePath, task
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from s3fs import S3FileSystem

from airflow_provider_kirin.download.destination import Destination
from airflow_provider_kirin.exceptions import KirinDestinationError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from tests.support.emulator import picture
from tests.support.s3 import keys, stored, unfinished
from tests.support.video_host import is_mp4
from tests.support.waiting import HANG

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")


@pytest.fixture
def dag(request) -> DAG:
    """An empty DAG, named after the test."""
    name = "".join(char if char.isalnum() else "_" for char in request.node.name)[:100]
    return DAG(name, schedule=None, start_date=datetime(2026, 1, 1))


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round."}


def folder_of(ended: Any) -> str:
    """Return the folders that the default name has for a run."""
    assert re.fullmatch(r"manual__\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", ended.run_id), "not as Airflow's own"
    return f"{ended.dag_id}/{ended.run_id.replace(':', '-').replace('+', '-')}"


class TestNames:
    def test_airflow_opens_a_file_whose_name_has_a_run_id(self, dag, run, payload, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=f"{tmp_path}/{{{{ run_id }}}}.mp4"
            )
        (uri,) = run(dag).result("generate")["files"]
        assert is_mp4(ObjectStoragePath(uri).read_bytes())

    def test_by_default_a_folder_has_one_for_each_dag_and_run(self, dag, run, payload, tmp_path):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=str(tmp_path))
        ended = run(dag)
        result = ended.result("generate")
        path = tmp_path / folder_of(ended) / f"{result['id']}-0.mp4"
        assert result["files"] == [path.as_uri()] and is_mp4(path.read_bytes())

    @pytest.mark.parametrize("asked_by", ["the id", "the external task id", "an id that it did not submit"])
    def test_of_a_download_that_is_mapped_stay_apart(self, dag, run, payload, tmp_path, conn_id, asked_by):
        rows = [{"payload": {**payload, "prompt": f"Row {n}."}, "external_task_id": f"row-{n}"} for n in range(2)]
        wanted = ["row-0", "row-1"]
        with dag:
            generate = KirinGenerateVideoOperator.partial(task_id="generate").expand_kwargs(rows)
            if asked_by == "the id":
                ids = generate.output.map(lambda result: result["id"])
            elif asked_by == "the external task id":
                ids = wanted
            else:
                with closing(KirinHook(conn_id)) as hook:
                    submitted = [hook.submit({**payload, "prompt": f"Other {n}."}).id for n in range(2)]
                    ids = wanted = [hook.wait(one, timeout=HANG, poll_interval=0.1).id for one in submitted]
            into = {"destination": str(tmp_path / "videos"), "filename_template": "{external_task_id}.mp4"}
            generate >> KirinDownloadOperator.partial(task_id="download", **into).expand(kirin_task_id=ids)
        ended = run(dag)
        paths = [tmp_path / "videos" / f"{name}.mp4" for name in wanted]
        assert [ended.result("download", n) for n in range(2)] == [[path.as_uri()] for path in paths]
        assert set((tmp_path / "videos").iterdir()) == set(paths)

    def test_from_a_template_with_what_only_the_run_knows(self, dag, run, payload, tmp_path):
        with dag:
            KirinGenerateVideoOperator.partial(
                task_id="generate",
                destination=str(tmp_path),
                filename_template="{{ dag.dag_id[:4] }}/{model}/{task_id}-{map_index:03d}.mp4",
            ).expand(payload=[payload, {**payload, "prompt": "The sun stands still."}])
        ended = run(dag)
        for index in (0, 1):
            path = tmp_path / "test" / "kirin_v1_6_i2v" / f"generate-{index:03d}.mp4"
            assert ended.result("generate", index)["files"] == [path.as_uri()] and path.exists()

    @pytest.mark.parametrize("template", ["{kirin_id}.mp4", "../{index}.mp4", "/tmp/{index}.mp4", ""])
    def test_a_template_that_cannot_work_is_an_import_error(self, payload, template):
        with pytest.raises(KirinDestinationError, match="filename_template"):
            KirinGenerateVideoOperator(task_id="g", payload=payload, destination="/d", filename_template=template)
        with pytest.raises(KirinDestinationError, match="filename_template"):
            KirinDownloadOperator(task_id="d", kirin_task_id="x", destination="/d", filename_template=template)

    @pytest.mark.parametrize("max_bytes", [0, -1, True, "1", 1.5, None])
    def test_an_invalid_max_bytes_is_an_import_error(self, payload, max_bytes):
        with pytest.raises(KirinDestinationError, match="max_bytes"):
            KirinGenerateVideoOperator(task_id="g", payload=payload, destination="/d", max_bytes=max_bytes)

    def test_a_template_that_escapes_when_it_is_rendered_costs_nothing(self, dag, run, payload, emulator, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path),
                filename_template="{{ '..' }}/{index}.mp4",
                retries=2,
            )
        ended = run(dag)
        assert ended.state == "failed" and "stays in its folder" in ended.log
        assert ended.ti("generate").try_number == 1 and emulator.submitted == 0

    def test_a_template_for_a_destination_that_is_a_file_costs_nothing(self, dag, run, payload, emulator, tmp_path):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path / "a.mp4"),
                filename_template="{index}.mp4",
            )
        ended = run(dag)
        assert ended.state == "failed" and "is a file, but filename_template" in ended.log
        assert emulator.submitted == 0


class TestWhatIsThere:
    def test_a_name_that_is_taken_costs_nothing(self, dag, run, payload, emulator, tmp_path):
        (tmp_path / "generate.mp4").write_bytes(b"another")
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path),
                filename_template="{task_id}.mp4",
                overwrite=False,
            )
        ended = run(dag)
        assert ended.state == "failed" and "already exists" in ended.log and emulator.submitted == 0

    def test_what_a_try_that_died_had_stored_already_is_no_error(self, dag, run, payload, emulator, tmp_path):
        class DiesAfterTheDownload(KirinGenerateVideoOperator):
            def execute(self, context):
                result = super().execute(context)
                if context["ti"].try_number == 1:
                    raise RuntimeError("the worker dies")
                return result

        with dag:
            DiesAfterTheDownload(
                task_id="generate",
                payload=payload,
                destination=str(tmp_path / "a.mp4"),
                overwrite=False,
                deferrable=False,
                retries=1,
                retry_delay=timedelta(0),
            )
        ended = run(dag)
        assert ended.state == "success" and ended.ti("generate").try_number == 2
        assert "not downloaded again" in ended.log and emulator.submitted == 1

    def test_a_repeated_download_fetches_nothing(self, dag, run, payload, emulator, tmp_path):
        with dag:
            generate = KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=str(tmp_path))
            again = KirinDownloadOperator(
                task_id="again",
                kirin_task_id="{{ ti.xcom_pull(task_ids='generate')['id'] }}",
                destination=str(tmp_path),
            )
            generate >> again
        ended = run(dag)
        assert ended.result("again") == ended.result("generate")["files"]
        assert ended.log.count("not downloaded again") >= 1


class TestFreshLinks:
    def test_a_link_that_expires_under_way_is_replaced(self, dag, run, payload, emulator, tmp_path):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=str(tmp_path), retries=0)
        emulator.fault(on="video", kind="status", status=403, times=1)
        ended = run(dag)
        assert ended.state == "success" and "Continuing with a fresh link" in ended.log
        assert "Signature" not in ended.log


class TestADestination:
    def test_may_be_a_path_object(self, dag, run, payload, emulator, tmp_path, s3):
        with dag:
            generate = KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=tmp_path / "{{ dag.dag_id }}.mp4"
            )
            again = KirinDownloadOperator(
                task_id="again",
                kirin_task_id="{{ ti.xcom_pull(task_ids='generate')['id'] }}",
                destination=ObjectStoragePath("s3://studio@videos/{{ dag.dag_id }}/"),
                filename_template="a.mp4",
            )
            generate >> again

            @task.kirin(destination=ObjectStoragePath(f"file://{tmp_path}/b.mp4"))
            def function():
                return payload

            function()
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        paths = [tmp_path / f"{ended.dag_id}.mp4", tmp_path / "b.mp4"]
        assert ended.result("generate")["files"] == [paths[0].as_uri()]
        assert ended.result("function")["files"] == [paths[1].as_uri()]
        assert all(is_mp4(path.read_bytes()) for path in paths)
        assert ended.result("again") == [f"s3://studio@videos/{ended.dag_id}/a.mp4"]
        assert keys(s3) == [f"{ended.dag_id}/a.mp4"]

    def test_may_come_as_one_from_another_task(self, dag, run, payload, tmp_path):
        with dag:

            @task
            def where():
                return ObjectStoragePath(f"file://{tmp_path}/a.mp4")

            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=where())
        ended = run(dag)
        assert ended.state == "success", ended.log[-3000:]
        assert is_mp4((tmp_path / "a.mp4").read_bytes())

    @pytest.mark.parametrize("destination", ["{{ '' }}", "{{ none or '\n' }}"])
    def test_an_empty_destination_costs_nothing(self, dag, run, payload, emulator, destination):
        with dag:
            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=destination, retries=2)
        ended = run(dag)
        assert ended.states()["generate"] == "failed" and ended.ti("generate").try_number == 1
        assert "turned out to be empty" in ended.log and emulator.submitted == 0

    def test_a_destination_that_is_not_a_string_costs_nothing(self, dag, run, payload, emulator, tmp_path):
        with dag:

            @task
            def where():
                return [str(tmp_path)]

            KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=where(), retries=2)
        ended = run(dag)
        assert ended.states()["generate"] == "failed" and ended.ti("generate").try_number == 1
        assert "must be a string, a Path or an ObjectStoragePath" in ended.log and emulator.submitted == 0


class TestAStorageWithoutItsConnection:
    @pytest.fixture(autouse=True)
    def vault(self, monkeypatch):
        """A storage that looks its connection up, as those of Google and Microsoft do; Amazon's does without."""
        stores = {"memory": lambda conn_id: BaseHook.get_connection(conn_id)}
        monkeypatch.setattr("airflow.sdk.io.fs._register_filesystems", lambda: stores)

    def test_as_a_destination_costs_nothing_and_is_not_tried_again(self, dag, run, payload, emulator):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination="memory://nope@videos/a", retries=2
            )
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("generate").try_number == 1 and emulator.submitted == 0
        assert "names an Airflow connection, before its @, that does not exist" in ended.log and "nope" in ended.log

    def test_as_an_image_too(self, dag, run, emulator):
        payload = {"image": "memory://nope@images/a.jpg", "prompt": "p"}
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, retries=2)
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("submit").try_number == 1 and emulator.submitted == 0
        assert "and be readable (UnknownConnectionError)" in ended.log


def test_to_s3(dag, run, payload, s3):
    with dag:
        KirinGenerateVideoOperator(task_id="generate", payload=payload, destination="s3://studio@videos/a/")
    ended = run(dag)
    result = ended.result("generate")
    key = f"a/{folder_of(ended)}/{result['id']}-0.mp4"
    assert result["files"] == [f"s3://studio@videos/{key}"]
    assert keys(s3) == [key] and unfinished(s3) == [] and is_mp4(stored(s3, key))


class TestABucketIsAskedForBeforeAnythingIsPaid:
    def generate(self, payload, destination, **options):
        KirinGenerateVideoOperator(task_id="generate", payload=payload, destination=destination, **options)

    @pytest.mark.parametrize("destination", ["s3://studio@vidoes/a", "s3://studio@vidoes", "s3://studio@vidoes/a.mp4"])
    def test_a_missing_bucket_costs_nothing(self, dag, run, payload, emulator, s3, destination):
        with dag:
            self.generate(payload, destination, retries=2)
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("generate").try_number == 1 and emulator.submitted == 0
        assert "the bucket 'vidoes' does not exist" in ended.log
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["videos"]

    def test_by_a_table_for_each_row(self, dag, run, payload, emulator, s3):
        with dag:
            KirinGenerateVideoOperator.partial(task_id="generate", payload=payload).expand(
                destination=["s3://studio@vidoes/a", "s3://studio@videos/b", "s3://studio@vidoes/c"]
            )
        states = run(dag).states()
        assert [states[f"generate[{row}]"] for row in range(3)] == ["failed", "success", "failed"]
        assert emulator.submitted == 1

    def test_of_a_storage_that_is_down_in_another_try(self, dag, run, payload, emulator, s3, monkeypatch):
        nowhere = {"conn_type": "aws", "login": "a", "password": "b", "extra": {"endpoint_url": "http://127.0.0.1:9"}}
        monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", json.dumps(nowhere))
        with dag:
            self.generate(payload, "s3://nowhere@videos/a", retries=1, retry_delay=timedelta(0))
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("generate").try_number == 2 and emulator.submitted == 0
        assert "cannot be reached" in ended.log

    def test_a_bucket_with_write_only_credentials_is_taken(self, dag, run, payload, emulator, s3, monkeypatch):
        """Nobody needs the right to ask for a bucket in order to write into it."""
        asked = []

        call = S3FileSystem._call_s3

        async def without_rights(self, method, *arguments, **options):
            if method == "head_bucket":
                asked.append(options["Bucket"])
                raise PermissionError("Forbidden")
            return await call(self, method, *arguments, **options)

        monkeypatch.setattr(S3FileSystem, "_call_s3", without_rights)
        with dag:
            self.generate(payload, "s3://studio@videos/a.mp4")
        assert run(dag).state == "success" and asked and keys(s3) == ["a.mp4"]

    def test_an_empty_bucket_that_may_only_be_listed_is_taken(self, monkeypatch):
        """As gcsfs does it: Google's roles for objects hold the right to list them, and none to ask for the bucket."""

        class ObjectAdmin(MemoryFileSystem):
            def info(self, path, **options):
                try:
                    raise OSError(f"Forbidden: https://storage.googleapis.com/storage/v1/b/{path}")
                except OSError:
                    # It lists the bucket, and nothing is in it.
                    raise FileNotFoundError(path)  # noqa: B904

        stores = {"gs": lambda conn_id, storage_options: ObjectAdmin()}
        monkeypatch.setattr("airflow.sdk.io.fs._register_filesystems", lambda: stores)
        Destination("gs://videos/a.mp4").check()

    def test_in_a_storage_without_buckets_nothing_has_to_exist(self, monkeypatch):
        stores = {"memory": lambda conn_id, storage_options: MemoryFileSystem()}
        monkeypatch.setattr("airflow.sdk.io.fs._register_filesystems", lambda: stores)
        Destination("memory://nothing/here/a.mp4").check()


class TestImagesThatFit:
    @staticmethod
    def panorama(kind: str = "WEBP") -> bytes:
        return picture(1200, 200, kind)

    def test_are_made_on_request_and_the_log_says_how(self, dag, run, emulator, tmp_path):
        path = tmp_path / "panorama.webp"
        path.write_bytes(self.panorama())
        with dag:
            KirinSubmitOperator(task_id="s", payload={"image": str(path), "prompt": "p"}, fit_images="auto")
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        assert "image was made to fit. It was WebP, 1200 x 200 px" in ended.log
        assert "padded to 1200 x 480 px, saved as JPEG of quality 95. It is JPEG, 1200 x 480 px" in ended.log

    def test_a_retry_finds_what_the_first_try_submitted(self, dag, run, emulator, tmp_path):
        path = tmp_path / "panorama.webp"
        path.write_bytes(self.panorama())
        with dag:
            KirinGenerateVideoOperator(
                task_id="g",
                payload={"image": str(path), "prompt": "p"},
                fit_images="auto",
                destination=str(tmp_path),
                retries=1,
                retry_delay=timedelta(0),
            )
        emulator.fault(on="video", kind="status", status=503, times=3)
        ended = run(dag)
        assert ended.state == "success" and ended.ti("g").try_number == 2 and emulator.submitted == 1

    def test_bytes_stay_out_of_the_database(self, dag, run, emulator):
        with dag:
            KirinSubmitOperator(task_id="s", payload={"image": self.panorama(), "prompt": "p"}, fit_images="auto")
        ended = run(dag)
        assert ended.state == "success"
        assert "UklGR" not in ended.everything_stored() + ended.log

    def test_without_the_request_nothing_is_sent(self, dag, run, emulator):
        with dag:
            KirinSubmitOperator(task_id="s", payload={"image": self.panorama(), "prompt": "p"})
        ended = run(dag)
        assert ended.state == "failed" and "the content of the image must be JPEG or PNG" in ended.log
        assert emulator.submitted == 0

    def test_what_cannot_be_made_to_fit_costs_nothing(self, dag, run, emulator):
        bomb = io.BytesIO()
        Image.new("1", (30_000, 3_100)).save(bomb, "PNG")
        with dag:
            KirinSubmitOperator(
                task_id="s", payload={"image": bomb.getvalue(), "prompt": "p"}, fit_images="auto", retries=1
            )
        ended = run(dag)
        assert ended.state == "failed" and "89,478,485 pixels" in ended.log and emulator.submitted == 0

    def test_an_invalid_fit_images_is_an_import_error(self, payload):
        with pytest.raises(ValueError, match="fit_images = 'yes' must be"):
            KirinSubmitOperator(task_id="s", payload=payload, fit_images="yes")
