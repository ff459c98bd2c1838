"""A wave that a callback begins polls only what no callback is to come for, and loses nothing by it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.callback_health import KEPT, SAFETY_NET
from airflow_provider_kirin.api.task import KirinTask, KirinVideo
from airflow_provider_kirin.operators.batch_run import BatchRun
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger
from tests.support.batch_model import Batch, finish, table


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Five rows, of which three are in flight."""
    batch = Batch(tmp_path, table(5))
    batch.wave()
    return batch


def polled(batch: Batch) -> list[str]:
    """Record from now on which generations are polled."""
    asked: list[str] = []
    get_task = batch.client.get_task

    def recorded(kirin_task_id: str, **how: Any) -> KirinTask:
        asked.append(kirin_task_id)
        return get_task(kirin_task_id, **how)

    batch.client.get_task = recorded  # type: ignore[method-assign]
    return asked


def resume(batch: Batch, *ended: int, ago: float = 5.0, **changes: Any) -> BatchRun:
    """Do a wave that a callback has begun, with an event that went through Airflow's database."""
    tasks = {batch.gateway.paid[number][1].id: batch.gateway.paid[number][1] for number in ended}
    event = KirinBatchTrigger.event(len(ended), Reported(batch.now - ago, tasks)).payload
    run = batch.open()
    run.wave(Reported.from_event(json.loads(json.dumps(event | changes))))
    return run


def test_what_was_reported_is_stored_without_a_poll(batch):
    finish(batch.gateway, 0)
    finish(batch.gateway, 1, "failed")
    asked = polled(batch)
    run = resume(batch, 0, 1)
    assert asked == []
    assert run.rows.states["s0"].status == "saved" and run.rows.states["s0"].cost == "0.28"
    assert list(run.rows.states["s1"].earlier.values()) == [{"kirin_task_id": "t2", "cost": "0"}]
    assert ("ended", "s0") in batch.client.reports and ("ended", "s1") in batch.client.reports
    assert run.rows.in_flight == 3
    # For the trigger, which polls at once if a callback may have been missed.
    assert run.known_until == batch.now - 5


def test_a_callback_that_is_lost_only_costs_time(batch):
    finish(batch.gateway, 0)
    finish(batch.gateway, 1)
    asked = polled(batch)
    assert resume(batch, 0).rows.states["s1"].status == "sent" and asked == []
    batch.now += SAFETY_NET
    assert resume(batch).rows.states["s1"].status == "saved"
    assert "t2" in asked
    batch.work()
    assert Counter(name.partition(".")[0] for name, _ in batch.gateway.paid) == {f"s{n}": 1 for n in range(5)}


def test_a_row_whose_time_is_up_is_given_up_in_the_same_wave(batch):
    batch.settings["row_timeout"] = 120.0
    batch.now += 200
    run = resume(batch)
    assert run.rows.count("timeout") == 3 and run.rows.states["s3"].status == "sent"


@pytest.mark.parametrize("ago", [KEPT + 1, -KEPT - 1], ids=["by a callback of long ago", "by clocks that differ"])
def test_everything_is_polled_where_a_callback_may_have_been_missed(batch, ago):
    finish(batch.gateway, 0)
    asked = polled(batch)
    run = resume(batch, 0, ago=ago)
    assert {"t2", "t3"} <= set(asked) and "t1" not in asked
    assert run.known_until == batch.now


def test_an_event_of_the_trigger_or_an_unreadable_one_reports_nothing(batch):
    asked = polled(batch)
    for event in (None, {"v": 1, "done": 3}, {"at": "now", "ended": {}}, {"at": 1.0, "ended": ["t1"]}):
        run = batch.open()
        run.wave(Reported.from_event(event))
        assert len(asked) == 3 and run.known_until == batch.now
        asked.clear()


@pytest.mark.parametrize(
    "entry", [None, {}, {"id": "t2", "status": "completed"}, {"id": "t1", "status": "in_progress"}]
)
def test_what_is_only_named_is_polled(batch, entry):
    finish(batch.gateway, 0)
    asked = polled(batch)
    assert resume(batch, ended={"t1": entry}).rows.states["s0"].status == "saved"
    assert asked == ["t1"]


def test_a_poll_that_fails_makes_the_trigger_poll_at_once(batch):
    finish(batch.gateway, 0)
    batch.gateway.get_fate = lambda: "503"
    run = resume(batch, ended={"t1": None})
    assert run.known_until == 0 and run.rows.states["s0"].status == "sent"


def test_an_event_fits_into_the_database_whatever_the_gateway_sends():
    long = KirinTask("x" * 20, "completed", videos=[KirinVideo("https://v.example/" + "u" * 2000)], metadata={"a": "b"})
    ended = {f"dc26uaivqqov8sg0{number:04}": long for number in range(1000)}
    ended = {name: replace(kirin_task, id=name) for name, kirin_task in ended.items()}
    event = Reported(1764343434.5, ended).to_event()
    assert len(json.dumps(event)) < 65_535 - 2_000
    read = Reported.from_event(event)
    assert list(read.ended) == list(ended)
    assert read.ended["dc26uaivqqov8sg00000"] == replace(long, id="dc26uaivqqov8sg00000", metadata={})
    assert read.ended["dc26uaivqqov8sg00999"] is None
