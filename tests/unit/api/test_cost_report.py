"""Sums: each generation once, however often it was recorded, and exactly."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.cost_report import FIELDS, summarize, total
from airflow_provider_kirin.api.generations import About, Generation, GenerationRecord, merge_records, select

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
MODEL = "kirin_v1_6_i2v"


def submitted(kirin_task_id: str, *, task: str = "submit", at: datetime = NOON) -> GenerationRecord:
    value = {
        "kirin_task_id": kirin_task_id,
        "external_task_id": "airflow-x",
        "price_key": f"{MODEL}/std/5",
        "kirin_conn_id": "paid",
    }
    return GenerationRecord("shop", "r1", task, at, "submission", value)


def ended(
    *ids: str,
    cost: Any = "0.28",
    status: str = "completed",
    task: str = "wait",
    at: datetime = NOON,
    model: str = MODEL,
) -> GenerationRecord:
    entries = [{"kirin_task_id": one, "model": model, "status": status, "cost": cost} for one in ids]
    return GenerationRecord("shop", "r1", task, at, "end", entries)


class TestMerging:
    def test_submitted_by_one_task_seen_by_another(self) -> None:
        later = NOON + timedelta(days=1)
        (one,) = merge_records([ended("t1", at=later), submitted("t1")])
        assert one == Generation(
            *("t1", "shop", "r1", "submit", later, MODEL, "paid", Decimal("0.28"), True),
            external_task_id="airflow-x",
            status="completed",
        )

    def test_files_are_the_last_that_were_stored(self) -> None:
        stored = [
            GenerationRecord("shop", "r1", "wait", at, "files", {"kirin_task_id": "t1", "files": files})
            for at, files in ((NOON, ["file:///a.mp4"]), (NOON + timedelta(days=1), ["file:///b.mp4", 7]), (NOON, "x"))
        ]
        (one,) = merge_records([*stored, submitted("t1"), ended("t1", status="failed")])
        assert one.files == ("file:///b.mp4",) and one.status == "failed"
        assert select([one], status="failed", task="submit") == [one] and select([one], status="completed") == []

    def test_seen_twice_and_after_each_clear_again_it_is_counted_once(self) -> None:
        later = NOON + timedelta(days=3)
        notes = [
            submitted("t1"),
            submitted("t1"),
            ended("t1"),
            ended("t1", at=later),
            ended("t1", task="other", at=later),
        ]
        (one,) = merge_records(notes)
        assert one.cost == Decimal("0.28") and one.at == NOON, "the first look dates it"

    def test_an_end_has_the_time_in_its_record_and_not_that_of_a_rewritten_row(self) -> None:
        cleared = replace(ended("t1", "t2"), at=NOON + timedelta(days=25))
        cleared.value[0]["at"] = "2026-11-25T12:00:00+00:00"
        assert [one.at for one in merge_records([submitted("t1"), cleared])] == [NOON, NOON + timedelta(days=25)]

    @pytest.mark.parametrize("text", [None, "", "soon", 5, "0001-01-01T00:00:00+10:00"])
    def test_a_time_that_cannot_be_read_is_none(self, text: Any) -> None:
        note = ended("t1")
        note.value[0]["at"] = text
        assert merge_records([note])[0].at == NOON

    def test_a_time_of_another_zone_is_of_the_day_in_utc(self) -> None:
        note = ended("t1")
        note.value[0]["at"] = "2026-11-25T23:30:00-02:00"
        assert summarize(merge_records([note]), ["day"])[0]["day"] == "2026-11-26"

    def test_a_foreign_generation_belongs_to_the_task_that_saw_its_end(self) -> None:
        (one,) = merge_records([ended("t1")])
        assert one.task == "wait" and one.conn_id is None

    def test_what_has_not_ended_is_unknown_and_dated_by_its_submission(self) -> None:
        (one,) = merge_records([submitted("t1")])
        assert (one.cost, one.ended, one.at, one.model) == (None, False, NOON, MODEL)

    @pytest.mark.parametrize(("status", "cost"), [("failed", Decimal(0)), ("completed", None)])
    def test_without_a_cost_only_what_failed_was_free(self, status: str, cost: Decimal | None) -> None:
        assert merge_records([ended("t1", cost=None, status=status)])[0].cost == cost

    def test_a_later_record_without_a_cost_does_not_remove_it(self) -> None:
        later = NOON + timedelta(hours=1)
        assert merge_records([ended("t1"), ended("t1", cost=None, at=later, model="")])[0].cost == Decimal("0.28")

    @pytest.mark.parametrize("value", [None, "x", 5, [], {}, [None, "x"], {"intent": True}, {"kirin_task_id": 5}])
    def test_a_record_without_a_generation_is_ignored(self, value: Any) -> None:
        assert merge_records([GenerationRecord("d", "r", "t", NOON, about, value) for about in get_args(About)]) == []

    @given(st.randoms(use_true_random=False))
    def test_the_order_of_the_records_does_not_matter(self, rng: random.Random) -> None:
        notes = [
            submitted("t1"),
            submitted("t2"),
            ended("t1", "t2", "t3"),
            ended("t2", cost="9.99", at=NOON + timedelta(1)),
        ]
        shuffled = list(notes)
        rng.shuffle(shuffled)
        key = lambda one: one.kirin_task_id  # noqa: E731
        assert sorted(merge_records(shuffled), key=key) == sorted(merge_records(notes), key=key)


class TestSelecting:
    SPENT = (
        Generation("t1", "shop", "r1", "submit", NOON),
        Generation("t2", "shop", "r2", "submit", NOON + timedelta(days=1)),
        Generation("t3", "blog", "r1", "submit", NOON + timedelta(days=2)),
    )

    @pytest.mark.parametrize(
        ("only", "ids"),
        [
            ({}, "t1 t2 t3"),
            ({"dag": "shop"}, "t1 t2"),
            ({"run": "r1"}, "t1 t3"),
            ({"dag": "shop", "run": "r1"}, "t1"),
            ({"dag": "sho"}, ""),
            ({"first": date(2026, 11, 26)}, "t2 t3"),
            ({"last": date(2026, 11, 26)}, "t1 t2"),
            ({"dag": "shop", "first": date(2026, 11, 26), "last": date(2026, 11, 26)}, "t2"),
        ],
    )
    def test_only_the_requested_generations_are_selected(self, only: dict[str, Any], ids: str) -> None:
        assert " ".join(one.kirin_task_id for one in select(self.SPENT, **only)) == ids

    def test_by_the_task_that_submitted_and_not_by_the_one_that_saw_the_end(self) -> None:
        spent = merge_records([submitted("t1"), replace(ended("t1"), dag="other", run="r9")])
        assert [one.cost for one in select(spent, dag="shop", run="r1")] == [Decimal("0.28")]
        assert select(spent, dag="other") == select(spent, run="r9") == []


class TestSumming:
    def test_groups_and_their_total(self) -> None:
        spent = merge_records([submitted("t1"), submitted("t2"), ended("t1"), ended("t3", cost=0.1, task="b")])
        assert summarize(spent, ["task"]) == [
            {"task": "b", "generations": 1, "usd": "0.1", "unknown": 0},
            {"task": "submit", "generations": 2, "usd": "0.28", "unknown": 1},
        ]
        assert total(spent) == {"generations": 3, "usd": "0.38", "unknown": 1}

    def test_every_field_that_is_offered(self) -> None:
        (row,) = summarize(merge_records([submitted("t1"), ended("t1")]), FIELDS)
        expected = {"dag": "shop", "run": "r1", "task": "submit", "model": MODEL, "day": "2026-11-25"}
        assert row == {**expected, "generations": 1, "usd": "0.28", "unknown": 0}

    def test_the_total_of_no_generations_is_zero(self) -> None:
        assert summarize([], ["dag"]) == [] and total([]) == {"generations": 0, "usd": "0", "unknown": 0}

    def test_by_nothing_is_one_row(self) -> None:
        assert summarize(merge_records([ended("t1", "t2")]), []) == [{"generations": 2, "usd": "0.56", "unknown": 0}]

    @given(st.lists(st.decimals(min_value=0, max_value=10**6, places=6)))
    def test_totals_are_exact(self, costs: list[Decimal]) -> None:
        notes = [ended(f"t{number}", cost=format(cost, "f")) for number, cost in enumerate(costs)]
        assert Decimal(total(merge_records(notes))["usd"]) == sum(costs, Decimal(0))
