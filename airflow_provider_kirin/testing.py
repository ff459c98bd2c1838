"""Helpers for the tests of your DAGs, and a pytest plugin with the same as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from airflow_provider_kirin.api.pauses import limited_pauses


def fast_retries(longest: float = 0.05) -> AbstractContextManager[list[float]]:
    """Shorten every wait of this package between polls, lookups and retries, in this process, while the context lasts.

    Nothing else changes: not what is retried and how often, nor timeouts, ``requests_per_second`` and Airflow's
    ``retry_delay``.

    :param longest: the most seconds that a wait may last
    :return: a context manager; it gives a list to which each wait adds the seconds that it would have lasted
    """
    return limited_pauses(longest)


@pytest.fixture
def kirin_fast_retries() -> Iterator[list[float]]:
    """:func:`fast_retries` for one test."""
    with fast_retries() as wanted:
        yield wanted
