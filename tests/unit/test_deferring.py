"""Deferring to the triggerer: minimum time, earliest event, Airflow's own timeout."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator, TaskDeferred

from airflow_provider_kirin.api.capacity import CapacityWait
from airflow_provider_kirin.triggers.capacity import deferral_until_place
from airflow_provider_kirin.triggers.kirin import deferral_until_done
from airflow_provider_kirin.utils.deferral import min_deferral
from airflow_provider_kirin.utils.start_from_trigger import BACKSTOP

OPTION = "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OPTION, raising=False)


def deferred(timeout: float) -> Any:
    with pytest.raises(TaskDeferred) as raised:
        BaseOperator(task_id="it").defer(**deferral_until_done(["abc"], kirin_conn_id="kirin_default", timeout=timeout))
    return raised.value


@pytest.mark.parametrize(("interval", "seconds"), [(None, 10), ("1", 10), ("5", 10), ("20", 25)])
def test_a_task_stays_deferred_until_its_worker_has_reported(
    monkeypatch: pytest.MonkeyPatch, interval: str | None, seconds: float
) -> None:
    if interval is not None:
        monkeypatch.setenv(OPTION, interval)
    assert min_deferral() == seconds


def test_the_earliest_event_is_wall_clock_time() -> None:
    before = time.time()
    trigger = deferred(3600).trigger
    assert before + 10 <= trigger.earliest_event <= time.time() + 10
    assert trigger.serialize()[1]["earliest_event"] == trigger.earliest_event


@pytest.mark.parametrize(("retry_after", "seconds"), [(None, 10), (3.0, 10), (60.0, 60)])
def test_so_it_is_for_a_place_in_a_full_account(retry_after: float | None, seconds: float) -> None:
    now = time.time()
    wait = CapacityWait(since=now, deadline=now + 3600)
    arguments = deferral_until_place(wait, kirin_conn_id="kirin_default", try_number=1, retry_after=retry_after)
    assert now + seconds <= arguments["trigger"].earliest_event <= time.time() + seconds


def test_airflows_timeout_is_later_than_the_triggers_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deferred(3600).timeout == timedelta(seconds=3600 + BACKSTOP)
    monkeypatch.setenv(OPTION, "300")
    assert deferred(5).timeout == timedelta(seconds=305 + BACKSTOP)
