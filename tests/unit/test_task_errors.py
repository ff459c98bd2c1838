"""soft_fail and never_fail do the same on every Airflow. In every mode: tests/integration/test_operators.py."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_kirin.exceptions import (
    KirinConfigError,
    KirinError,
    KirinResponseError,
    KirinTaskFailedError,
    KirinTimeoutError,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.triggers.events import dump_event

NOTHING = {"ti": SimpleNamespace(try_number=1, start_date=None, dag_id="d", task_id="wait", map_index=-1)}
ENDS: dict[str, KirinError] = {
    "failed": KirinTaskFailedError("it is on fire"),
    "late": KirinTimeoutError("it did not finish", kirin_task_ids=["abc"]),
}
LEFT_ALONE = {"failed": AirflowFailException, "late": AirflowSensorTimeout}


def sensor(kirin_task_id: Any = "abc", **options: Any) -> KirinTaskSensor:
    return KirinTaskSensor(task_id="wait", kirin_task_id=kirin_task_id, **options)


def resumed(wait: KirinTaskSensor, event: Any) -> Any:
    return wait.resume_execution("execute_complete", {"event": event}, NOTHING)


@pytest.mark.parametrize("end", ENDS)
class TestGenerationWithoutVideo:
    @pytest.mark.parametrize("asked", ["soft_fail", "never_fail"])
    def test_skips_with_soft_fail_or_never_fail_and_logs_the_reason(self, end, asked, caplog, capfd):
        with caplog.at_level(logging.WARNING), pytest.raises(AirflowSkipException):
            resumed(sensor(**{asked: True}), dict(dump_event([ENDS[end]])))
        assert f"because of {asked}: {ENDS[end]}" in caplog.text + "".join(capfd.readouterr())

    def test_fails_without_a_retry_by_default(self, end):
        with pytest.raises(LEFT_ALONE[end]):
            resumed(sensor(), dict(dump_event([ENDS[end]])))


class TestInvalidId:
    @pytest.mark.parametrize("deferrable", [True, False])
    @pytest.mark.parametrize(
        ("asked", "raised"),
        [({"soft_fail": True}, AirflowSkipException), ({"never_fail": True}, AirflowSkipException),
         ({}, AirflowFailException)],
    )  # fmt: skip
    def test_fails_or_skips_on_a_worker(self, deferrable, asked, raised):
        with pytest.raises(raised):
            sensor("None", deferrable=deferrable, **asked).execute(NOTHING)

    @pytest.mark.parametrize("asked", ["soft_fail", "never_fail"])
    def test_skips_after_a_start_in_the_triggerer(self, asked):
        with pytest.raises(AirflowSkipException):
            resumed(sensor("None", **{asked: True}), dict(dump_event([KirinResponseError("x")])))


class TestConnectionThatCannotBeLookedUp:
    """The only outcome that another try may fix."""

    missing = KirinConfigError("There is no Airflow connection 'kirin_default'", retryable=True)

    @pytest.mark.parametrize("asked", [{}, {"soft_fail": True}])
    @pytest.mark.parametrize("ids", ["abc", ["abc", "def"]])
    def test_is_retried(self, ids, asked):
        with pytest.raises(KirinConfigError, match="no Airflow connection"):
            resumed(sensor(ids, **asked), dict(dump_event([self.missing] * len(sensor(ids)._ids()))))

    def test_is_skipped_with_never_fail(self):
        with pytest.raises(AirflowSkipException):
            resumed(sensor(never_fail=True), dict(dump_event([self.missing])))

    def test_an_unusable_connection_fails_without_a_retry(self):
        with pytest.raises(AirflowFailException):
            resumed(sensor(), dict(dump_event([KirinConfigError("it has no API key")])))


class TestInvalidEvent:
    def test_is_retried_with_soft_fail(self):
        with pytest.raises(KirinResponseError):
            resumed(sensor(soft_fail=True), {"version": 0})

    def test_is_skipped_with_never_fail(self):
        with pytest.raises(AirflowSkipException):
            resumed(sensor(never_fail=True), {"version": 0})
