"""What a batch decides: states, when to wake, how much longer, and when it has failed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.batch.report import failure, generation_entries, progress_line, summary
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.schedule import Wait, pause_after, target_after_full, target_after_wave
from airflow_provider_kirin.api.batch.state import RowState, at_new_round, at_new_try, is_to_submit, merge
from airflow_provider_kirin.api.video_file import VideoFile

STATUSES = ["todo", "intent", "sent", "done", "saved", "failed", "refused", "unknown", "timeout"]
MONEY = st.none() | st.decimals(0, 9, places=2).map(str)
STATES: st.SearchStrategy[RowState] = st.builds(
    RowState,
    key=st.sampled_from("abc"),
    status=st.sampled_from(STATUSES),
    version=st.integers(0, 9),
    external_task_id=st.none() | st.text(min_size=1),
    failures=st.integers(0, 3),
    retryable=st.booleans(),
    since=st.none() | st.floats(1, 1e9),
    files=st.lists(st.text(), max_size=2).map(tuple),
    file_details=st.lists(
        st.builds(
            VideoFile,
            uri=st.text(),
            bytes=st.integers(0),
            sha256=st.text(),
            width=st.none() | st.integers(1),
            frame_rate=st.none() | st.floats(1, 60),
            has_audio=st.none() | st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    cost=MONEY,
    error=st.none() | st.text(min_size=1),
    earlier=st.dictionaries(st.text(), st.fixed_dictionaries({"kirin_task_id": st.text(), "cost": MONEY}), max_size=2),
)


def rows(*states: RowState, total: int | None = None) -> Rows:
    return Rows({state.key: state for state in states}, total=len(states) if total is None else total, row_retries=1)


class TestStates:
    @given(STATES)
    def test_a_state_survives_its_line(self, state: RowState) -> None:
        assert RowState.from_dict(json.loads(json.dumps(state.to_dict()))) == state

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.dictionaries(
                st.sampled_from(["key", "status", "version", "files", "file_details", "earlier", "cost"]),
                inner | st.lists(inner),
            ),
        )
    )
    def test_anything_else_is_no_state(self, entry: Any) -> None:
        found = RowState.from_dict(entry)
        assert found is None or RowState.from_dict(found.to_dict()) == found

    @given(st.lists(STATES, max_size=8), st.randoms())
    def test_the_order_and_repetition_of_records_do_not_matter(self, states: list[RowState], random: Any) -> None:
        distinct = list({(*state.age, state.key): state for state in states}.values())
        shuffled = [*distinct, *distinct[:3]]
        random.shuffle(shuffled)
        assert merge(shuffled) == merge(distinct)

    @given(STATES)
    def test_a_new_try_looks_up_again_and_a_new_round_submits_what_is_missing(self, state: RowState) -> None:
        retried, cleared = at_new_try(state), at_new_round(state, state.digest)
        assert retried.status == {"unknown": "intent", "timeout": "sent"}.get(state.status, state.status)
        assert cleared.status == {"failed": "todo", "refused": "todo"}.get(state.status, retried.status)
        assert at_new_round(cleared, state.digest) == cleared
        assert cleared.money == retried.money == state.money

    @pytest.mark.parametrize("status", ["sent", "done", "saved", "timeout", "unknown"])
    def test_a_row_that_changed_is_submitted_after_a_clear(self, status: Any) -> None:
        state = RowState(
            "a", status, 3, digest="old", external_task_id="e1", kirin_task_id="k1", cost="0.28", files=("f",)
        )
        changed = at_new_round(state, "new")
        expected = "intent" if status == "unknown" else "todo"
        assert (changed.status, changed.digest) == (expected, "new")
        assert (changed.external_task_id, str(changed.money)) == ("e1", "0.28")

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (None, True),
            (RowState("a"), True),
            (RowState("a", "intent"), True),
            (RowState("a", "failed", retryable=True, failures=1), True),
            (RowState("a", "failed", retryable=True, failures=2), False),
            (RowState("a", "failed", failures=1), False),
            *((RowState("a", status), False) for status in ("sent", "done", "saved", "refused", "unknown", "timeout")),
        ],
    )
    def test_rows_are_submitted_by_their_state(self, state: RowState | None, expected: bool) -> None:
        assert is_to_submit(state, 1) is expected


class TestSums:
    @given(st.lists(STATES, max_size=30))
    def test_they_follow_every_change(self, states: list[RowState]) -> None:
        changed = rows(total=5)
        for state in states:
            changed.set(state)
        fresh = Rows(changed.states, total=5, row_retries=1)
        assert changed.counts() == fresh.counts()
        assert (changed.left, changed.failed, changed.in_flight) == (fresh.left, fresh.failed, fresh.in_flight)
        assert sum(fresh.counts().values()) == 5

    def test_a_line_for_the_log(self) -> None:
        saved = [RowState(f"s{number}", "saved", seconds=60.0, cost="0.28") for number in range(412)]
        flying = [RowState(f"f{number}", "sent") for number in range(20)]
        failed = [RowState(f"x{number}", "failed") for number in range(3)]
        line = progress_line(rows(*saved, *flying, *failed, total=1000), 20)
        assert line == "412 of 1,000 done, 20 in flight, 3 failed, 115.36 USD, about 29 min left"

    def test_the_summary_is_small_however_many_rows_there_are(self) -> None:
        states = [RowState(f"s{number}", "saved", cost="0.28", files=("f" * 200,)) for number in range(5000)]
        given_back = summary(rows(*states), manifest="s3://b/" + "m" * 1000, folder="s3://b/" + "f" * 1000, seconds=3.4)
        assert given_back["counts"] == {"saved": 5000} and given_back["cost_usd"] == "1400.00"
        assert len(json.dumps(given_back)) < 4000


def test_what_a_row_records_about_its_generations() -> None:
    state = RowState("a", "saved", external_task_id="e-2", kirin_task_id="k2", conn_id="c", model="m", cost="0.28")
    earlier = {"e": {"kirin_task_id": "k1", "cost": "0"}}
    state = replace(state, since=0.0, seconds=60.0, files=("file:///v.mp4",), earlier=earlier)
    entries = list(generation_entries(state))
    assert [(about, entry["kirin_task_id"]) for about, entry in entries] == [
        ("submission", "k2"), ("end", "k2"), ("files", "k2"), ("submission", "k1"), ("end", "k1"),
    ]  # fmt: skip
    assert [entry["external_task_id"] for about, entry in entries if about == "submission"] == ["e-2", "e"]
    ended = [entry for about, entry in entries if about == "end"]
    assert [(entry["cost"], entry["status"]) for entry in ended] == [("0.28", "completed"), ("0", "failed")]
    assert ended[0]["at"] == "1970-01-01T00:01:00+00:00"
    assert list(generation_entries(RowState("a"))) == []


class TestTargets:
    def test_a_full_account_sets_it_to_what_was_accepted(self) -> None:
        assert [target_after_full(n) for n in (0, 1, 7)] == [1, 1, 7]

    def test_it_grows_by_one_a_wave(self) -> None:
        assert [target_after_wave(n, 20) for n in (1, 19, 20)] == [2, 20, 20]

    def test_pauses_grow_to_a_minute(self) -> None:
        assert [pause_after(n) for n in (1, 2, 3, 4, 99)] == [15, 30, 60, 60, 60]


class TestWake:
    def wake(self, waiting: int, ended: list[float], **how: Any) -> float:
        defaults = {"since": 0.0, "deadline": 1e6, "earliest": 10.0}
        return Wait(**defaults | how).wake_at(waiting, ended)

    def test_not_before_the_scheduler_is_ready(self) -> None:
        assert self.wake(0, [1.0, 2.0]) == 10
        assert self.wake(3, [], deadline=4) == 10

    def test_as_soon_as_nothing_is_in_flight(self) -> None:
        assert self.wake(0, [11.0, 12.0]) == 12
        assert self.wake(0, []) == 10

    def test_one_of_few_places_is_worth_a_worker_after_a_while(self) -> None:
        assert self.wake(4, [2.0]) == 15
        assert self.wake(4, [40.0]) == 40

    def test_many_places_wait_for_a_quarter_or_for_the_patience_of_the_first(self) -> None:
        assert self.wake(19, [40.0]) == 55
        assert self.wake(16, [40.0, 41.0, 42.0, 43.0]) == 55
        assert self.wake(15, [40.0, 44.0, 42.0, 43.0, 41.0]) == 44

    def test_without_waiting_rows_only_downloads_are_late(self) -> None:
        assert self.wake(4, [40.0], has_more=False) == 100

    def test_a_process_that_waits_itself_continues_at_the_first_end(self) -> None:
        assert self.wake(19, [40.0, 41.0], at_once=True) == 40
        assert self.wake(4, [40.0], at_once=True, has_more=False) == 40
        assert self.wake(4, [], at_once=True, deadline=77) == 77

    def test_at_the_deadline(self) -> None:
        assert self.wake(4, [], deadline=77) == 77

    def test_what_was_refused_is_tried_again_in_time(self) -> None:
        assert self.wake(4, [], retry_at=30) == 30
        assert self.wake(0, [], retry_at=30) == 30
        assert self.wake(0, [12.0], retry_at=30) == 12

    @given(st.integers(0, 50), st.lists(st.floats(0, 1000), max_size=50), st.booleans())
    def test_a_further_end_never_makes_it_later(self, waiting: int, ended: list[float], has_more: bool) -> None:
        before = self.wake(waiting + 1, ended, has_more=has_more)
        after = self.wake(waiting, [*ended, 1000.0], has_more=has_more)
        assert after <= max(before, 1000.0)
        assert 10 <= after <= 1e6


class TestFailure:
    def test_a_batch_with_all_videos_is_a_success(self) -> None:
        assert failure(rows(RowState("a", "saved")), max_failed_rows=0, refused_count=True, manifest="m") is None

    def test_the_error_counts_by_reason_and_names_the_first(self) -> None:
        states = [RowState(f"x{n}", "failed", code="8002005098", error="upstream") for n in range(12)]
        error = failure(
            rows(RowState("a", "saved"), RowState("r", "refused", error="too small"), *states, total=15),
            max_failed_rows=3,
            refused_count=True,
            manifest="s3://b/manifest.jsonl",
        )
        text = str(error)
        assert "14 of 15 rows have no video: 12 failed (8002005098), 1 refused, 1 not submitted." in text
        assert "max_failed_rows allows 3" in text and "s3://b/manifest.jsonl" in text
        assert "\n  - x0: failed: upstream" in text and text.endswith("and 3 more.")
        assert error is not None and not error.retryable

    @pytest.mark.parametrize(("allowed", "is_success"), [(1, False), (2, True), (0.019, False), (0.02, True)])
    def test_max_failed_rows_allows_failures(self, allowed: float, is_success: bool) -> None:
        states = [RowState("a", "failed"), RowState("b", "unknown")]
        found = failure(rows(*states, total=100), max_failed_rows=allowed, refused_count=True, manifest="m")
        saved = rows(*states, *(RowState(f"s{n}", "saved") for n in range(98)))
        assert found is not None, "98 were not submitted"
        found = failure(saved, max_failed_rows=allowed, refused_count=True, manifest="m")
        assert (found is None) is is_success

    def test_skipped_rows_do_not_count(self) -> None:
        assert failure(rows(RowState("a", "refused")), max_failed_rows=0, refused_count=False, manifest="m") is None
        both = rows(RowState("a", "refused"), RowState("b", "failed"))
        error = failure(both, max_failed_rows=0, refused_count=False, manifest="m")
        assert "1 of 2 rows have no video: 1 failed. 1 more were refused, which on_bad_row='skip' allows." in str(error)

    @pytest.mark.parametrize("status", ["done", "timeout"])
    def test_what_another_try_can_finish_is_retried(self, status: Any) -> None:
        error = failure(rows(RowState("a", status)), max_failed_rows=0, refused_count=True, manifest="m")
        assert error is not None and error.retryable
