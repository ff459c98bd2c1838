"""From our errors to what Airflow does about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kirin.exceptions import KirinError


@contextmanager
def failing_for_good() -> Iterator[None]:
    """Fail the task without a retry where another try cannot help; let Airflow retry what it may."""
    try:
        yield
    except KirinError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
