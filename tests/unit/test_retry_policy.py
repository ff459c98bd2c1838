"""KirinRetryPolicy: what Airflow 3.3 does about our errors."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("retry policies came with Airflow 3.3", allow_module_level=True)

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk import RetryAction

from airflow_provider_kirin.exceptions import KirinAuthError, KirinError, KirinRateLimitError, KirinUnavailableError
from airflow_provider_kirin.retry_policy import KirinRetryPolicy


def decide(error: BaseException, **how: float):
    return KirinRetryPolicy(**how).evaluate(error, try_number=1, max_tries=3)


def test_retryable_error_is_retried_after_the_delay_that_the_gateway_requested() -> None:
    decision = decide(KirinRateLimitError("too many", retry_after=90))
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=90))
    assert decision.reason == "too many"


def test_a_retry_is_never_sooner_than_the_shortest_delay() -> None:
    assert decide(KirinUnavailableError("down"), shortest=30).retry_delay == timedelta(seconds=30)


def test_a_retry_is_soon_in_a_test_that_says_so(kirin_fast_retries: list[float]) -> None:
    assert decide(KirinUnavailableError("down"), shortest=30).retry_delay == timedelta(seconds=0.05)
    assert kirin_fast_retries == [30]


def test_permanent_error_fails_with_a_reason() -> None:
    decision = decide(KirinAuthError("wrong key"))
    assert (decision.action, decision.reason) == (RetryAction.FAIL, "wrong key")


def test_an_error_behind_one_of_airflows_counts() -> None:
    error = AirflowException("outer")
    error.__cause__ = KirinAuthError("wrong key")
    assert decide(error).action is RetryAction.FAIL


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), AirflowException("x")])
def test_foreign_errors_are_left_to_the_task(error: BaseException) -> None:
    assert decide(error).action is RetryAction.DEFAULT


def test_policy_survives_the_serialization_of_a_dag() -> None:
    policy = KirinRetryPolicy(shortest=12.0)
    assert KirinRetryPolicy.deserialize(policy.serialize()).shortest == 12.0
    assert issubclass(KirinAuthError, KirinError)
