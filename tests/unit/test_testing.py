"""The switch for tests of DAGs: waits are short while it is on, and as long as ever afterwards."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_kirin.api.capacity import CapacityLine, Waiter
from airflow_provider_kirin.api.pauses import pause, pause_async, pause_length
from airflow_provider_kirin.testing import fast_retries


def test_waits_are_short_meanwhile_and_their_lengths_are_kept() -> None:
    with fast_retries() as waited:
        pause(3600)
        asyncio.run(pause_async(7200))
        pause(0.001)
        assert pause_length(1800) == 0.05
    assert waited == [3600, 7200, 0.001, 1800]
    assert pause_length(3600) == 3600


def test_the_inner_one_of_two_counts_and_the_outer_one_comes_back() -> None:
    with fast_retries(5), fast_retries(1):
        assert pause_length(3600) == 1
    with fast_retries(5):
        with pytest.raises(ValueError, match="a test that fails"), fast_retries(1):
            raise ValueError("a test that fails")
        assert pause_length(3600) == 5


def test_nobody_waits_long_for_a_place_in_a_full_account() -> None:
    line = CapacityLine()
    line.join(Waiter(0, "a", refused_at=0, ready_at=0), 0)
    with fast_retries():
        assert line.next_check(0) == 0.05
    assert line.next_check(0) > 1


def test_it_is_a_fixture_of_a_pytest_plugin(kirin_fast_retries: list[float]) -> None:
    pause(3600)
    assert kirin_fast_retries == [3600]
