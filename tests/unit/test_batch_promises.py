"""A batch under tables that change, processes that overlap, and single generations that cannot be polled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kirin.api.batch.report import failure
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.download.filenames import render_filename
from airflow_provider_kirin.exceptions import (
    KirinBatchError,
    KirinError,
    KirinInputError,
    KirinTableError,
    KirinUnavailableError,
)
from airflow_provider_kirin.operators.batch_run import BatchRun
from airflow_provider_kirin.operators.table import Table
from airflow_provider_kirin.state.journal import Head, Journal, SupersededError
from tests.support.batch_model import IMAGE, Batch, finish, finish_all, row, table
from tests.support.gateway_model import MODEL, ModelGateway


class TestOwners:
    def test_a_process_that_was_overtaken_does_not_take_the_batch_back(self, tmp_path: Path) -> None:
        old, new = Journal(str(tmp_path), owner="old"), Journal(str(tmp_path), owner="new")
        old.take_over(Head("b", owner="old", try_number=1))
        new.take_over(Head("b", owner="new", try_number=2))
        with pytest.raises(SupersededError):
            old.write_head(old.head)
        new.record(RowState("a", "intent", 1))


class TestAnotherBatchInTheSameFolder:
    def test_its_rows_are_not_taken_for_ours_after_a_try_that_failed_before_the_first_wave(
        self, tmp_path: Path
    ) -> None:
        batch = Batch(tmp_path, table(2))
        batch.work()
        batch.round, batch.try_number = 3, 2
        batch.records.append(row("bad", duration=7))
        with pytest.raises(KirinTableError):
            batch.process().open(batch="take 2", try_number=2, round=3, may_be_lost=False)
        del batch.records[-1]
        run = batch.process()
        run.open(batch="take 2", try_number=3, round=6, may_be_lost=False)
        assert run.rows.left == 2

    def test_a_retry_with_another_take_or_connection_does_not_pay_again(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))
        batch.wave()
        with pytest.raises(KirinBatchError, match="clear the task") as caught:
            batch.process().open(batch="take 2", try_number=2, round=0, may_be_lost=False)
        assert not caught.value.retryable
        assert batch.work().rows.counts() == {"saved": 2}, "switched back, it continues"


def unreadable(*, retryable: bool) -> Any:
    """A table that cannot be read."""

    def read() -> Any:
        raise KirinTableError("products.jsonl cannot be read: No such file.", retryable=retryable)

    return read


class TestATableThatChanges:
    def test_rows_that_vanished_during_a_round_end_the_batch(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        del batch.records[3:]
        run = batch.work()
        assert run.rows.counts() == {"todo": 2, "saved": 3}
        error = failure(run.rows, max_failed_rows=5, refused_count=True, manifest="m", why=run.why_stopped)
        assert error is not None and "2 not submitted" in str(error) and "no longer in products.jsonl" in str(error)

    @pytest.mark.parametrize("at", [1, 4])
    def test_as_many_rows_are_paid_as_it_had_and_the_others_are_named(self, tmp_path: Path, at: int) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        batch.records.insert(at, row("new"))
        for _ in range(2):
            run = batch.work()
            assert run.rows.counts() == {"todo": 1, "saved": 5} and len(batch.gateway.paid) == 5
            error = failure(run.rows, max_failed_rows=5, refused_count=True, manifest="m", why=run.why_stopped)
            assert error is not None and "products.jsonl has changed" in str(error)
            assert "Left out: 's4'." in str(error) and not error.retryable
            batch.try_number += 1
        batch.round = 3
        assert batch.work().rows.counts() == {"saved": 6}

    def test_rows_that_are_added_at_its_end_belong_to_the_next_batch(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        batch.records += [row("new"), row("newer")]
        run = batch.work()
        assert (run.rows.counts(), run.why_stopped) == ({"saved": 5}, "")
        assert "Added at the end of products.jsonl, for the next run or a clear: 'new', 'newer'." in caplog.text
        batch.round = 3
        assert batch.work().rows.counts() == {"saved": 7}

    @pytest.mark.parametrize("threads", [1, 8])
    @pytest.mark.parametrize("at", [0, 5])
    @pytest.mark.parametrize("fate", ["full", "connection refused", "failed"])
    def test_an_added_row_never_takes_the_place_of_one_that_waits_for_another_submission(
        self, tmp_path: Path, fate: str, at: int, threads: int
    ) -> None:
        fates = iter(["ok"] * 4 + [fate] * {"full": 1, "failed": 0}.get(fate, 20))
        gateway = ModelGateway(post_fate=lambda: next(fates, "ok"))
        batch = Batch(tmp_path, table(5), gateway, settings={"max_in_flight": 10}, threads=threads)
        batch.wave()
        finish_all(gateway)
        if fate == "failed":
            finish(gateway, 4, "failed")
        fates = iter(())
        batch.records.insert(at, row("new"))
        run = batch.work()
        assert {name.partition(".")[0] for name, _ in gateway.paid} == {"s0", "s1", "s2", "s3", "s4"}
        assert run.rows.count("saved") == 5 and len(gateway.paid) == (6 if fate == "failed" else 5)
        assert ("Left out: 'new'" in run.why_stopped) is (at == 0)

    @pytest.mark.parametrize("threads", [1, 8])
    @pytest.mark.parametrize("fate", ["full", "503"])
    def test_a_row_that_is_added_during_a_wave_takes_no_place_either(
        self, tmp_path: Path, fate: str, threads: int
    ) -> None:
        fates = iter(["ok"] * 4 + [fate])
        gateway = ModelGateway()
        setattr(gateway, "post_fate" if fate == "full" else "get_fate", lambda: next(fates, "ok"))
        batch = Batch(tmp_path, table(5), gateway, settings={"max_in_flight": 10}, threads=threads)
        run = batch.open()
        batch.records.append(row("new"))
        run.wave()
        run = batch.work()
        assert run.rows.counts() == {"saved": 5} and len(gateway.paid) == 5
        assert "new" not in run.rows.states

    def test_a_row_that_is_back_while_a_later_batch_runs_is_left_out(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.work()
        gone = batch.records.pop(0)
        batch.round, batch.try_number = 3, 2
        batch.wave()
        batch.records.insert(0, gone)
        run = batch.work()
        assert run.rows.counts() == {"todo": 1, "saved": 2} and "Left out: 's0'" in run.why_stopped

    def test_without_a_key_a_row_that_is_inserted_at_the_end_of_the_batch_is_seen(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, [{"prompt": f"p{n}", "image": IMAGE} for n in range(3)], key=None)
        batch.settings["by_position"] = True
        batch.wave()
        batch.records.insert(1, {"prompt": "new", "image": IMAGE})
        run = batch.work()
        assert run.rows.counts() == {"todo": 1, "saved": 3}
        assert "Row 3 of products.jsonl has changed" in run.why_stopped

    def test_without_a_key_a_row_that_is_inserted_before_a_refused_one_is_seen(self, tmp_path: Path) -> None:
        records = [{"prompt": f"p{n}", "image": IMAGE} for n in range(6)]
        records[2]["prompt"] = ""
        batch = Batch(tmp_path, records, key=None, settings={"by_position": True, "on_bad_row": "skip"})
        batch.settings["max_in_flight"] = 2
        batch.wave()
        batch.records.insert(0, {"prompt": "new", "image": IMAGE})
        assert "changed since the batch began" in batch.work().why_stopped

    def test_without_a_key_values_that_differ_each_time_the_table_is_read_are_no_change(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, [{"prompt": f"p{n}", "image": IMAGE} for n in range(3)], key=None)
        batch.settings["by_position"] = True
        batch.wave()
        batch.records[:] = [{**each, "prompt": f"{each['prompt']} at noon"} for each in batch.records]
        run = batch.work()
        assert (run.rows.counts(), run.why_stopped) == ({"saved": 3}, "")

    def test_a_table_that_is_gone_at_the_end_takes_no_video_away(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        batch = Batch(tmp_path, table(2))
        batch.wave()
        batch.table = unreadable(retryable=False)  # type: ignore[method-assign]
        run = batch.work()
        assert (run.rows.counts(), run.why_stopped) == ({"saved": 2}, "")
        assert "No such file" in caplog.text

    def test_a_table_that_is_gone_takes_no_video_away_that_is_being_generated(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        batch.table = unreadable(retryable=False)  # type: ignore[method-assign]
        run = batch.work()
        assert run.rows.counts() == {"todo": 2, "saved": 3}
        error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m", why=run.why_stopped)
        assert error is not None and "cannot be read" in str(error)

    def test_a_table_that_breaks_while_its_rows_are_submitted_loses_none_of_them(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        read = batch.table

        def broken() -> Any:
            yield from list(read())[:2]
            raise KirinTableError("products.jsonl cannot be read: it is cut off.")

        batch.open()
        batch.table = broken  # type: ignore[method-assign]
        run = batch.work()
        assert run.rows.counts() == {"todo": 3, "saved": 2} and len(batch.gateway.paid) == 2
        batch.table, batch.round, batch.try_number = read, 3, 2  # type: ignore[method-assign]
        assert batch.work().rows.counts() == {"saved": 5}
        assert len(batch.gateway.paid) == 5

    def test_a_table_that_is_unavailable_is_read_again_in_the_next_wave(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        read, batch.table = batch.table, unreadable(retryable=True)  # type: ignore[method-assign]
        finish_all(batch.gateway)
        run = batch.wave()
        assert not run.is_finished and run.rows.counts() == {"todo": 2, "saved": 3}
        assert run.wait().retry_at is not None
        batch.table = read  # type: ignore[method-assign]
        assert batch.work().rows.counts() == {"saved": 5}

    def test_a_table_that_stays_unavailable_ends_the_try_and_is_retried(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        batch.table = unreadable(retryable=True)  # type: ignore[method-assign]
        finish_all(batch.gateway)
        with pytest.raises(KirinTableError, match="cannot be read") as caught:
            batch.work()
        assert caught.value.retryable

    def test_what_rows_that_are_gone_cost_stays_on_record(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.work()
        del batch.records[0]
        batch.round, batch.try_number = 3, 2
        run = batch.work()
        assert run.rows.counts() == {"saved": 2}
        assert str(run.rows.cost) == "0.84"
        assert '"kirin_task_id": "t1"' in (tmp_path / "manifest.jsonl").read_text()

    def test_a_row_that_is_back_is_not_paid_again(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.work()
        gone = batch.records.pop(0)
        batch.round, batch.try_number = 3, 2
        batch.work()
        batch.records.append(gone)
        batch.round, batch.try_number = 6, 3
        assert batch.work().rows.counts() == {"saved": 3}
        assert len(batch.gateway.paid) == 3


class TestOneGenerationThatCannotBePolled:
    @staticmethod
    def refuse(batch: Batch, kirin_task_id: str, error: KirinError) -> None:
        get_task = batch.gateway.get_task

        def picky(asked: str, *, patience: float) -> Any:
            if asked == kirin_task_id:
                raise error
            return get_task(asked, patience=patience)

        batch.gateway.get_task = picky  # type: ignore[method-assign]

    def test_runs_out_of_time_like_any_other(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2), settings={"row_timeout": 100})
        batch.wave()
        finish_all(batch.gateway)
        self.refuse(batch, "t1", KirinUnavailableError("code 5000", http_status=500))
        batch.now += 101
        run = batch.wave()
        assert run.is_finished
        assert run.rows.counts() == {"saved": 1, "timeout": 1}

    def test_does_not_stop_the_others(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))
        batch.wave()
        finish_all(batch.gateway)
        self.refuse(batch, "t1", KirinInputError("bad id", http_status=400))
        run = batch.wave()
        assert run.rows.counts() == {"saved": 1, "unknown": 1}
        state = run.rows.get("s0")
        assert state is not None and state.kirin_task_id == "t1" and "bad id" in str(state.error)
        for batch.try_number, batch.round in ((2, 0), (3, 3)):
            assert batch.work().rows.count("saved") == 1
        assert len(batch.gateway.paid) == 2


def test_a_row_rejected_after_a_submission_that_may_be_billed_stays_unknown(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(1))
    fates = ["lost before", "400 input"]
    batch.gateway.post_fate = lambda: fates.pop(0) if fates else "ok"
    batch.verified = {"c": True}
    run = batch.wave()
    state = run.rows.get("s0")
    assert state is not None and state.status == "unknown"
    assert state.external_task_id == "s0.p0" and "s0.p0" in str(state.error)


class TestAnIdOfTheUsers:
    def test_for_two_rows_is_refused(self, tmp_path: Path) -> None:
        records = [row("a", external_task_id="mine"), row("b", external_task_id="mine"), row("c")]
        batch = Batch(tmp_path, records, settings={"on_bad_row": "skip"})
        run = batch.work()
        assert run.rows.counts() == {"saved": 2, "refused": 1}
        state = run.rows.get("b")
        assert state is not None and "external_task_id" in str(state.error)


class TestPayloadsThatAreNoTable:
    @pytest.mark.parametrize(
        "payloads",
        [
            "https://host.example/rows.txt?X-Amz-Signature=abcdef",
            "s3://KEY:SECRET@bucket/rows.txt",
            "rows.csv?sig=abcdef",
        ],
    )
    def test_are_refused_without_their_secrets(self, payloads: str) -> None:
        with pytest.raises(KirinTableError) as caught:
            Table(payloads, key=None, model=MODEL)
        assert "abcdef" not in str(caught.value) and "SECRET" not in str(caught.value)

    def test_an_iterator_can_be_read_again(self) -> None:
        rows = Table(iter(table(2)), key="sku", model=MODEL)
        assert [each.key for each in rows()] == [each.key for each in rows()] == ["s0", "s1"]


def test_the_name_of_a_row_without_a_key_is_no_other_rows_key(tmp_path: Path) -> None:
    records: list[Any] = [row("row 2"), {"prompt": "x"}]
    batch = Batch(tmp_path, records, settings={"on_bad_row": "skip"})
    assert batch.work().rows.counts() == {"saved": 1, "refused": 1}


@pytest.mark.parametrize(
    "keys", [("a:b", "a-b"), ("a+b", "a-b"), ("a/b", "a_b"), ("x" * 150, "x" * 151), ("../a", "_./a")]
)
def test_two_keys_never_share_a_file(keys: tuple[str, str]) -> None:
    names = {render_filename("{key}-{index}.mp4", {"key": key, "index": 0}) for key in keys}
    assert len(names) == 2
    assert not any("/" in name or name.startswith(".") for name in names)


class TestKeysThatDifferInCase:
    """On the disk of a Mac, a Windows share and some object stores, their files would have the same name."""

    @staticmethod
    def names(run: BatchRun) -> dict[str, str]:
        return {state.key: state.files[0].rpartition("/")[2] for state in run.rows.states.values()}

    def test_have_files_of_their_own(self, tmp_path: Path) -> None:
        names = self.names(Batch(tmp_path, [row("SKU-a"), row("sku-A"), row("sku-b")]).work())
        assert len({name.lower() for name in names.values()}) == 3
        assert (names["SKU-a"], names["sku-b"]) == ("SKU-a.mp4", "sku-b.mp4")

    def test_keep_them_while_the_table_grows_and_changes(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, [row("SKU-a")])
        first = self.names(batch.work())
        batch.records.insert(0, row("sku-A"))
        batch.round, batch.try_number = 1, 2
        second = self.names(batch.work())
        assert second.items() > first.items() and len({name.lower() for name in second.values()}) == 2
        batch.records = [row("sku-A"), row("SKU-a", "other")]
        batch.round, batch.try_number = 2, 3
        assert self.names(batch.work()) == second
