"""What a batch promises about money, whatever dies and whenever, against a model of the gateway."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_kirin.api.batch.outcomes import after_download
from airflow_provider_kirin.api.batch.report import failure
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.exceptions import (
    KirinAuthError,
    KirinCapacityError,
    KirinCreditError,
    KirinDestinationError,
    KirinError,
    KirinInputError,
    KirinNetworkError,
    KirinTableError,
    KirinTaskFailedError,
    KirinUnavailableError,
)
from airflow_provider_kirin.state.journal import Journal, SupersededError
from tests.support.batch_model import IMAGE, Batch, finish, finish_all, row, table
from tests.support.gateway_model import GET_FATES, POST_FATES, Killed, ModelGateway


def fates(*wanted: str) -> Any:
    """Give the wanted fates one after the other, then only good ones."""
    left = list(wanted)
    return lambda: left.pop(0) if left else "ok"


def row_of(external_task_id: str) -> str:
    return external_task_id.partition(".")[0]


def billed(gateway: ModelGateway) -> Counter[str]:
    """How many generations that did not fail each row has."""
    return Counter(row_of(name) for name, kirin_task in gateway.paid if kirin_task.status != "failed")


class TestWaves:
    def test_a_batch_is_submitted_row_by_row_and_stored(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(7))
        run = batch.work()
        assert run.rows.counts() == {"saved": 7}
        assert billed(batch.gateway) == Counter({f"s{number}": 1 for number in range(7)})
        assert batch.client.saved == billed(batch.gateway)
        assert [row for event, row in batch.client.reports if event == "submitted"] == [f"s{n}" for n in range(7)]
        assert str(run.rows.cost) == "1.96"

    def test_no_more_are_in_flight_than_allowed(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(7))
        run = batch.wave()
        assert (run.rows.in_flight, run.rows.left, len(batch.gateway.paid)) == (3, 4, 3)
        run = batch.wave()
        assert (run.rows.in_flight, len(batch.gateway.paid)) == (3, 3)
        finish(batch.gateway, 1)
        run = batch.wave()
        assert (run.rows.in_flight, run.rows.count("saved"), len(batch.gateway.paid)) == (3, 1, 4)

    def test_a_bad_table_is_refused_before_anything_is_paid(self, tmp_path: Path) -> None:
        records = [*table(2), row("s1"), row("bad", duration=7), {"prompt": "x", "image": IMAGE}]
        batch = Batch(tmp_path, records)
        with pytest.raises(KirinTableError) as caught:
            batch.open()
        text = str(caught.value)
        assert "3 of the 5 rows" in text
        assert "s1 (row 3)" in text and "bad: duration" in text and "row 5: sku" in text
        assert batch.gateway.submissions == 0

    def test_bad_rows_can_be_skipped_and_are_on_record(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, [*table(2), row("bad", duration=7)], settings={"on_bad_row": "skip"})
        run = batch.work()
        assert run.rows.counts() == {"saved": 2, "refused": 1}
        refused = run.rows.get("bad")
        assert refused is not None and "duration" in str(refused.error)

    def test_the_log_names_the_rows_that_are_skipped(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        rows = [*table(2), *(row(f"bad{n}", duration=7) for n in range(52))]
        Batch(tmp_path, rows, settings={"on_bad_row": "skip"}).open()
        first, *named, last = [record.getMessage().strip() for record in caplog.records]
        assert first.startswith("52 of the 54 rows break a rule")
        assert len(named) == 50 and last == "and 2 more."
        assert named[0].startswith("bad0: duration = 7") and "must be one of" in named[0]

    def test_bad_rows_of_a_later_table_are_not_called_free_of_charge(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))
        batch.work()
        batch.records.append(row("bad", duration=7))
        batch.round, batch.try_number = 3, 2
        with pytest.raises(KirinTableError, match="nothing more was submitted") as caught:
            batch.open()
        assert "nothing was spent" not in str(caught.value)

    def test_a_bad_image_costs_its_own_row_only(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.client.bad_images.add("s1")
        run = batch.work()
        assert run.rows.counts() == {"saved": 2, "refused": 1}
        error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m")
        assert error is not None and "s1: refused" in str(error) and "cannot be read" in str(error)
        assert not error.retryable

    def test_an_empty_table_is_a_success(self, tmp_path: Path) -> None:
        run = Batch(tmp_path, []).work()
        assert (run.is_finished, run.rows.total) == (True, 0)
        assert failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m") is None


class TestAFailedRow:
    def test_is_submitted_again_as_often_as_allowed(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(1), settings={"row_retries": 1})
        for _ in range(3):
            run = batch.wave()
            finish_all(batch.gateway, "failed")
        run = batch.wave()
        assert run.is_finished
        assert [name for name, _ in batch.gateway.paid] == ["s0.p0", "s0.p0-2"]
        assert run.rows.counts() == {"failed": 1}

    def test_is_not_submitted_again_if_that_cannot_help(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))
        batch.gateway.post_fate = fates("400 input")
        run = batch.work()
        assert run.rows.counts() == {"failed": 1, "saved": 1}
        assert batch.gateway.submissions == 2

    def test_is_submitted_again_after_a_clear(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3), settings={"row_retries": 0})
        batch.wave()
        finish(batch.gateway, 0, "failed")
        finish_all(batch.gateway)
        assert batch.wave().rows.counts() == {"failed": 1, "saved": 2}
        batch.try_number = 2
        assert batch.wave().is_finished, "a retry does not submit it again"
        batch.try_number, batch.round = 3, 3
        run = batch.work()
        assert run.rows.counts() == {"saved": 3}
        assert len(batch.gateway.paid) == 4

    def test_ends_the_submissions_if_it_has_to_fail_fast(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(9), settings={"row_retries": 0, "fail_fast": True})
        batch.wave()
        finish(batch.gateway, 0, "failed")
        finish(batch.gateway, 1)
        run = batch.wave()
        assert (run.is_finished, run.rows.in_flight, len(batch.gateway.paid)) == (False, 1, 3)
        finish_all(batch.gateway)
        run = batch.wave()
        assert run.is_finished
        error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m")
        assert error is not None and "6 not submitted" in str(error)

    def test_one_that_always_fails_does_not_stop_the_others(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(4), settings={"max_in_flight": 1})
        submit = batch.gateway.submit_as

        def picky(external_task_id: str) -> Any:
            if external_task_id.startswith("s0"):
                raise KirinUnavailableError("code 5002", http_status=429, code="5002")
            return submit(external_task_id)

        batch.gateway.submit_as = picky  # type: ignore[method-assign]
        run = batch.work()
        assert run.rows.count("saved") == 3
        assert run.rows.failed == 1


class TestACorrectedTable:
    def test_after_a_clear_only_what_changed_is_submitted(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.work()
        batch.records[1]["prompt"] = "better"
        batch.records.append(row("new", "x"))
        batch.try_number = 2
        assert batch.wave().is_finished, "the retries of one round continue with the rows that it began with"
        batch.try_number, batch.round = 3, 3
        run = batch.work()
        assert run.rows.counts() == {"saved": 4}
        assert [name for name, _ in batch.gateway.paid[3:]] == ["s1.better", "new.x"]
        assert str(run.rows.cost) == "1.40"

    @pytest.mark.parametrize("change", ["reversed", "inserted", "removed"])
    def test_rows_without_a_key_that_move_while_it_runs_are_not_paid(self, tmp_path: Path, change: str) -> None:
        records = [{"image": IMAGE, "prompt": f"p{number}"} for number in range(6)]
        batch = Batch(tmp_path, list(records), key=None, settings={"by_position": True})
        batch.wave()
        moved = {"reversed": records[::-1], "inserted": [records[5], *records], "removed": records[1:]}
        batch.records[:] = moved[change]
        finish_all(batch.gateway)
        run = batch.wave()
        assert run.is_finished and run.rows.counts() == {"todo": 3, "saved": 3}
        assert "Row 3" in run.why_stopped and "has changed since the batch began" in run.why_stopped
        # Once they are back in order, a clear submits what is missing.
        batch.records[:] = records
        batch.round, batch.try_number = 3, 2
        assert batch.work().rows.counts() == {"saved": 6}
        assert sorted(name for name, _ in batch.gateway.paid) == [f"{number + 1}.p{number}" for number in range(6)]

    def test_a_failed_row_without_a_key_that_moved_is_not_paid_again(self, tmp_path: Path) -> None:
        records = [{"image": IMAGE, "prompt": f"p{number}"} for number in range(6)]
        batch = Batch(tmp_path, list(records), key=None, settings={"by_position": True, "row_retries": 1})
        batch.wave()
        finish(batch.gateway, 0, "failed")
        finish_all(batch.gateway)
        batch.records.reverse()
        run = batch.wave()
        assert "Row 1" in run.why_stopped and len(batch.gateway.paid) == 3

    def test_rows_without_a_key_are_not_taken_for_moved_after_an_outage(self, tmp_path: Path) -> None:
        records = [{"image": IMAGE, "prompt": f"p{number}"} for number in range(6)]
        batch = Batch(tmp_path, records, key=None, settings={"by_position": True, "max_in_flight": 2})
        batch.gateway.get_fate = lambda: "503"
        batch.wave()
        batch.gateway.get_fate = lambda: "ok"
        assert batch.work().rows.counts() == {"saved": 6}

    def test_a_row_that_is_gone_is_forgotten(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.work()
        del batch.records[0]
        batch.round, batch.try_number = 3, 2
        assert batch.work().rows.counts() == {"saved": 2}

    def test_a_row_that_broke_a_rule_is_submitted_once_it_is_fixed(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, [row("a", duration=7)], settings={"on_bad_row": "skip"})
        batch.work()
        batch.records[0]["duration"] = "5"
        batch.round, batch.try_number = 3, 2
        assert batch.work().rows.counts() == {"saved": 1}


class TestAFullAccount:
    def test_is_met_with_fewer_in_flight_and_then_one_more_each_wave(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(12), settings={"max_in_flight": 6})
        submit, room = batch.gateway.submit_as, 2

        def full(external_task_id: str) -> Any:
            running = sum(not kirin_task.is_final for _, kirin_task in batch.gateway.paid)
            if running >= room:
                raise KirinCapacityError("full", http_status=429, code="1303")
            return submit(external_task_id)

        batch.gateway.submit_as = full  # type: ignore[method-assign]
        run = batch.wave()
        assert (run.rows.in_flight, run.places) == (2, 2)
        asked = batch.gateway.submissions
        run = batch.wave()
        assert run.places == 3, "nothing was refused, as nothing was submitted"
        assert batch.gateway.submissions == asked
        room = 99
        run = batch.wave()
        assert (run.rows.in_flight, run.places) == (3, 4)
        assert batch.work().rows.counts() == {"saved": 12}

    def test_with_nothing_in_flight_it_is_tried_again_after_a_pause(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))

        def full(external_task_id: str) -> Any:
            raise KirinCapacityError("full", http_status=429)

        batch.gateway.submit_as = full  # type: ignore[method-assign]
        pauses = []
        for _ in range(5):
            run = batch.wave()
            assert not run.is_finished
            pauses.append(run.wait(hold=10).wake_at(0, []) - batch.now)
        assert pauses == [15, 30, 60, 60, 60]


class TestTheDestinationIsFull:
    def test_nothing_more_is_paid_until_videos_can_be_stored(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(30))
        batch.client.save_fate = lambda: "full"
        for _ in range(8):
            assert not batch.wave().is_finished
            finish_all(batch.gateway)
        assert len(batch.gateway.paid) == 6, "those in flight, and those that were submitted before the first failure"
        batch.client.save_fate = lambda: "ok"
        assert batch.work().rows.counts() == {"saved": 30}

    @pytest.mark.parametrize(("fate", "why"), [("full", "No space left"), ("exists", "already exists")])
    def test_the_try_gives_up_after_a_while_and_the_next_one_may_store_them(
        self, tmp_path: Path, fate: str, why: str
    ) -> None:
        batch = Batch(tmp_path, table(30))
        batch.client.save_fate = lambda: fate
        with pytest.raises(KirinDestinationError, match=why) as caught:
            batch.work()
        assert len(batch.gateway.paid) == 6
        assert caught.value.retryable

    @pytest.mark.parametrize("fate", ["full", "exists"])
    def test_it_is_noticed_although_rows_end_one_by_one(self, tmp_path: Path, fate: str) -> None:
        batch = Batch(tmp_path, table(30), settings={"max_in_flight": 1})
        batch.client.save_fate = lambda: fate

        def work_slowly() -> None:
            for _ in range(10):
                finish_all(batch.gateway)
                # Enough waves for the earlier rows to use all their tries up.
                for _ in range(4):
                    assert not batch.wave().is_finished

        with pytest.raises(KirinDestinationError):
            work_slowly()
        assert len(batch.gateway.paid) <= 4, "three that could not be stored, and what was submitted before the last"
        batch.client.save_fate = lambda: "ok"
        batch.try_number = 2
        assert batch.work().rows.counts() == {"saved": 30} and len(batch.gateway.paid) == 30

    def test_a_row_whose_file_exists_does_not_stop_the_others(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(12), settings={"max_in_flight": 1})
        fates = iter(["exists", "ok"] * 6)
        batch.client.save_fate = lambda: next(fates)
        assert batch.work().rows.counts() == {"saved": 6, "done": 6}

    def test_files_that_must_not_be_replaced_cost_the_last_rows_only(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(6))
        fates = iter(["ok"] * 3 + ["exists"] * 3)
        batch.client.save_fate = lambda: next(fates)
        assert batch.work().rows.counts() == {"saved": 3, "done": 3}, "max_failed_rows may allow them"


class TestTheGatewayIsUnavailable:
    def test_the_batch_waits_and_then_gives_the_try_up(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.gateway.post_fate = lambda: "connection refused"
        for _ in range(9):
            run = batch.wave()
            assert not run.is_finished and run.rows.failed == 0
        with pytest.raises(KirinError):
            batch.wave()
        batch.try_number = 2
        assert not batch.wave().is_finished, "another try has its own patience"
        batch.gateway.post_fate = lambda: "ok"
        assert batch.work().rows.counts() == {"saved": 5}

    def test_polls_that_fail_change_nothing(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        batch.gateway.get_fate = lambda: "503"
        assert batch.wave().rows.in_flight == 3
        batch.gateway.get_fate = lambda: "ok"
        assert batch.work().rows.counts() == {"saved": 5}

    def test_a_wrong_key_ends_it_and_the_next_try_continues(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        batch.wave()
        look = batch.gateway.get_task

        def refuse(kirin_task_id: str, *, patience: float) -> Any:
            raise KirinAuthError("wrong key", http_status=401)

        batch.gateway.get_task = refuse  # type: ignore[method-assign]
        with pytest.raises(KirinAuthError):
            batch.wave()
        batch.gateway.get_task = look  # type: ignore[method-assign]
        batch.try_number = 2
        assert batch.work().rows.counts() == {"saved": 5}
        assert len(batch.gateway.paid) == 5


def test_without_credit_what_is_in_flight_is_stored(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(5), settings={"max_in_flight": 9})
    submit = batch.gateway.submit_as

    def poor(external_task_id: str) -> Any:
        if len(batch.gateway.paid) == 2:
            raise KirinCreditError("no credit", http_status=402)
        return submit(external_task_id)

    batch.gateway.submit_as = poor  # type: ignore[method-assign]
    batch.wave()
    finish_all(batch.gateway)
    run = batch.wave()
    assert run.is_finished and run.rows.counts() == {"todo": 3, "saved": 2}
    error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m", why=str(run.halted))
    assert error is not None and "3 not submitted" in str(error) and "no credit" in str(error)


def test_a_generation_that_does_not_end_is_polled_again_by_the_next_try(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(1), settings={"row_timeout": 100})
    batch.wave()
    batch.now += 101
    run = batch.wave()
    assert run.is_finished and run.rows.counts() == {"timeout": 1}
    error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m")
    assert error is not None and error.retryable
    finish_all(batch.gateway)
    batch.try_number = 2
    assert batch.wave().rows.counts() == {"saved": 1}
    assert len(batch.gateway.paid) == 1


def test_a_batch_that_runs_out_of_time_says_so(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(5), settings={"timeout": 100})
    batch.wave()
    finish(batch.gateway, 0)
    batch.now += 101
    run = batch.wave()
    assert run.is_finished and run.rows.counts() == {"todo": 2, "saved": 1, "timeout": 2}
    error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m", why=run.why_stopped)
    assert error is not None and "2 not submitted" in str(error) and "timeout = 100 s" in str(error)
    finish_all(batch.gateway)
    batch.try_number, batch.round = 2, 3
    assert batch.work().rows.counts() == {"saved": 5}, "a clear grants the time again"


def test_a_row_whose_generation_failed_keeps_no_prompt_on_record() -> None:
    done = RowState("a", "done", order={"prompt": "p"})
    assert after_download(done, KirinNetworkError("cut")).order == done.order
    assert after_download(done, KirinTaskFailedError("no video")).order is None


def test_a_video_that_cannot_be_stored_is_tried_again_and_then_left_to_the_next_try(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(2))
    batch.wave()
    finish_all(batch.gateway)
    batch.client.save_fate = lambda: "cut"
    for _ in range(3):
        run = batch.wave()
    assert run.is_finished and run.rows.counts() == {"done": 2}
    error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m")
    assert error is not None and error.retryable and "cut off" in str(error)
    batch.client.save_fate = lambda: "ok"
    batch.try_number = 2
    assert batch.wave().rows.counts() == {"saved": 2}


class TestOwners:
    def test_a_process_that_was_overtaken_submits_nothing_more(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(5))
        old = batch.open()
        sent_by_old: list[str] = []

        def overtake(key: str) -> None:
            sent_by_old.append(key)
            if key == "s1":
                batch.client.before_sending = lambda key: None
                batch.try_number = 2
                batch.wave()

        batch.client.before_sending = overtake
        with pytest.raises(SupersededError):
            old.wave()
        assert sent_by_old == ["s0", "s1"]
        assert billed(batch.gateway) == Counter({"s0": 1, "s1": 1, "s2": 1})
        assert batch.work().rows.counts() == {"saved": 5}
        assert max(billed(batch.gateway).values()) == 1

    def test_an_older_try_cannot_take_the_batch_over(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2), try_number=2)
        batch.wave()
        batch.try_number = 1
        with pytest.raises(SupersededError):
            batch.open()


class TestALostJournal:
    def test_costs_lookups_and_no_money(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(6), settings={"max_in_flight": 4})
        batch.wave()
        shutil.rmtree(tmp_path)
        batch.may_be_lost, batch.verified = True, {}
        run = batch.work()
        assert run.rows.counts() == {"saved": 6}
        assert billed(batch.gateway) == Counter({f"s{number}": 1 for number in range(6)})

    def test_with_a_gateway_that_cannot_look_up_nothing_is_submitted_twice(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(3))
        batch.wave()
        shutil.rmtree(tmp_path)
        batch.may_be_lost, batch.verified = True, {}
        batch.gateway.finds_by_external_id = False
        batch.gateway.rejects_duplicates = False
        run = batch.work()
        assert run.rows.counts() == {"unknown": 3}
        assert len(batch.gateway.paid) == 3

    @pytest.mark.parametrize("content", ["", "{", "null", '{"key": "s0"}\n', "\x00\xff", "[]\n[]\n"])
    @pytest.mark.parametrize("name", ["manifest.jsonl", "_journal/head.json"])
    def test_a_damaged_journal_costs_no_second_submission(self, tmp_path: Path, name: str, content: str) -> None:
        batch = Batch(tmp_path, table(6))
        batch.wave()
        finish(batch.gateway, 0)
        batch.wave()
        (tmp_path / name).write_text(content)
        batch.may_be_lost, batch.verified = True, {}
        assert batch.work().rows.counts() == {"saved": 6}
        assert billed(batch.gateway) == Counter({f"s{number}": 1 for number in range(6)})

    def test_another_takes_journal_is_replaced(self, tmp_path: Path) -> None:
        batch = Batch(tmp_path, table(2))
        batch.work()
        run = batch.process()
        run.open(batch="another take", try_number=2, round=3, may_be_lost=False)
        assert run.rows.left == 2


class CrashingJournal(Journal):
    """A journal whose process may be killed at each write, before or after it."""

    fate: Any = staticmethod(lambda: "ok")

    def _write(self, name: str, content: Any) -> None:
        fate = self.fate()
        if fate == "killed before":
            raise Killed
        super()._write(name, content)
        if fate == "killed after":
            raise Killed


#: What may happen in one wave.
FAULTS: dict[str, Any] = {
    "posts": st.lists(
        st.one_of(st.sampled_from(["ok", "killed after", "lost after"]), st.sampled_from(POST_FATES)), max_size=4
    ),
    "gets": st.lists(st.one_of(st.just("ok"), st.sampled_from(GET_FATES)), max_size=8),
    "writes": st.one_of(
        st.just([]), st.lists(st.sampled_from(["ok", "ok", "ok", "killed before", "killed after"]), max_size=8)
    ),
    "saves": st.lists(st.sampled_from(["ok", "cut", "killed"]), max_size=3),
}


class BatchMachine(RuleBasedStateMachine):
    """Any number of processes, killed anywhere, on a gateway that loses responses: a row is never billed twice."""

    @initialize(rows=st.integers(1, 4), duplicates=st.booleans(), lag=st.integers(0, 3), finds=st.booleans())
    def begin(self, rows: int, duplicates: bool, lag: int, finds: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kirin-batch-"))
        self.gateway = ModelGateway(rejects_duplicates=duplicates, lag=lag, finds_by_external_id=finds)
        self.batch = Batch(self.folder, table(rows), self.gateway, settings={"max_in_flight": 2})

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, posts: list[str], gets: list[str], writes: list[str], saves: list[str]) -> None:
        self.gateway.post_fate = fates(*posts)
        self.gateway.get_fate = fates(*gets)
        self.batch.client.save_fate = fates(*saves)
        journal = CrashingJournal(str(self.folder), owner=f"p{self.batch.processes + 1}")
        journal.fate = fates(*writes)
        # A new process knows nothing of the lookup.
        self.batch.verified = {}
        with contextlib.suppress(Killed, KirinError):
            run = self.batch.open(journal)
            run.wave()

    @rule(is_new_try=st.booleans(), **FAULTS)
    def wave(self, is_new_try: bool, **faults: Any) -> None:
        self.batch.try_number += is_new_try
        self._run(**faults)
        self.batch.may_be_lost = True

    @rule()
    def clear(self) -> None:
        self.batch.try_number += 1
        self.batch.round += 1

    @precondition(lambda self: any(not kirin_task.is_final for _, kirin_task in self.gateway.paid))
    @rule(status=st.sampled_from(["completed", "completed", "failed"]), data=st.data())
    def one_ends(self, status: str, data: Any) -> None:
        running = [number for number, (_, kirin_task) in enumerate(self.gateway.paid) if not kirin_task.is_final]
        finish(self.gateway, data.draw(st.sampled_from(running)), status)
        self.batch.now += 20

    @rule(what=st.sampled_from(["all", "manifest", "head", "half"]))
    def journal_is_lost(self, what: str) -> None:
        if what == "all":
            shutil.rmtree(self.folder, ignore_errors=True)
        elif what == "manifest":
            (self.folder / "manifest.jsonl").unlink(missing_ok=True)
        elif what == "head":
            (self.folder / "_journal" / "head.json").unlink(missing_ok=True)
        elif (path := self.folder / "manifest.jsonl").exists():
            text = path.read_text()
            path.write_text(text[: len(text) // 2])

    @invariant()
    def no_row_is_billed_twice(self) -> None:
        if hasattr(self, "gateway"):
            assert all(count <= 1 for count in billed(self.gateway).values()), self.gateway.paid

    @rule()
    def everything_is_stored_without_further_faults(self) -> None:
        self.gateway.post_fate = self.gateway.get_fate = self.batch.client.save_fate = lambda: "ok"
        self.gateway.hidden.clear()
        self.batch.round += 1
        self.batch.try_number += 1
        run = self.batch.work()
        self.batch.may_be_lost = True
        # A submission that was lost, and a lookup never seen to work, leave an unknown outcome; nothing else is left.
        assert set(run.rows.counts()) <= {"saved", "unknown"}
        assert billed(self.gateway).total() >= run.rows.count("saved")


TestBatchMachine = BatchMachine.TestCase
TestBatchMachine.settings = settings(max_examples=50, stateful_step_count=12, suppress_health_check=list(HealthCheck))


def test_input_errors_of_the_gateway_name_their_code(tmp_path: Path) -> None:
    batch = Batch(tmp_path, table(1))

    def refuse(external_task_id: str) -> Any:
        raise KirinInputError("bad picture", http_status=400, code="8002005002")

    batch.gateway.submit_as = refuse  # type: ignore[method-assign]
    run = batch.work()
    error = failure(run.rows, max_failed_rows=0, refused_count=True, manifest="m")
    assert error is not None and "1 failed (8002005002)" in str(error)
    assert failure(run.rows, max_failed_rows=1, refused_count=True, manifest="m") is None


def test_an_unknown_outcome_of_the_first_seconds_is_resolved_by_the_first_row_that_is_accepted(tmp_path: Path) -> None:
    """Nothing had been seen to work when the process was killed, so the lookup's "not found" proved nothing."""
    batch = Batch(tmp_path, table(4))
    batch.gateway.post_fate = fates("killed before")
    with pytest.raises(Killed):
        batch.wave()
    batch.verified, batch.try_number = {}, 2
    assert batch.work().rows.counts() == {"saved": 4}
    assert billed(batch.gateway) == Counter({f"s{number}": 1 for number in range(4)})


def test_a_long_wave_reports_where_it_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    batch = Batch(tmp_path, table(12))
    submit = batch.gateway.submit_as

    def at_once(external_task_id: str) -> Any:
        submit(external_task_id)
        finish_all(batch.gateway)
        return batch.gateway.paid[-1][1]

    def slowly() -> str:
        batch.now += 40
        return "ok"

    batch.gateway.submit_as, batch.client.save_fate = at_once, slowly  # type: ignore[method-assign]
    caplog.set_level("INFO")
    assert batch.wave().rows.counts() == {"saved": 12}
    lines = [record.message for record in caplog.records if " of 12 done" in record.message]
    assert len(lines) > 2 and lines[-1].startswith("12 of 12 done")
