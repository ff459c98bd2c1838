"""No more calls a second than the connection allows, evenly spaced."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.pace import Pace


def test_without_a_limit_nobody_waits() -> None:
    pace = Pace()
    assert [pace.reserve(100.0, None) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_calls_at_once_are_spread_evenly() -> None:
    pace = Pace()
    assert [pace.reserve(100.0, 4) for _ in range(4)] == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_a_pause_is_not_saved_up_for_a_burst() -> None:
    pace = Pace()
    pace.reserve(100.0, 2)
    assert pace.reserve(200.0, 2) == 0.0
    assert pace.reserve(200.0, 2) == pytest.approx(0.5)


@given(st.lists(st.floats(0, 5), min_size=2, max_size=50), st.floats(0.1, 100))
def test_no_two_calls_are_closer_than_the_limit_allows(pauses: list[float], per_second: float) -> None:
    pace, now, calls = Pace(), 1000.0, []
    for pause in pauses:
        now += pause
        delay = pace.reserve(now, per_second)
        assert delay >= 0
        calls.append(now + delay)
    assert all(later - earlier >= 1 / per_second - 1e-6 for earlier, later in pairwise(calls))
