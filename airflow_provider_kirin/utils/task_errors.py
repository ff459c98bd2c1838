"""From our errors to what Airflow does about them."""

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
    """Fail the task without a retry where another try cannot help; let Airflow retry what it may."""
    try:
        yield
    except KirinError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


@contextmanager
def fail_or_skip(sensor: BaseSensorOperator) -> Iterator[None]:
    """Fail a sensor for good, or skip it where ``soft_fail`` or ``never_fail`` asks for that.

    Airflow does so around each poke, and after a deferral (2.11 for ``soft_fail`` only), but not around what a sensor
    does before; and it keeps the reason to itself.

    :param sensor: knows what was asked
    """
    try:
        with fail_without_retry():
            yield
    except (AirflowFailException, AirflowSensorTimeout, KirinError) as error:
        # soft_fail leaves to another try what that may mend; never_fail skips in any case.
        if sensor.never_fail or (sensor.soft_fail and not isinstance(error, KirinError)):
            asked = "never_fail" if sensor.never_fail else "soft_fail"
            sensor.log.warning("Skipped and not failed, as %s asks: %s", asked, error)
            raise AirflowSkipException(f"Skipping due to {asked}.") from error
        raise
