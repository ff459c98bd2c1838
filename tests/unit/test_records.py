"""Cards: whatever is in an XCom, a card is JSON, and says what is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("airflow.sdk", reason="the pages are for Airflow 3.1 and later")

from airflow_provider_kirin.api.task import KirinTask, KirinTaskError, KirinUsage, KirinVideo
from airflow_provider_kirin.plugins.records import (
    InstanceKey,
    Records,
    Stored,
    card,
    first_ends,
    matches,
    moment,
    plain_parts,
    summary,
)

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
INSTANCE = InstanceKey(1, "make", -1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = ("kirin_task_id", "status", "cost", "error", "at", "created_at", "completed_at", "prompt", "images", "files")
ENTRY = st.dictionaries(st.sampled_from([*FIELDS, "settings", "model", "price_key"]), JSON)


def stored(key: str, value: Any, dag_id: str = "dag") -> Stored:
    return Stored(INSTANCE, dag_id, "run", key, AT, value)


def made(*others: Stored, live: KirinTask | None = None, **fields: Any) -> dict[str, Any]:
    return card(stored("kirin_submission", {"kirin_task_id": "k1", **fields}), Records.of(others), [], live)


def usage(**fields: Any) -> Stored:
    return stored("kirin_usage", [{"kirin_task_id": "k1", "status": "completed", "cost": "0.28", **fields}])


class TestCard:
    def test_end_on_record(self) -> None:
        shown = made(usage(model="m", completed_at=1_795_867_200_000))
        assert (shown["status"], shown["cost"], shown["videos"], shown["is_on_record"]) == (
            "completed",
            "0.28",
            1,
            True,
        )
        assert shown["timeline"][-1] == {"step": "Finished at Kirin", "at": "2026-11-28T12:00:00.000+00:00"}

    def test_failure_on_record_says_what_to_do(self) -> None:
        shown = made(usage(status="failed", error={"code": "110001", "message": "sensitive"}))
        assert shown["error"] == {
            "code": "110001",
            "message": "sensitive",
            "advice": "The image was judged sensitive; use another one.",
        }
        assert shown["videos"] == 0

    def test_without_an_end_it_is_in_progress(self) -> None:
        shown = made(price_key="kirin_v1_6_i2v/std/5")
        assert (shown["status"], shown["is_on_record"], shown["model"]) == ("in_progress", False, "kirin_v1_6_i2v")

    def test_gateway_knows_better(self) -> None:
        running = made(live=KirinTask("k1", "in_progress", progress=0.4))
        done = made(live=KirinTask("k1", "completed", videos=[KirinVideo("https://x")], usage=KirinUsage(Decimal("1"))))
        moderated = made(live=KirinTask("k1", "completed", error=KirinTaskError("7", "no")))
        assert (running["status"], running["progress"]) == ("in_progress", 0.4)
        assert (done["status"], done["videos"], done["cost"], done["error"]) == ("completed", 1, "1", None)
        assert moderated["error"]["advice"] and moderated["videos"] == 0

    @given(
        st.lists(st.tuples(st.sampled_from(["kirin_order", "kirin_usage", "kirin_files", "x"]), JSON | ENTRY)), ENTRY
    )
    def test_any_record_becomes_json(self, others: list[tuple[str, Any]], fields: dict[str, Any]) -> None:
        rows = [stored(key, value) for key, value in others]
        rows += [stored(key, {**value, "kirin_task_id": "k1"}) for key, value in others if isinstance(value, dict)]
        records, submission = Records.of(rows), stored("kirin_submission", {**fields, "kirin_task_id": "k1"})
        json.dumps(card(submission, records, []))
        assert matches(submission, records)
        json.dumps(summary(first_ends((row.dag_id, row.value) for row in rows), ["dag"]))


class TestFilters:
    @pytest.mark.parametrize(
        ("filters", "passes"),
        [
            ({"state": "completed"}, True),
            ({"state": "failed"}, False),
            ({"model": "m"}, True),
            ({"model": "n"}, False),
            ({"text": "STRASSE"}, True),
            ({"text": "k1"}, True),
            ({"text": "k2"}, False),
            ({"text": "straße", "state": "failed"}, False),
        ],
    )
    def test_all_of_them_have_to_match(self, filters: dict[str, str], passes: bool) -> None:
        order = stored("kirin_order", {"kirin_task_id": "k1", "prompt": "An der Straße"})
        records = Records.of([order, usage(model="m")])
        assert matches(stored("kirin_submission", {"kirin_task_id": "k1"}), records, **filters) is passes

    @given(st.text(), st.text(), st.text(), st.booleans())
    def test_database_finds_what_matches(self, before: str, text: str, after: str, is_ascii: bool) -> None:
        in_database = json.dumps({"prompt": f"{before}{text}{after}"}, ensure_ascii=is_ascii).lower()
        assert all(part in in_database for part in plain_parts(text))

    def test_database_finds_what_is_written_in_another_way(self) -> None:
        parts = plain_parts('An der STRASSE 7 "am Kö"')
        assert parts == plain_parts('An der Straße 7 "am Kö"') == ["an der stra", "e 7 ", "am k"]


class TestSums:
    def test_only_what_the_viewer_may_read_counts_and_each_generation_once(self) -> None:
        def end(kirin_task_id: str, dag_id: str, **fields: Any) -> tuple[str, Any]:
            entry = {
                "kirin_task_id": kirin_task_id,
                "status": "completed",
                "cost": "0.5",
                "at": AT.isoformat(),
                **fields,
            }
            return dag_id, [entry]

        failed = {"status": "failed", "cost": "", "error": {"code": "7"}}
        rows = [
            end("a", "one"),
            end("a", "one", at="2026-11-29T00:00:00+00:00"),
            end("b", "one", **failed),
            end("c", "two"),
        ]
        sums = summary(first_ends(rows), ["one"])
        assert sums == {
            "generations": 2,
            "failed": 1,
            "usd": "0.5",
            "days": {"2026-11-28": {"one": "0.5"}},
            "failures": [("7", 1)],
        }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1_795_867_200, "2026-11-28T12:00:00.000+00:00"),
        (1_795_867_200_000, "2026-11-28T12:00:00.000+00:00"),
        ("2026-11-28T13:00:00+01:00", "2026-11-28T12:00:00.000+00:00"),
        ("yesterday", None),
        (float("nan"), None),
        (10**40, None),
        (True, None),
        (None, None),
    ],
)
def test_times_of_the_gateway(value: Any, shown: str | None) -> None:
    assert moment(value) == shown
