"""The batch operator against the emulator, over real sockets, on a real disk and a real S3."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import Asset, AssetAlias, task
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_kirin.api.cost_report import total
from airflow_provider_kirin.api.generations import GenerationRecord, merge_records
from airflow_provider_kirin.cli.records import with_batches
from airflow_provider_kirin.exceptions import (
    KirinBatchError,
    KirinBudgetError,
    KirinConfigError,
    KirinDestinationError,
    KirinTableError,
)
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.state.journal import SupersededError
from airflow_provider_kirin.testing import fast_retries
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger, fits_into_arguments
from tests.support.emulator import KEY
from tests.support.s3 import keys
from tests.support.waiting import HANG

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What saves worker runs in a real Airflow only takes time here."""
    monkeypatch.setattr("airflow_provider_kirin.api.batch.schedule._PATIENCE", 0.2)
    monkeypatch.setattr("airflow_provider_kirin.api.batch.schedule._PATIENCE_AT_END", 0.2)
    monkeypatch.setattr("airflow_provider_kirin.api.batch.schedule.MIN_PAUSE", 0.2)


@pytest.fixture
def rows(image_file: str) -> Any:
    def make(count: int, prompt: str = "Row {}. [[seconds:0.2]]") -> list[dict[str, Any]]:
        return [{"sku": f"s{n}", "image": image_file, "prompt": prompt.format(n)} for n in range(count)]

    return make


def batch(folder: Path, payloads: Any, **how: Any) -> KirinBatchOperator:
    defaults: dict[str, Any] = {"key": "sku", "destination": str(folder), "poll_interval": 0.1, "max_in_flight": 3}
    return KirinBatchOperator(task_id="videos", payloads=payloads, **defaults | how)


class Instance(SimpleNamespace):
    """A task instance, as far as the operator asks for it: try and round are the test's to choose."""

    def __init__(self, try_number: int = 1, max_tries: int = 2) -> None:
        super().__init__(dag_id="d", run_id="r", task_id="videos", map_index=-1, start_date=None)
        self.try_number, self.max_tries = try_number, max_tries
        self.xcoms: dict[str, Any] = {}
        self.outlet_events = OutletEventAccessors()

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, **how: Any) -> list[Any]:
        return []

    def context(self) -> Any:
        return {"ti": self, "outlet_events": self.outlet_events, "dag": SimpleNamespace(tasks=[])}


def resume(operator: KirinBatchOperator, instance: Instance, *, first: str = "execute", waves: int = 999) -> Any:
    """Do what Airflow does: run, defer, let a copy of the trigger fire, and resume; return the result."""
    event: Any = None
    for number in range(waves):
        try:
            if number == 0 and first == "execute":
                return operator.execute(instance.context())
            return operator.execute_complete(instance.context(), event)
        except TaskDeferred as deferred:
            path, arguments = deferred.trigger.serialize()
            assert path == "airflow_provider_kirin.triggers.batch.KirinBatchTrigger"
            event = asyncio.run(fire(KirinBatchTrigger(**json.loads(json.dumps(arguments)))))
            assert len(json.dumps(event)) < 200
    return None


async def fire(trigger: KirinBatchTrigger) -> Any:
    async with asyncio.timeout(HANG):
        return (await anext(trigger.run())).payload


def manifest(folder: Path) -> dict[str, dict[str, Any]]:
    (path,) = folder.rglob("manifest.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["key"]: line for line in lines}


class TestABatch:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_from_a_csv_file_to_videos_and_one_asset_event(self, dag, run, rows, emulator, tmp_path, deferrable):
        table = tmp_path / "products.csv"
        lines = [f"{row['sku']},{row['image']},{row['prompt']}," for row in rows(7)]
        table.write_text("\n".join(["sku,image,prompt,negative_prompt", *lines]))
        with dag:
            batch(
                tmp_path / "out", str(table), deferrable=deferrable, outlets=[Asset("kirin-batch"), AssetAlias("all")]
            )
        ended = run(dag)
        assert ended.state == "success"
        result = ended.result("videos")
        folder = tmp_path / "out" / dag.dag_id / ended.run_id.replace(":", "-").replace("+", "-") / "videos"
        assert result["manifest"] == (folder / "manifest.jsonl").as_uri()
        assert {**result, "seconds": 0, "manifest": "", "folder": ""} == {
            "schema_version": 1,
            "manifest": "",
            "folder": "",
            "rows": 7,
            "counts": {"saved": 7},
            "cost_usd": "1.96",
            "seconds": 0,
        }
        assert len(emulator.ledger()["paid"]) == 7
        lines = manifest(folder)
        assert list(lines) == [f"s{n}" for n in range(7)]
        for key, line in lines.items():
            assert line["status"] == "saved" and line["cost"] == "0.28" and line["seconds"] > 0
            assert line["files"] == [(folder / f"{key}-0.mp4").as_uri()]
            assert (folder / f"{key}-0.mp4").stat().st_size > 1000
        assert {line["kirin_task_id"] for line in lines.values()} == {row["id"] for row in emulator.ledger()["paid"]}
        assert [path.name for path in (folder / "_journal").iterdir()] == ["head.json"]
        events = {event.asset.uri: event.extra for event in ended.asset_events()}
        assert set(events) == {Asset("kirin-batch").uri, result["manifest"]}
        assert all(extra["uri"] == result["manifest"] and extra["rows"] == 7 for extra in events.values())
        assert "7 of 7 done, 0 in flight, 0 failed, 1.96 USD" in ended.log

    def test_a_clear_costs_nothing_and_asks_for_nothing(self, rows, emulator, tmp_path):
        first = resume(batch(tmp_path, rows(4)), Instance())
        asked = len(emulator.requests())
        again = resume(batch(tmp_path, rows(4)), Instance(try_number=2, max_tries=3))
        assert {**again, "seconds": 0} == {**first, "seconds": 0}
        assert len(emulator.requests()) == asked

    def test_after_a_clear_a_changed_row_and_a_new_one_are_submitted(self, rows, emulator, tmp_path):
        resume(batch(tmp_path, rows(3)), Instance())
        table = rows(4)
        table[1]["prompt"] = "Better."
        result = resume(batch(tmp_path, table), Instance(try_number=2, max_tries=3))
        assert (result["counts"], result["cost_usd"]) == ({"saved": 4}, "1.40")
        assert len(emulator.ledger()["paid"]) == 5

    def test_a_list_is_data(self, dag, run, rows, emulator, tmp_path):
        """Not rendered, not in the rendered fields; a string is a template."""
        table = rows(2, "{{{{ conn.kirin_default.password }}}} {}")
        with dag:
            batch(
                tmp_path / "{{ params.folder }}", table, params={"folder": "x"}, kirin_conn_id="{{ 'kirin_default' }}"
            )
        ended = run(dag)
        assert ended.state == "success"
        assert ended.rendered("videos")["payloads"] == "2 rows"
        assert KEY not in ended.everything_stored() + ended.log
        assert manifest(tmp_path / "x")

    def test_rows_of_another_task(self, dag, run, rows, emulator, tmp_path):
        with dag:

            @task
            def products():
                return rows(3)

            batch(tmp_path, products())
        ended = run(dag)
        assert ended.result("videos")["counts"] == {"saved": 3}
        assert ended.rendered("videos")["payloads"] == "rows of another task"

    @pytest.mark.parametrize("argument", ["payloads", "key", "max_cost_usd", "destination", "filename_template"])
    def test_another_tasks_none_is_an_error_not_left_out(self, dag, run, rows, emulator, tmp_path, argument):
        """Neither an empty table, nor rows without keys, nor a batch without a budget."""
        with dag:

            @task
            def nothing():
                return None

            KirinBatchOperator(
                task_id="videos",
                **{"payloads": rows(2), "key": "sku", "destination": str(tmp_path), argument: nothing()},
            )
        ended = run(dag)
        assert ended.states()["videos"] == "failed"
        assert "turned out to be empty" in ended.log
        assert emulator.submitted == 0

    def test_in_an_object_store(self, rows, emulator, s3):
        lines = "".join(json.dumps(row) + "\n" for row in rows(4))
        s3.put_object(Bucket="videos", Key="in/products.jsonl", Body=lines.encode())
        alias, instance = AssetAlias("all"), Instance()
        operator = batch("s3://studio@videos/out", "s3://studio@videos/in/products.jsonl", outlets=[alias])  # type: ignore[arg-type]
        result = resume(operator, instance)
        # As for other operators, one file is one asset, whichever connection opens it.
        (event,) = instance.outlet_events[alias].asset_alias_events
        assert event.dest_asset_key.uri == "s3://videos/out/d/r/videos/manifest.jsonl"
        assert event.extra["uri"] == result["manifest"]
        facets = operator.get_openlineage_facets_on_complete(None)
        assert facets is not None
        assert [dataset.name for dataset in facets.inputs] == ["in/products.jsonl"]
        assert [dataset.name for dataset in facets.outputs] == ["out/d/r/videos/manifest.jsonl"]
        assert result["counts"] == {"saved": 4}
        assert result["manifest"] == "s3://studio@videos/out/d/r/videos/manifest.jsonl"
        keys = {entry["Key"] for entry in s3.list_objects_v2(Bucket="videos", Prefix="out/")["Contents"]}
        folder = "out/d/r/videos"
        assert keys == {
            f"{folder}/manifest.jsonl",
            f"{folder}/_journal/head.json",
            *(f"{folder}/s{n}-0.mp4" for n in range(4)),
        }
        asked = len(emulator.requests())
        assert resume(batch("s3://studio@videos/out", rows(4)), Instance(2, 3))["counts"] == {"saved": 4}  # type: ignore[arg-type]
        assert len(emulator.requests()) == asked

    def test_kirin_costs_counts_each_row(self, rows, emulator, tmp_path):
        table = rows(4)
        table[0]["prompt"] = "[[fail:8002005098]]"
        instance = Instance()
        resume(batch(tmp_path, table, max_failed_rows=1), instance)
        record = GenerationRecord("d", "r", "videos", datetime.now(UTC), "submission", instance.xcoms["kirin_batch"])
        found = merge_records(with_batches(iter([record, record])))
        assert len(found) == 5, "three videos, and two generations that failed"
        assert total(found)["usd"] == "0.84"
        assert {(cost.model, cost.conn_id) for cost in found if cost.cost} == {("kirin_v1_6_i2v", "kirin_default")}

    def test_names_of_files(self, rows, emulator, tmp_path):
        result = resume(batch(tmp_path, rows(2), filename_template="{key}.mp4"), Instance())
        assert result["counts"] == {"saved": 2}
        assert (tmp_path / "s0.mp4").exists() and (tmp_path / "s1.mp4").exists()
        with pytest.raises(AirflowFailException, match="would give all rows the same file"):
            resume(batch(tmp_path, rows(2), filename_template="{model}.mp4"), Instance())

    def test_files_beside_the_videos_are_written_once_and_named_in_the_manifest(self, rows, emulator, tmp_path):
        def make() -> KirinBatchOperator:
            return batch(tmp_path, rows(3), sidecar=True, poster=True)

        folder = tmp_path / "d" / "r" / "videos"
        # A picture that cannot be written costs no row.
        (folder / "s1-0.jpg" / "in the way").mkdir(parents=True)
        # Another process downloads than the one that submitted.
        resume(make(), Instance(), waves=1)
        assert all(line["order"]["prompt"].startswith("Row") for line in manifest(tmp_path).values())
        assert resume(make(), Instance(), first="execute_complete")["counts"] == {"saved": 3}
        lines = manifest(tmp_path)
        for key, line in lines.items():
            (details,) = line["file_details"]
            assert details["sidecar"] == (folder / f"{key}-0.json").as_uri() and "order" not in line
            assert details["poster"] == (None if key == "s1" else (folder / f"{key}-0.jpg").as_uri())
            beside = json.loads((folder / f"{key}-0.json").read_text())
            assert (beside["key"], beside["task_id"], beside["cost"]) == (key, "videos", "0.28")
            assert beside["order"]["prompt"] == f"Row {key[1:]}. [[seconds:0.2]]"
            assert beside["poster"] == (None if key == "s1" else f"{key}-0.jpg")
        before = {path.name: path.stat().st_mtime_ns for path in folder.glob("s*.*")}
        assert len(before) == 9
        assert resume(make(), Instance(2, 3))["counts"] == {"saved": 3}
        assert {path.name: path.stat().st_mtime_ns for path in folder.glob("s*.*")} == before
        assert manifest(tmp_path) == lines and len(emulator.ledger()["paid"]) == 3


class TestRowsThatFail:
    def test_a_bad_table_is_reported_before_anything_is_paid(self, rows, emulator, tmp_path):
        table = [*rows(3), {**rows(1)[0], "sku": "bad", "duration": 7}]
        with pytest.raises(AirflowFailException, match=r"1 of the 4 rows.*\n  - bad: duration") as caught:
            resume(batch(tmp_path, table), Instance())
        assert isinstance(caught.value.__cause__, KirinTableError)
        assert emulator.requests() == []
        result = resume(batch(tmp_path, table, on_bad_row="skip"), Instance())
        assert result["counts"] == {"saved": 3, "refused": 1}

    def test_a_connection_that_does_not_exist_is_looked_up_for_15_seconds(self, rows, tmp_path):
        with (
            fast_retries() as waited,
            pytest.raises(KirinConfigError, match="There is no Airflow connection 'kirin_eu'"),
        ):
            resume(batch(tmp_path, rows(1), kirin_conn_id="kirin_eu"), Instance())
        assert sum(waited) == 15.5

    def test_a_row_with_the_key_in_it_is_not_sent(self, rows, emulator, tmp_path):
        with pytest.raises(AirflowFailException, match="contains the connection's API key") as caught:
            resume(batch(tmp_path, rows(1, f"Say {KEY} {{}}")), Instance())
        assert emulator.submitted == 0 and KEY not in str(caught.value)

    def test_the_others_are_stored_and_the_error_names_the_reasons(self, rows, emulator, tmp_path):
        table = rows(4)
        table[1]["image"] = "/no/such/file.jpg"
        table[2]["prompt"] = "[[fail:8002005098]]"
        with pytest.raises(AirflowFailException) as caught:
            resume(batch(tmp_path, table, row_retries=1), Instance())
        for said in ("2 of 4 rows have no video", "1 failed (8002005098)", "1 refused", "s1: refused: image"):
            assert said in str(caught.value)
        ledger = emulator.ledger()
        assert (len(ledger["paid"]), len(ledger["failed"])) == (2, 2)
        lines = manifest(tmp_path)
        assert [lines[f"s{n}"]["status"] for n in range(4)] == ["saved", "refused", "failed", "saved"]
        again = Instance(try_number=2, max_tries=3)
        assert resume(batch(tmp_path, rows(4)), again)["counts"] == {"saved": 4}
        assert len(emulator.ledger()["paid"]) == 4

    def test_max_failed_rows_allows_failures(self, rows, emulator, tmp_path):
        table = rows(4)
        table[0]["prompt"] = "[[fail:8002005002]]"
        result = resume(batch(tmp_path, table, max_failed_rows=0.25), Instance())
        assert result["counts"] == {"saved": 3, "failed": 1}

    def test_the_budget_ends_the_submissions_and_what_was_submitted_is_stored(self, rows, emulator, tmp_path):
        with pytest.raises(AirflowFailException, match=r"max_cost_usd = 1.00") as caught:
            resume(batch(tmp_path, rows(6), max_cost_usd="1.00"), Instance())
        assert isinstance(caught.value.__cause__, KirinBatchError)
        text = str(caught.value)
        assert "3 not submitted" in text and "The other 3 are saved" in text and "nothing was spent" not in text
        assert re.search(r"this batch has spent 0.84 USD, with what is in flight, and row s[345] would cost 0.28", text)
        assert "Raise max_cost_usd to continue with the rest" in text and "Clear the task" in text
        assert len(emulator.ledger()["paid"]) == 3
        assert sum(line["status"] == "saved" for line in manifest(tmp_path).values()) == 3
        result = resume(batch(tmp_path, rows(6), max_cost_usd="9"), Instance(2, 3))
        assert result["counts"] == {"saved": 6} and len(emulator.ledger()["paid"]) == 6


class TestWhateverDies:
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_process_that_is_killed_around_a_post(self, rows, emulator, tmp_path, when):
        code = f"""
            import json, os, signal
            from airflow_provider_kirin.hooks.kirin import KirinHook
            from tests.integration.test_batch_operator import Instance, batch
            submit, count = KirinHook.submit, 0
            def killing(self, *args, **kwargs):
                global count
                count += 1
                if count == 2 and {when == "before"}:
                    os.kill(os.getpid(), signal.SIGKILL)
                found = submit(self, *args, **kwargs)
                if count >= 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found
            KirinHook.submit = killing
            batch({str(tmp_path)!r}, json.loads({json.dumps(rows(4))!r})).execute(Instance().context())
        """
        killed = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], env=os.environ, timeout=HANG, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert emulator.submitted <= 3
        result = resume(batch(tmp_path, rows(4)), Instance(try_number=2))
        assert result["counts"] == {"saved": 4}
        assert len(emulator.ledger()["paid"]) == 4

    def test_a_new_try_may_begin_with_the_old_event(self, rows, emulator, tmp_path):
        resume(batch(tmp_path, rows(5)), Instance(), waves=1)
        result = resume(batch(tmp_path, rows(5)), Instance(try_number=2), first="execute_complete")
        assert result["counts"] == {"saved": 5} and len(emulator.ledger()["paid"]) == 5

    def test_an_older_try_stops(self, rows, emulator, tmp_path):
        resume(batch(tmp_path, rows(5)), Instance(try_number=2), waves=1)
        with pytest.raises(SupersededError):
            resume(batch(tmp_path, rows(5)), Instance(try_number=1), first="execute_complete")
        assert emulator.submitted == 3

    @pytest.mark.parametrize("what", ["all", "head", "manifest", "half of the manifest"])
    def test_a_lost_journal_costs_lookups(self, rows, emulator, tmp_path, what):
        resume(batch(tmp_path, rows(5)), Instance(), waves=1)
        folder = tmp_path / "d" / "r" / "videos"
        if what == "all":
            shutil.rmtree(folder)
        elif what == "head":
            (folder / "_journal" / "head.json").unlink()
        elif what == "manifest":
            (folder / "manifest.jsonl").unlink()
        else:
            text = (folder / "manifest.jsonl").read_text()
            (folder / "manifest.jsonl").write_text(text[: len(text) // 2])
        result = resume(batch(tmp_path, rows(5)), Instance(try_number=2), first="execute_complete")
        assert result["counts"] == {"saved": 5} and len(emulator.ledger()["paid"]) == 5

    def test_a_destination_that_is_unavailable_is_retried_once_rows_are_paid(self, rows, emulator, tmp_path):
        out, aside = tmp_path / "out", tmp_path / "aside"
        out.write_text("not a folder")
        with pytest.raises(AirflowFailException, match="cannot be written"):
            resume(batch(out, rows(5)), Instance())
        out.unlink()
        resume(batch(out, rows(5)), Instance(), waves=1)
        out.rename(aside)
        out.write_text("not a folder")
        with pytest.raises(KirinDestinationError):
            resume(batch(out, rows(5)), Instance(), first="execute_complete")
        out.unlink()
        aside.rename(out)
        assert resume(batch(out, rows(5)), Instance(try_number=2))["counts"] == {"saved": 5}
        assert len(emulator.ledger()["paid"]) == 5

    def test_a_bucket_that_is_gone_ends_the_submissions_and_the_next_try_stores_what_is_paid(self, rows, emulator, s3):
        folder: Any = "s3://studio@videos/out"
        resume(batch(folder, rows(5)), Instance(), waves=1)
        for key in keys(s3):
            s3.delete_object(Bucket="videos", Key=key)
        s3.delete_bucket(Bucket="videos")
        with pytest.raises(KirinDestinationError, match=r"videos/out.*bucket.*Check the path") as caught:
            resume(batch(folder, rows(5)), Instance(), first="execute_complete")
        assert caught.value.retryable and emulator.submitted == 3
        s3.create_bucket(Bucket="videos")
        assert resume(batch(folder, rows(5)), Instance(try_number=2))["counts"] == {"saved": 5}
        assert len(emulator.ledger()["paid"]) == 5

    def test_a_retry_after_a_deadline_continues(self, rows, emulator, tmp_path):
        slow = rows(2, "Row {}. [[seconds:600]]")
        with pytest.raises(KirinBatchError, match="did not end within"):
            resume(batch(tmp_path, slow, row_timeout=0.5), Instance())
        emulator.finish()
        result = resume(batch(tmp_path, slow, row_timeout=timedelta(seconds=60)), Instance(try_number=2))
        assert result["counts"] == {"saved": 2} and len(emulator.ledger()["paid"]) == 2

    def test_a_replica_that_lags_before_a_download_costs_no_try(self, rows, emulator, tmp_path):
        in_the_way = tmp_path / "d" / "r" / "videos" / "s0-0.mp4"
        in_the_way.mkdir(parents=True)
        with pytest.raises(KirinBatchError):
            resume(batch(tmp_path, rows(1)), Instance())
        assert manifest(tmp_path)["s0"]["status"] == "done"
        in_the_way.rmdir()
        # The links have to be fetched again, as nothing else has.
        emulator.fault(on="get", kind="status", status=404, body={"detail": "Request not found"})
        assert resume(batch(tmp_path, rows(1)), Instance(try_number=2))["counts"] == {"saved": 1}

    def test_a_gateway_that_is_away_for_a_while(self, rows, emulator, tmp_path, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.api.retry.MIN_BACKOFF", 0.05)
        operator, instance = batch(tmp_path, rows(5)), Instance()
        resume(operator, instance, waves=1)
        emulator.fault(on="get", kind="status", status=503, times=12)
        result = resume(operator, instance, first="execute_complete")
        assert result["counts"] == {"saved": 5} and len(emulator.ledger()["paid"]) == 5


class TestTheTrigger:
    def test_its_arguments_are_small_whatever_is_in_flight(self, rows, emulator, tmp_path, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.triggers.batch._MAX_ARGUMENTS", 40)
        with pytest.raises(TaskDeferred) as deferred:
            batch(tmp_path, rows(3)).execute(Instance().context())
        _, arguments = deferred.value.trigger.serialize()
        assert arguments["in_flight"] is None
        assert arguments["earliest_event"] >= arguments["deferred_at"] + 10
        assert asyncio.run(fire(KirinBatchTrigger(**arguments)))["done"] >= 1

    def test_they_fit_a_column_of_64_kb_when_they_are_encrypted(self):
        from airflow.models.trigger import Trigger

        in_flight = [[f"dc26uaivqqov8sg0{n:04}", 1764343434 + n] for n in range(5000)]
        while not fits_into_arguments(in_flight):
            in_flight.pop()
        assert len(in_flight) > 900
        trigger = KirinBatchTrigger(
            kirin_conn_id="c" * 250,
            in_flight=in_flight,
            folder=None,
            deferred_at=1764343434.5,
            earliest_event=1764343434.5,
            deadline=1764343434.5,
            has_more=True,
            retry_at=None,
            poll_interval=None,
        )
        assert len(Trigger.encrypt_kwargs(trigger.serialize()[1])) < 65_535

    def test_a_connection_that_cannot_be_used_wakes_a_worker(self, emulator, tmp_path):
        trigger = KirinBatchTrigger(
            kirin_conn_id="no_such_connection",
            in_flight=[["a", 1.0]],
            folder=None,
            deferred_at=0.0,
            earliest_event=0.0,
            deadline=2e9,
            has_more=True,
            retry_at=None,
            poll_interval=0.1,
        )
        assert asyncio.run(fire(trigger)) == {"v": 1, "done": 0}

    @pytest.mark.parametrize(("connection", "done"), [("kirin_default", 1), ("no_such_connection", 0)])
    def test_its_event_is_held_back_until_the_scheduler_knows_that_the_worker_has_ended(self, submit, connection, done):
        now = time.time()
        trigger = KirinBatchTrigger(
            kirin_conn_id=connection,
            in_flight=[[submit("[[seconds:0]]"), now]],
            folder=None,
            deferred_at=now,
            earliest_event=now + 2,
            deadline=now + 600,
            has_more=False,
            retry_at=None,
            poll_interval=0.1,
        )
        # As in a triggerer.
        trigger.task_instance = SimpleNamespace(task_id="t", dag_id="d", run_id="r", map_index=-1, try_number=1)
        assert asyncio.run(fire(trigger)) == {"v": 1, "done": done}
        assert time.time() >= now + 1.9


@pytest.mark.parametrize(
    "how",
    [
        {"max_in_flight": 0},
        {"max_in_flight": True},
        {"row_retries": -1},
        {"max_failed_rows": 1.5},
        {"max_failed_rows": -1},
        {"max_failed_rows": True},
        {"max_failed_rows": float("nan")},
        {"on_bad_row": "ignore"},
        {"fit_images": "yes"},
        {"destination": "relative"},
        {"filename_template": "{key}-{nope}.mp4"},
        {"max_bytes": 0},
        {"max_cost_usd": "much"},
        {"timeout": -1},
    ],
)
def test_arguments_are_checked_when_the_dag_is_parsed(tmp_path: Path, how: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KirinBudgetError, KirinDestinationError)):
        batch(tmp_path, "/a.csv", **how)


@pytest.mark.parametrize("payloads", [3, {"a": 1}, "/products.txt", "products.csv", b"x"])
def test_what_is_no_table_is_refused(tmp_path: Path, emulator, payloads: Any) -> None:
    with pytest.raises(AirflowFailException, match=r"must be a list of rows|is relative"):
        batch(tmp_path, payloads).execute(Instance().context())
    assert emulator.requests() == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path, emulator) -> None:
    with pytest.raises(AirflowFailException, match=r"payloads = '/no/such.csv' cannot be read"):
        batch(tmp_path, "/no/such.csv").execute(Instance().context())
