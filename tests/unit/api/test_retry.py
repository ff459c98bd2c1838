"""The one policy of what may be repeated, and after how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import CODES, error_from_response
from airflow_provider_kirin.api.retry import (
    MAX_BACKOFF,
    MIN_BACKOFF,
    SubmissionOutcome,
    await_with_retries,
    backoff_delay,
    backoff_within,
    call_with_retries,
    classify_submission_error,
    fixed_delays,
)
from airflow_provider_kirin.exceptions import (
    KirinBudgetError,
    KirinConfigError,
    KirinError,
    KirinIdError,
    KirinInputError,
    KirinNetworkError,
    KirinPayloadError,
    KirinRateLimitError,
    KirinResponseError,
)

#: Codes that speak of a generation which was begun; the last two belong to models that are not documented here.
BEGUN = ("8002005006", "8002005098", "8002005099", "014002095", "014002099", "5000", "8002010098", "002014001096")


def answered(status: int, body: object = None) -> KirinError:
    return error_from_response(status, body, doing="submitting")


class TestClassifyingASubmissionError:
    @pytest.mark.parametrize(
        "error",
        [
            KirinNetworkError("refused", sent=False),
            KirinConfigError("no key"),
            *(answered(status) for status in (307, 308)),
            KirinPayloadError([], model="m"),
            KirinIdError("x"),
            KirinBudgetError("too much"),
            KirinBudgetError("later", retryable=True),
            *(answered(status) for status in (400, 401, 402, 403, 404, 405, 413, 422, 429)),
            answered(429, {"error": {"code": 1303, "message": "parallel task over resource pack limit"}}),
            answered(400, {"error": {"code": "8002005002", "message": "no JPEG"}}),
            answered(429, {"error": {"code": 1101, "message": "arrears"}}),
            answered(200, {"error": {"code": "8002005001", "message": "no image"}}),
            answered(200, {"error": {"code": 1302, "message": "too many"}}),
        ],
        ids=repr,
    )
    def test_a_rejected_or_unsent_submission_accepted_nothing(self, error: KirinError) -> None:
        assert classify_submission_error(error) is SubmissionOutcome.REJECTED

    @pytest.mark.parametrize(
        "error",
        [
            KirinNetworkError("cut", sent=True),
            KirinResponseError("html"),
            *(answered(status) for status in (301, 302, 303, 408, 418, 423, 460, 499, 500, 502, 503, 504, 599)),
            *(answered(status, {"error": {"code": code}}) for status in (408, 500, 504) for code in sorted(CODES)),
            answered(504, {"status": {"code": 429, "message": "too many"}}),
            answered(500, {"message": "external_task_id already exists"}),
            answered(503, {"message": "insufficient balance"}),
            *(answered(status, {"error": {"code": code}}) for status in (200, 400, 403, 429) for code in BEGUN),
            answered(200, {"error": "something"}),
        ],
        ids=repr,
    )
    def test_a_lost_response_or_a_failing_gateway_leaves_the_outcome_unknown(self, error: KirinError) -> None:
        assert classify_submission_error(error) is SubmissionOutcome.UNKNOWN

    @pytest.mark.parametrize(
        "error", [answered(409), answered(400, {"message": "external_task_id already exists"})], ids=repr
    )
    def test_a_conflict_means_that_the_generation_exists(self, error: KirinError) -> None:
        assert classify_submission_error(error) is SubmissionOutcome.ALREADY_EXISTS


class TestPause:
    @given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1))
    def test_is_bounded(self, attempt: int, jitter: float) -> None:
        seconds = backoff_delay(KirinResponseError("x"), attempt, jitter=lambda: jitter)
        assert MIN_BACKOFF / 2 <= seconds <= MAX_BACKOFF * 1.5

    def test_doubles(self) -> None:
        assert [backoff_delay(KirinResponseError("x"), n, jitter=lambda: 0.5) for n in (1, 2, 3, 4)] == [2, 4, 8, 16]

    def test_is_never_shorter_than_the_gateway_asked_for(self) -> None:
        assert backoff_delay(KirinRateLimitError("slow", retry_after=45), 1, jitter=lambda: 0.0) == 45


class TestRepeatingACall:
    @pytest.fixture(autouse=True)
    def pauses(self, kirin_fast_retries: list[float]) -> list[float]:
        return kirin_fast_retries

    @staticmethod
    def calls(*outcomes: KirinError | str) -> Callable[[], str]:
        ahead = iter(outcomes)

        def call() -> str:
            outcome = next(ahead)
            if isinstance(outcome, KirinError):
                raise outcome
            return outcome

        return call

    def test_fixed_delays_are_slept_one_after_the_other(self, pauses: list[float]) -> None:
        lost, logged = KirinNetworkError("lost"), []
        call = self.calls(lost, lost, "found")
        assert call_with_retries(call, fixed_delays((0.5, 1.0)), on_retry=lambda *seen: logged.append(seen)) == "found"
        assert pauses == [0.5, 1.0] and logged == [(0.5, lost), (1.0, lost)]

    async def test_the_async_twin_follows_the_same_schedule(self, pauses: list[float]) -> None:
        call = self.calls(KirinNetworkError("lost"), "found")

        async def awaited() -> str:
            return call()

        assert await await_with_retries(awaited, fixed_delays((0.5,))) == "found"
        assert pauses == [0.5]
        call = self.calls(KirinInputError("wrong"))
        with pytest.raises(KirinInputError):
            await await_with_retries(awaited, fixed_delays())

    def test_the_last_error_is_raised_when_the_delays_are_used_up(self, pauses: list[float]) -> None:
        call = self.calls(KirinNetworkError("first"), KirinNetworkError("second"))
        with pytest.raises(KirinNetworkError, match="second"):
            call_with_retries(call, fixed_delays((0.5,)), on_retry=lambda *_: None)
        assert pauses == [0.5]

    def test_an_error_that_repeating_cannot_help_is_raised_at_once(self, pauses: list[float]) -> None:
        for schedule in (fixed_delays(), backoff_within(3600)):
            with pytest.raises(KirinInputError):
                call_with_retries(self.calls(KirinInputError("wrong")), schedule, on_retry=lambda *_: None)
        assert pauses == []

    def test_backoff_gives_up_before_a_pause_that_would_exceed_the_patience(self, pauses: list[float]) -> None:
        busy = KirinRateLimitError("busy", retry_after=50.0)
        with pytest.raises(KirinRateLimitError):
            call_with_retries(self.calls(busy), backoff_within(49), on_retry=lambda *_: None)
        assert pauses == []
        assert call_with_retries(self.calls(busy, "ok"), backoff_within(500), on_retry=lambda *_: None) == "ok"
        assert pauses == [50.0]
