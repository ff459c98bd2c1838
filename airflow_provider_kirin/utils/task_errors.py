"""Translate our errors into Airflow's exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_kirin.exceptions import KirinError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseSensorOperator


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """Fail the task without a retry if another try cannot help; let Airflow retry other errors."""
    try:
        yield
    except KirinError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


@contextmanager
def fail_or_skip(sensor: BaseSensorOperator) -> Iterator[None]:
    """Fail a sensor without a retry, or skip it if ``soft_fail`` or ``never_fail`` is set.

    Airflow does so around each poke, and after a deferral (2.11 for ``soft_fail`` only), but not around the first part
    of ``execute``; and it does not log the reason.

    :param sensor: the sensor
    """
    try:
        with fail_without_retry():
            yield
    except (AirflowFailException, AirflowSensorTimeout, KirinError) as error:
        # soft_fail does not skip what another try may fix; never_fail skips every error.
        if sensor.never_fail or (sensor.soft_fail and not isinstance(error, KirinError)):
            option = "never_fail" if sensor.never_fail else "soft_fail"
            sensor.log.warning("Skipped instead of failed because of %s: %s", option, error)
            raise AirflowSkipException(f"Skipping due to {option}.") from error
        raise
