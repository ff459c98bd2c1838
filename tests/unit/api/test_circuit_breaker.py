"""A gateway that is down is asked by one call at a time; one that is alive is left alone."""

from __future__ import annotations

import pytest

from airflow_provider_kirin.api.circuit_breaker import FAILURE_THRESHOLD, PROBE_TIMEOUT, CircuitBreaker
from airflow_provider_kirin.api.retry import MAX_BACKOFF
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinRateLimitError,
    KirinResponseError,
    KirinUnavailableError,
)

START = 1000.0


def health(jitter: float = 0.5) -> CircuitBreaker:
    return CircuitBreaker(jitter=lambda: jitter)


def down(error: KirinError, view: CircuitBreaker) -> CircuitBreaker:
    for _ in range(FAILURE_THRESHOLD):
        view.record_result(error, START)
    return view


def test_a_healthy_gateway_delays_no_call() -> None:
    view = health()
    assert view.record_result(None, START) is False
    assert view.acquire(START) == 0 and view.last_error is None


def page(error: KirinAPIError) -> KirinAPIError:
    """An error that something before the API gave."""
    error.from_api = False
    return error


@pytest.mark.parametrize(
    "error",
    [
        KirinNetworkError("cut"),
        KirinResponseError("html"),
        KirinUnavailableError("503"),
        page(KirinNotFoundError("the 404 of a load balancer")),
        page(KirinAuthError("the 403 of a firewall")),
    ],
)
def test_consecutive_errors_mean_that_it_is_down(error: KirinError) -> None:
    view = health()
    for _ in range(FAILURE_THRESHOLD - 1):
        view.record_result(error, START)
    assert view.acquire(START) == 0
    view.record_result(error, START)
    assert view.acquire(START) == pytest.approx(2)
    assert view.last_error is error


@pytest.mark.parametrize("sign", [None, KirinAuthError("401"), KirinNotFoundError("404"), KirinRateLimitError("429")])
def test_a_sign_of_life_between_them_means_that_it_is_not(sign: KirinError | None) -> None:
    view = health()
    for _ in range(3 * FAILURE_THRESHOLD):
        view.record_result(KirinNetworkError("cut"), START)
        view.record_result(sign, START)
    assert view.acquire(START) == 0


def test_probes_become_rarer_up_to_a_minute() -> None:
    view, now, pauses = down(KirinNetworkError("cut"), health()), START, []
    for _ in range(10):
        pauses.append(view.acquire(now))
        now += pauses[-1]
        assert view.acquire(now) == 0
        view.record_result(KirinNetworkError("cut"), now)
    assert pauses[:4] == pytest.approx([2, 4, 8, 16])
    assert max(pauses) == pytest.approx(MAX_BACKOFF)


def test_calls_already_sent_when_it_went_down_count_once() -> None:
    view = down(KirinNetworkError("cut"), health())
    for _ in range(30):
        view.record_result(KirinNetworkError("cut"), START)
    assert view.acquire(START) == pytest.approx(2)


def test_during_a_probe_no_other_call_is_sent() -> None:
    view = down(KirinNetworkError("cut"), health())
    assert view.acquire(START + 2) == 0
    assert view.acquire(START + 2) == PROBE_TIMEOUT
    assert view.acquire(START + 2 + PROBE_TIMEOUT) == 0


def test_retry_after_is_obeyed() -> None:
    assert down(KirinUnavailableError("503", retry_after=90.0), health()).acquire(START) == pytest.approx(90)


def test_several_processes_do_not_probe_together() -> None:
    assert len({down(KirinNetworkError("cut"), health(jitter)).acquire(START) for jitter in (0.0, 0.3, 1.0)}) == 3


def test_the_first_good_response_lets_all_calls_through() -> None:
    view = down(KirinNetworkError("cut"), health())
    assert view.record_result(None, START + 2) is True
    assert view.acquire(START + 2) == 0 and view.last_error is None
    assert view.record_result(None, START + 3) is False
