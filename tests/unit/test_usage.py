"""What a task instance notes of generations that have ended, and what it leaves as it was when it is cleared."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_kirin.state.keys import USAGE_KEY, USAGE_STATE_KEY
from airflow_provider_kirin.state.usage import record_outcomes

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the task state store came with Airflow 3.3")

THEN = "2026-11-10T12:00:00+00:00"


class Store(dict[str, Any]):
    """A task state store that keeps count of what is written."""

    written = 0

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.written += 1
        self[key] = value


def record(store: Store | None, *ids: str) -> Any:
    """Tell of these generations, as one try of a task does; returns its XCom."""
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(xcom_push=pushed.__setitem__, start_date=None, dag_id="d", task_id="t")
    context: Any = {"ti": ti, "task_state_store": store}
    usage = {"cost": "0.28", "discount": 1}
    outcomes = [
        KirinTask.from_response({"id": one, "status": "completed", "output": [], "usage": usage}) for one in ids
    ]
    record_outcomes(context, outcomes, kirin_conn_id="kirin_default")
    return pushed[USAGE_KEY]


def entry_of(kirin_task_id: str, **when: str) -> dict[str, Any]:
    return {"kirin_task_id": kirin_task_id, "model": "m", "status": "completed", "cost": "0.28", **when}


class TestTimestampOfAnOutcome:
    @pytest.mark.parametrize("store", [None, Store()], ids=["without a store", "with one"])
    def test_timestamp_is_the_time_of_recording(self, store: Store | None) -> None:
        before = datetime.now(UTC).replace(microsecond=0)
        entries = record(store, "t1")
        assert before <= datetime.fromisoformat(entries[0]["at"]) <= datetime.now(UTC)
        assert store is None or store[USAGE_STATE_KEY] == entries

    def test_timestamp_is_kept_when_the_task_is_cleared_and_nothing_is_written_again(self) -> None:
        store = Store({USAGE_STATE_KEY: [entry_of("t1", at=THEN)]})
        assert [entry["at"] for entry in record(store, "t1")] == [THEN]
        assert store.written == 0

    def test_timestamp_is_kept_when_another_generation_ends(self) -> None:
        store = Store({USAGE_STATE_KEY: [entry_of("t1", at=THEN)]})
        first, second = record(store, "t1", "t2")
        assert first["at"] == THEN != second["at"]
        assert store[USAGE_STATE_KEY] == [entry_of("t1", at=THEN), second]

    @pytest.mark.parametrize("kept", [[entry_of("t1")], ["x", {}, None], "x", None])
    def test_timestamp_is_now_if_the_store_has_none(self, kept: Any) -> None:
        assert record(Store({USAGE_STATE_KEY: kept}), "t1")[0]["at"] != THEN
