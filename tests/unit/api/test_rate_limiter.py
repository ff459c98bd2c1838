"""No more calls a second than the connection allows, and fewer once the gateway says that it is too many."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.rate_limiter import (
    DECREASE_FACTOR,
    DECREASE_INTERVAL,
    DOUBLING_SECONDS,
    MIN_RATE,
    SLOW_START_RATE,
    RateLimiter,
)

START = 1000.0


def calls(pace: RateLimiter, begin: float, end: float, every: float = 0.01) -> list[float]:
    """Ask for a turn over and over; return when there was one."""
    steps = round((end - begin) / every)
    return [now for now in (begin + step * every for step in range(steps)) if pace.acquire(now) == 0]


def test_without_a_limit_nobody_waits() -> None:
    pace = RateLimiter()
    assert [pace.acquire(START) for _ in range(100)] == [0.0] * 100


def test_a_call_that_is_too_early_gets_the_seconds_to_wait() -> None:
    pace = RateLimiter(4)
    assert pace.acquire(START) == 0
    waits = pace.acquire(START)
    assert 0 < waits <= 0.25
    assert pace.acquire(START + waits) == 0


@given(st.floats(0.2, 50))
def test_calls_at_once_get_the_rate_that_is_allowed(per_second: float) -> None:
    seconds = 100 / per_second
    assert 97 <= len(calls(RateLimiter(per_second), START, START + seconds, seconds / 5000)) <= 100


def test_a_pause_is_not_saved_up_for_a_burst() -> None:
    pace = RateLimiter(2)
    pace.acquire(START)
    assert len(calls(pace, START + 100, START + 101)) <= 3


@given(st.lists(st.floats(0, 5), min_size=2, max_size=50), st.floats(0.1, 100))
def test_no_two_calls_are_closer_than_the_limit_allows(pauses: list[float], per_second: float) -> None:
    pace, now, taken = RateLimiter(per_second), START, []
    for pause in pauses:
        now += pause
        while delay := pace.acquire(now):
            now += delay
        taken.append(now)
    assert all(later - earlier >= 1 / per_second - 1e-6 for earlier, later in pairwise(taken))


class TestTooMany:
    def test_halves_a_rate_that_was_set(self) -> None:
        pace = RateLimiter(10)
        calls(pace, START, START + 4)
        pace.on_rate_limited(START + 4, None)
        assert len(calls(pace, START + 4, START + 6)) == pytest.approx(2 * 10 * DECREASE_FACTOR, abs=2)

    def test_halves_the_rate_that_was_used_where_none_was_set(self) -> None:
        pace = RateLimiter()
        calls(pace, START, START + 6, every=0.05)
        pace.on_rate_limited(START + 6, None)
        assert len(calls(pace, START + 6, START + 8)) == pytest.approx(2 * 20 * DECREASE_FACTOR, abs=3)

    def test_grows_again_slowly_up_to_what_was_set(self) -> None:
        pace = RateLimiter(10)
        calls(pace, START, START + 4)
        pace.on_rate_limited(START + 4, None)
        early = len(calls(pace, START + 4, START + 9))
        late = len(calls(pace, START + 4 + 2 * DOUBLING_SECONDS, START + 9 + 2 * DOUBLING_SECONDS))
        much_later = len(calls(pace, START + 1000, START + 1005))
        assert early == pytest.approx(5 * 5, abs=4)
        assert late == pytest.approx(5 * 10, abs=4)
        assert much_later == pytest.approx(5 * 10, abs=4)

    def test_a_decreased_rate_ends_if_no_limit_is_configured(self) -> None:
        pace = RateLimiter()
        calls(pace, START, START + 4, every=0.5)
        pace.on_rate_limited(START + 4, None)
        assert pace.acquire(START + 4) == 0 and pace.acquire(START + 4) > 0
        later = START + 4 + 30 * DOUBLING_SECONDS
        assert [pace.acquire(later) for _ in range(50)] == [0.0] * 50

    def test_a_burst_of_429_is_one_message(self) -> None:
        pace = RateLimiter(10)
        calls(pace, START, START + 4)
        for step in range(20):
            pace.on_rate_limited(START + 4 + step / 20, None)
        assert len(calls(pace, START + 5, START + 7)) == pytest.approx(2 * 10 * DECREASE_FACTOR, abs=3)

    def test_a_gateway_that_keeps_refusing_gets_fewer_calls_but_never_none(self) -> None:
        pace, now = RateLimiter(10), START
        for _ in range(40):
            calls(pace, now, now + DECREASE_INTERVAL, every=0.1)
            now += DECREASE_INTERVAL
            pace.on_rate_limited(now, None)
        assert 1 <= len(calls(pace, now, now + 10, every=0.1)) <= 2 + 10 * 2 * MIN_RATE

    def test_retry_after_is_obeyed_by_all(self) -> None:
        pace = RateLimiter()
        pace.acquire(START)
        pace.on_rate_limited(START, 30.0)
        pace.on_rate_limited(START + 1, 20.0)
        assert pace.acquire(START + 5) == pytest.approx(25)
        assert calls(pace, START, START + 29.9) == []
        assert pace.acquire(START + 30) == 0


def test_a_gateway_that_came_back_is_asked_gently_at_first() -> None:
    pace = RateLimiter()
    pace.slow_start(START)
    seconds = [len(calls(pace, START + second, START + second + 1, every=0.001)) for second in range(4)]
    assert seconds[0] == pytest.approx(SLOW_START_RATE * 1.44, abs=2)
    assert seconds == sorted(seconds) and seconds[3] > 5 * seconds[0]
