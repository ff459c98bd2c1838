"""One poller for every way of waiting, driven here by a simulated clock and simulated gateways."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.callback_health import DISTRUST, SAFETY_NET, CallbackHealth
from airflow_provider_kirin.api.polling import (
    EARLIEST_END,
    FIRST_INTERVAL,
    GROWTH,
    MAX_INTERVAL,
    MIN_INTERVAL,
    Outcome,
    Poller,
    PollResult,
)
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS, MAX_BACKOFF
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinConfigError,
    KirinCreditError,
    KirinError,
    KirinInputError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinNoVideoError,
    KirinRateLimitError,
    KirinResponseError,
    KirinTaskFailedError,
    KirinTimeoutError,
    KirinUnavailableError,
)

#: A wall clock: the poller must not care where it begins.
START = 1_760_000_000.0
#: Clock arithmetic at this size is exact to a microsecond.
TICK = 1e-4


def task(status: str = "in_progress", progress: float | None = None, **more: Any) -> KirinTask:
    return KirinTask.from_response({"id": "d1", "status": status, "progress": progress, **more})


VIDEO = [{"content": [{"type": "video", "url": "https://h/1.mp4?sig=SECRET"}]}]
DONE = task("completed", output=VIDEO)
BUSY = task()


def after(wait: Poller, outcome: Outcome, now: float) -> PollResult:
    """Give the poller the outcome of a poll."""
    return wait.on_error(outcome, now) if isinstance(outcome, KirinError) else wait.on_response(outcome, now)


def poller(timeout: float = 3600.0, *, jitter: float = 0.5, **options: Any) -> Poller:
    return Poller("d1", started_at=START, deadline=START + timeout, jitter=lambda: jitter, **options)


@dataclass
class Run:
    """What a simulated wait did, in seconds since its start."""

    polls: list[float] = field(default_factory=list)
    steps: list[PollResult] = field(default_factory=list)

    @property
    def last(self) -> PollResult:
        return self.steps[-1]

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.polls)]


def simulate(wait: Poller, gateway: Callable[[float], Outcome], *, latency: float = 0.0, most: int = 1200) -> Run:
    """Do what the hooks do: poll, then sleep as long as the poller says; ``latency`` is the time that a poll takes."""
    run, now = Run(), wait.started_at
    while len(run.polls) < most:
        run.polls.append(now - wait.started_at)
        outcome = gateway(now - wait.started_at)
        now += latency
        step = after(wait, outcome, now)
        run.steps.append(step)
        assert step.delay >= 0
        if step.outcome is not None:
            return run
        now += step.delay
    raise AssertionError(f"this wait does not end; its last polls: {run.polls[-5:]}")


def generation(
    seconds: float, progress: Callable[[float], float | None] = lambda share: None
) -> Callable[[float], Outcome]:
    """A gateway that needs this many seconds, and reports a progress that is a function of the share of them."""
    return lambda elapsed: DONE if elapsed >= seconds else task(progress=progress(elapsed / seconds))


PROGRESS: dict[str, Callable[[float], float | None]] = {
    "none": lambda share: None,
    "honest": lambda share: share,
    "zero": lambda share: 0.0,
    "one": lambda share: 1.0,
    "steps of 10 %": lambda share: int(share * 10) / 10,
    "coarse": lambda share: int(share * 4) / 4,
    "stalls at 90 %": lambda share: min(share * 3, 0.9),
    "late": lambda share: share**4,
    "early": lambda share: share**0.2,
    "jumps to and fro": lambda share: abs((share * 7.3) % 2 - 1),
    "sometimes silent": lambda share: share if int(share * 20) % 2 else None,
}


def cost_of_waiting(
    progress: Callable[[float], float | None], durations: Sequence[float] = (), **options: Any
) -> tuple[float, float]:
    """Return the mean delay of noticing, as a share of the generation's time, and the mean number of requests."""
    durations = durations or [60 * 10 ** (step / 200) for step in range(201)]
    runs = [simulate(poller(**options), generation(seconds, progress)) for seconds in durations]
    shares = [(run.polls[-1] - seconds) / seconds for run, seconds in zip(runs, durations, strict=True)]
    return statistics.mean(shares), statistics.mean(len(run.polls) for run in runs)


progresses = st.sampled_from(list(PROGRESS))
jitters = st.floats(0, 1)
errors = st.sampled_from(
    [
        KirinNetworkError("cut"),
        KirinResponseError("html"),
        KirinUnavailableError("503", http_status=503),
        KirinRateLimitError("429", http_status=429, retry_after=7.0),
        KirinRateLimitError("429", http_status=429, retry_after=300.0),
        KirinRateLimitError("429", http_status=429),
        KirinRateLimitError("429", http_status=429, retry_after=0.0),
    ]
)


class TestEveryWaitEnds:
    @settings(max_examples=200)
    @given(st.floats(1, 1200), progresses, jitters, st.floats(0, 5))
    def test_with_the_video_when_there_is_one(
        self, seconds: float, progress: str, jitter: float, latency: float
    ) -> None:
        run = simulate(poller(jitter=jitter), generation(seconds, PROGRESS[progress]), latency=latency)
        assert run.last.outcome is DONE

    @settings(max_examples=200)
    @given(st.floats(0, 4000), progresses, jitters)
    def test_at_the_deadline_when_there_is_none(self, timeout: float, progress: str, jitter: float) -> None:
        run = simulate(poller(timeout, jitter=jitter), lambda now: task(progress=PROGRESS[progress](now / 4000)))
        assert isinstance(run.last.outcome, KirinTimeoutError)
        assert run.polls[-1] == pytest.approx(timeout, abs=TICK)

    @settings(max_examples=200)
    @given(st.floats(1, 1200), progresses, st.lists(st.none() | errors, max_size=40), jitters, st.floats(10, 2000))
    def test_with_errors_in_between(
        self, seconds: float, progress: str, bad: list[KirinError | None], jitter: float, timeout: float
    ) -> None:
        healthy, ahead = generation(seconds, PROGRESS[progress]), iter(bad)
        run = simulate(poller(timeout, jitter=jitter), lambda now: next(ahead, None) or healthy(now))
        assert run.last.outcome is DONE or isinstance(run.last.outcome, KirinTimeoutError)
        assert run.polls[-1] <= timeout + TICK

    @settings(max_examples=100)
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), progresses)
    def test_a_clock_that_jumps_never_gives_a_delay_that_cannot_be_slept(
        self, times: list[float], progress: str
    ) -> None:
        wait = poller()
        for now in times:
            step = after(wait, task(progress=PROGRESS[progress](abs(now) % 1)), START + now)
            assert 0 <= step.delay <= max(3600 - now, MAX_INTERVAL * 1.05)
            if step.outcome is not None:
                break


class TestDeadline:
    @pytest.mark.parametrize("late", [0.0, 0.001, 60.0, 86_400.0])
    def test_a_generation_that_is_done_is_a_success_even_if_seen_late(self, late: float) -> None:
        step = after(poller(600), DONE, START + 600 + late)
        assert step.outcome is DONE

    @pytest.mark.parametrize("late", [0.0, 0.001, 60.0])
    def test_a_generation_that_failed_is_a_failure_even_if_seen_late(self, late: float) -> None:
        step = after(poller(600), task("failed", error={"code": "8002005001"}), START + 600 + late)
        assert type(step.outcome) is KirinInputError

    @settings(max_examples=200)
    @given(st.floats(1, 1200), progresses, jitters)
    def test_what_ends_in_time_is_seen_in_time(self, seconds: float, progress: str, jitter: float) -> None:
        # The last look falls on the deadline: a generation that ends at the last moment is not missed.
        run = simulate(poller(seconds + 0.01, jitter=jitter), generation(seconds, PROGRESS[progress]))
        assert run.last.outcome is DONE
        assert run.polls[-1] <= seconds + 0.01 + TICK

    def test_a_timeout_of_zero_still_polls_once(self) -> None:
        assert simulate(poller(0), generation(0)).last.outcome is DONE
        run = simulate(poller(0), generation(1))
        assert isinstance(run.last.outcome, KirinTimeoutError)
        assert len(run.polls) == 1

    def test_a_restart_does_not_grant_the_timeout_again(self) -> None:
        first = poller(600)
        assert after(first, BUSY, START + 500).outcome is None
        again = poller(600)
        step = after(again, BUSY, START + 590)
        assert step.delay <= 10 + TICK
        assert isinstance(after(again, BUSY, START + 600).outcome, KirinTimeoutError)

    def test_the_timeout_names_the_id_and_says_that_it_continues_and_is_billed(self) -> None:
        error = after(poller(600), task("processing"), START + 600).outcome
        assert isinstance(error, KirinTimeoutError)
        assert error.kirin_task_ids == ("d1",)
        assert error.retryable
        text = str(error)
        assert "d1" in text
        assert "600 s" in text
        assert "processing" in text
        assert "continues" in text
        assert "billed" in text
        assert "do not submit it again" in text

    def test_the_timeout_names_the_last_error(self) -> None:
        error = after(poller(600), KirinUnavailableError("HTTP 503: maintenance", http_status=503), START + 600).outcome
        assert isinstance(error, KirinTimeoutError)
        assert "HTTP 503: maintenance" in str(error)
        assert "It may continue at Kirin and be billed" in str(error)
        assert error.kirin_task_ids == ("d1",)

    def test_the_timeout_of_an_unknown_status_says_that_it_may_be_billed(self) -> None:
        error = after(poller(600), task("on-hold"), START + 600).outcome
        assert "It may continue at Kirin and be billed" in str(error)

    def test_what_the_gateway_calls_its_status_does_not_flood_the_message(self) -> None:
        wordy = task("x" * 10**6)
        error = after(poller(600), wordy, START + 600).outcome
        assert len(str(error)) < 1000
        assert len(after(poller(600), wordy, START).log_line or "") < 1000


class TestEnds:
    def test_completed_without_a_video_is_its_own_final_error(self) -> None:
        step = after(poller(), task("completed", output=[]), START + 60)
        assert type(step.outcome) is KirinNoVideoError
        assert not step.outcome.retryable

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("8002005001", KirinInputError),
            ("8002005006", KirinAuthError),
            ("8002005098", KirinTaskFailedError),
            ("8002005099", KirinUnavailableError),
            (40201, KirinCreditError),
            (None, KirinTaskFailedError),
        ],
    )
    def test_failed_by_its_code(self, code: Any, kind: type[KirinAPIError]) -> None:
        step = after(poller(), task("failed", error={"code": code, "message": "because"}), START + 60)
        assert type(step.outcome) is kind
        assert "because" in str(step.outcome)

    @pytest.mark.parametrize(
        "error",
        [
            KirinAuthError("401", http_status=401),
            KirinCreditError("402", http_status=402),
            KirinInputError("400", http_status=400),
        ],
    )
    def test_an_error_that_no_other_poll_can_change_ends_at_once(self, error: KirinError) -> None:
        step = after(poller(), error, START)
        assert step.outcome is error

    @pytest.mark.parametrize(
        ("word", "is_last"), [("DONE", True), ("Failed", True), ("in_queue", False), ("a new word", False)]
    )
    def test_every_status_word_goes_through_the_one_table(self, word: str, is_last: bool) -> None:
        assert (after(poller(), task(word, output=VIDEO), START).outcome is not None) is is_last


NOT_FOUND = KirinNotFoundError("HTTP 404: Request not found. Check the id", http_status=404)
NO_GATEWAY = KirinNotFoundError("HTTP 404: an HTML page. Check the id", http_status=404)
NO_GATEWAY.from_api = False
FIREWALL = KirinAuthError("HTTP 403: an HTML page. Check the key", http_status=403)
FIREWALL.from_api = False
intervals = st.none() | st.floats(0, 1200)


class TestNotFound:
    """Right after a submission, and on a replica that lags, a 404 passes; of an unknown id it stays."""

    @settings(max_examples=200)
    @given(intervals, jitters, st.floats(0, 4000), st.floats(0, 2))
    def test_an_unknown_id_ends_within_seconds_at_any_interval(
        self, interval: float | None, jitter: float, timeout: float, latency: float
    ) -> None:
        wait = poller(timeout, jitter=jitter, poll_interval=interval)
        run = simulate(wait, lambda now: NOT_FOUND, latency=latency)
        assert run.last.outcome is NOT_FOUND
        assert run.polls[-1] <= min(timeout, sum(LOOKUP_RETRY_DELAYS) + len(LOOKUP_RETRY_DELAYS) * latency) + TICK
        assert len(run.polls) <= len(LOOKUP_RETRY_DELAYS) + 1

    @settings(max_examples=200)
    @given(intervals, jitters, st.floats(0, sum(LOOKUP_RETRY_DELAYS) - TICK), st.floats(1, 600), st.floats(1, 600))
    def test_lag_is_retried_at_the_start_and_in_the_middle(
        self, interval: float | None, jitter: float, lag: float, begins: float, seconds: float
    ) -> None:
        healthy = generation(seconds)

        def gateway(now: float) -> Outcome:
            # Seen in between, at 0.5 s: else the two lags would be one that is too long.
            return NOT_FOUND if now < 0.1 or begins <= now < begins + lag else healthy(now)

        run = simulate(poller(jitter=jitter, poll_interval=interval), gateway, most=40_000)
        assert run.last.outcome is DONE

    def test_a_generation_that_is_seen_again_has_all_the_patience_again(self) -> None:
        outcomes = iter([*[NOT_FOUND] * 5, BUSY, *[NOT_FOUND] * 5, DONE])
        assert simulate(poller(), lambda now: next(outcomes)).last.outcome is DONE

    def test_other_errors_in_between_do_not_extend_it(self) -> None:
        outcomes = iter([NOT_FOUND, KirinNetworkError("cut")] * 6)
        assert simulate(poller(), lambda now: next(outcomes)).last.outcome is NOT_FOUND

    @pytest.mark.parametrize("external_task_id", [None, "airflow-1"])
    def test_another_try_helps_only_if_it_is_certain_that_it_was_submitted(self, external_task_id: str | None) -> None:
        asked = KirinNotFoundError("404", http_status=404)
        outcome = simulate(poller(external_task_id=external_task_id), lambda now: asked).last.outcome
        assert outcome is asked
        assert asked.retryable is (external_task_id is not None)

    def test_the_next_poll_is_no_sooner_than_the_gateway_allows(self) -> None:
        asked = KirinNotFoundError("404", http_status=404, retry_after=7.0)
        assert after(poller(), asked, START).delay == pytest.approx(7)

    def test_is_logged_once(self) -> None:
        run = simulate(poller(), lambda now: NOT_FOUND)
        (line,) = [step.log_line for step in run.steps if step.log_line]
        assert "d1" in line
        assert "Request not found" in line

    def test_whether_it_is_can_be_asked(self) -> None:
        wait = poller()
        seen = []
        for outcome in (BUSY, NOT_FOUND, KirinNetworkError("cut"), BUSY, NO_GATEWAY):
            after(wait, outcome, START)
            seen.append(wait.is_not_found)
        assert seen == [False, True, False, False, False]

    @pytest.mark.parametrize("poll_interval", [None, 60.0])
    def test_of_a_connection_ends_the_wait_as_soon(self, poll_interval: float | None) -> None:
        missing = KirinConfigError("There is no Airflow connection 'x'.", retryable=True)
        run = simulate(poller(poll_interval=poll_interval), lambda now: missing)
        assert run.last.outcome is missing
        assert run.polls[-1] == pytest.approx(sum(LOOKUP_RETRY_DELAYS), abs=1)
        (line,) = [step.log_line for step in run.steps if step.log_line]
        assert "'x'" in line

    def test_of_a_connection_is_counted_however_long_each_lookup_takes(self) -> None:
        missing, wait = KirinConfigError("There is no Airflow connection 'x'.", retryable=True), poller(3600)
        steps = [wait.on_error(missing, START + 40 * number) for number in range(len(LOOKUP_RETRY_DELAYS) + 1)]
        assert [step.outcome for step in steps] == [None] * len(LOOKUP_RETRY_DELAYS) + [missing]

    @pytest.mark.parametrize(("first", "after"), [(BUSY, 1), (NO_GATEWAY, 100)], ids=["found before", "long after"])
    def test_of_a_connection_later_is_temporary(self, first: KirinTask | KirinError, after: float) -> None:
        missing = KirinConfigError("There is no Airflow connection 'x'.", retryable=True)
        run = simulate(poller(1000), lambda now: first if now < after else missing)
        assert isinstance(run.last.outcome, KirinTimeoutError)
        assert "There is no Airflow connection" in str(run.last.outcome)

    @settings(max_examples=100)
    @given(st.sampled_from([NO_GATEWAY, FIREWALL]), intervals, jitters, st.floats(0, 4000))
    def test_a_page_that_is_not_the_apis_own_is_temporary_until_the_deadline(
        self, page: KirinError, interval: float | None, jitter: float, timeout: float
    ) -> None:
        run = simulate(poller(timeout, jitter=jitter, poll_interval=interval), lambda now: page)
        assert isinstance(run.last.outcome, KirinTimeoutError)
        assert "an HTML page" in str(run.last.outcome)
        assert run.polls[-1] == pytest.approx(timeout, abs=TICK)
        assert len(run.polls) <= 10 + timeout / (MAX_BACKOFF / 2)

    @pytest.mark.parametrize("page", [NO_GATEWAY, FIREWALL])
    def test_a_page_in_place_of_the_api_is_temporary_like_a_503(self, page: KirinError) -> None:
        wait = poller()
        delays = [after(wait, page, START + now).delay for now in (0, 2, 6)]
        assert delays == pytest.approx([2, 4, 8])
        assert after(wait, DONE, START + 14).outcome is DONE


class TestIntervals:
    @settings(max_examples=200)
    @given(st.floats(1, 1200), progresses, jitters)
    def test_never_a_hot_loop_and_never_asleep(self, seconds: float, progress: str, jitter: float) -> None:
        run = simulate(poller(jitter=jitter), generation(seconds, PROGRESS[progress]))
        assert all(0.95 * MIN_INTERVAL - TICK <= gap <= 1.05 * MAX_INTERVAL + TICK for gap in run.gaps)

    @settings(max_examples=100)
    @given(st.floats(1, 4000), progresses, jitters)
    def test_only_the_poll_at_the_deadline_may_come_early(self, timeout: float, progress: str, jitter: float) -> None:
        run = simulate(poller(timeout, jitter=jitter), lambda now: task(progress=PROGRESS[progress](now / 4000)))
        early = [gap for gap in run.gaps[:-1] if gap < 0.95 * MIN_INTERVAL - TICK]
        # The sum of start and delay may round to just before the deadline: one more look, a tick later.
        assert len(early) <= 1
        assert len(run.polls) <= 2 + timeout / (0.95 * MIN_INTERVAL)

    def test_the_second_poll_comes_soon_the_third_after_a_while(self) -> None:
        run = simulate(poller(), generation(300))
        assert run.gaps[0] == pytest.approx(FIRST_INTERVAL)
        assert run.polls[2] >= 4 * FIRST_INTERVAL

    @pytest.mark.parametrize(
        ("progress", "mean_share", "mean_polls"),
        [
            # Nothing helps: the frontier. docs/explanation/comparison.md shows it beside fixed intervals.
            ("none", 0.08, 14),
            ("zero", 0.08, 14),
            ("honest", 0.03, 10),
            ("steps of 10 %", 0.05, 10),
            ("coarse", 0.08, 12),
            ("late", 0.08, 12),
            ("sometimes silent", 0.03, 12),
            # It misleads: three times too fast, then not at all; and nearly done from the start.
            ("stalls at 90 %", 0.08, 17),
            ("early", 0.05, 14),
        ],
    )
    def test_the_delay_of_noticing_and_the_requests_for_one_to_ten_minutes(
        self, progress: str, mean_share: float, mean_polls: float
    ) -> None:
        delay, polls = cost_of_waiting(PROGRESS[progress])
        assert delay <= mean_share
        assert polls <= mean_polls

    def test_one_that_ends_before_the_earliest_end_is_noticed_by_then(self) -> None:
        early = range(1, int(EARLIEST_END))
        assert all(simulate(poller(), generation(seconds)).polls[-1] <= EARLIEST_END + TICK for seconds in early)

    def test_without_progress_the_delay_is_a_bounded_share_of_the_time(self) -> None:
        for seconds in range(int(EARLIEST_END), 700):
            run = simulate(poller(), generation(seconds))
            assert run.polls[-1] - seconds <= GROWTH * seconds + TICK

    @settings(max_examples=200)
    @given(st.floats(1, 1200), progresses, jitters)
    @example(4, "none", 1.0)
    @example(8, "late", 0.0)
    @example(29, "stalls at 90 %", 0.0)
    @example(7, "late", 1.0)
    @example(26, "jumps to and fro", 1.0)
    def test_no_misleading_progress_doubles_the_wait(self, seconds: float, progress: str, jitter: float) -> None:
        run = simulate(poller(jitter=jitter), generation(seconds, PROGRESS[progress]))
        # The second poll, and the longest pause after it.
        assert run.polls[-1] <= max(1.05 * (FIRST_INTERVAL + MAX_INTERVAL), 2.1 * seconds)

    def test_a_fast_generation_is_noticed_fast(self) -> None:
        assert all(simulate(poller(), generation(seconds / 10)).polls[-1] <= 3.2 for seconds in range(1, 29))

    def test_honest_progress_saves_polls(self) -> None:
        polls = {
            name: sum(len(simulate(poller(), generation(s, PROGRESS[name])).polls) for s in range(60, 601, 30))
            for name in ("none", "honest")
        }
        assert polls["honest"] < polls["none"]

    @pytest.mark.parametrize("seconds", [20.0, 60.0, 300.0])
    def test_while_another_task_waits_for_its_place_an_end_is_noticed_within_seconds(self, seconds: float) -> None:
        """Even without progress, when 20 s would be noticed after 55."""
        for jitter in (0.0, 0.5, 1.0):
            run = simulate(poller(jitter=jitter, is_awaited=lambda: True), generation(seconds))
            assert run.polls[-1] - seconds <= max(6.0, 0.05 * seconds)

    def test_jitter_spreads_waits_that_began_together(self) -> None:
        delays = {after(poller(jitter=jitter), BUSY, START).delay for jitter in (0.0, 0.25, 0.5, 1.0)}
        assert len(delays) == 4
        assert max(delays) / min(delays) < 1.2

    def test_the_default_jitter_is_random(self) -> None:
        delays = {after(Poller("d1", started_at=0, deadline=100), BUSY, 0).delay for _ in range(20)}
        assert len(delays) > 1

    @pytest.mark.parametrize("interval", [0.1, 1.0, 5.0, 30.0, 600.0])
    def test_a_given_interval_is_kept(self, interval: float) -> None:
        run = simulate(poller(1800, poll_interval=interval), generation(100, PROGRESS["honest"]))
        assert all(gap == pytest.approx(interval, abs=TICK) for gap in run.gaps)
        assert run.last.outcome is DONE

    def test_a_given_interval_longer_than_the_wait_ends_at_the_deadline(self) -> None:
        assert simulate(poller(60, poll_interval=600), generation(1000)).polls == pytest.approx([0, 60])

    @pytest.mark.parametrize("interval", [0, 0.0, -1.0])
    def test_no_interval_makes_a_hot_loop(self, interval: float) -> None:
        assert after(poller(poll_interval=interval), BUSY, START + 10).delay > 0

    def test_polls_approach_the_end_that_progress_predicts(self) -> None:
        run = simulate(poller(), generation(400, PROGRESS["honest"]))
        assert run.polls[-2] > 0.9 * 400
        assert run.gaps[-1] < run.gaps[-3]


class TestWhereAWaitBegan:
    """A wait may begin long after the generation did: the schedule counts from there, the timeout does not."""

    def first_pause(self, created_at: float | None) -> float:
        wait = poller(3600)
        after(wait, task(created_at=created_at), START)
        return after(wait, task(created_at=created_at), START + 3).delay

    @pytest.mark.parametrize("unit", [1, 1000])
    def test_created_at_counts_in_seconds_and_in_milliseconds(self, unit: int) -> None:
        assert self.first_pause((START - 200) * unit) == pytest.approx(GROWTH * 203)
        assert self.first_pause(START * unit) != pytest.approx(GROWTH * 203)

    @pytest.mark.parametrize("created_at", [None, 0, -1, START + 60, START - 86400, 5])
    def test_what_cannot_be_does_not(self, created_at: float | None) -> None:
        assert self.first_pause(created_at) == self.first_pause(START)


class TestErrorsWhilePolling:
    def test_pauses_double_up_to_a_minute(self) -> None:
        wait, now, delays = poller(10_000), START, []
        for _ in range(12):
            delays.append(after(wait, KirinNetworkError("cut"), now).delay)
            now += delays[-1]
        assert delays[:4] == pytest.approx([2, 4, 8, 16])
        assert max(delays) == pytest.approx(MAX_BACKOFF)
        assert delays == sorted(delays)

    def test_a_poll_that_succeeds_resets_the_backoff(self) -> None:
        wait = poller()
        for now in (0, 10, 20, 30):
            after(wait, KirinNetworkError("cut"), START + now)
        after(wait, BUSY, START + 40)
        assert after(wait, KirinNetworkError("cut"), START + 50).delay == pytest.approx(2)

    @pytest.mark.parametrize(("jitter", "delay"), [(0.0, 1.0), (0.5, 2.0), (1.0, 3.0)])
    def test_their_pauses_are_spread(self, jitter: float, delay: float) -> None:
        assert after(poller(jitter=jitter), KirinNetworkError("cut"), START).delay == pytest.approx(delay)

    @pytest.mark.parametrize("error", [KirinRateLimitError, KirinUnavailableError])
    def test_retry_after_is_obeyed(self, error: type[KirinAPIError]) -> None:
        assert after(poller(), error("x", retry_after=90.0), START).delay == pytest.approx(90)
        assert after(poller(30), error("x", retry_after=90.0), START).delay == pytest.approx(30)
        assert after(poller(), error("x", retry_after=0.0), START).delay >= 1

    @settings(max_examples=100)
    @given(st.lists(errors, min_size=1, max_size=30), jitters)
    @example([KirinRateLimitError("429", retry_after=300.0)] * 30, 0.0)
    def test_no_poll_comes_before_retry_after_has_passed(self, bad: list[KirinError], jitter: float) -> None:
        ahead = iter(bad)
        run = simulate(poller(jitter=jitter), lambda now: next(ahead, DONE))
        for error, gap in zip(bad, run.gaps[:-1], strict=False):
            asked = getattr(error, "retry_after", None) or 0.0
            assert gap >= max(asked, 1.0) - TICK

    def test_a_given_interval_is_not_undercut(self) -> None:
        assert after(poller(poll_interval=30.0), KirinNetworkError("cut"), START).delay == pytest.approx(30)

    def test_a_gateway_that_stays_away_is_retried_until_the_deadline(self) -> None:
        run = simulate(poller(1000), lambda now: KirinNetworkError("connection refused"))
        assert isinstance(run.last.outcome, KirinTimeoutError)
        assert "connection refused" in str(run.last.outcome)
        assert run.polls[-1] == pytest.approx(1000, abs=TICK)
        assert len(run.polls) < 40


class TestLogLines:
    def log_lines(self, *outcomes: Outcome) -> list[str | None]:
        wait = poller()
        return [after(wait, outcome, START + 10 * index).log_line for index, outcome in enumerate(outcomes)]

    def test_a_log_line_is_written_only_on_change(self) -> None:
        lines = self.log_lines(BUSY, BUSY, task(progress=0.1), task(progress=0.1), task("processing", 0.1), BUSY)
        assert [line is not None for line in lines] == [True, False, True, False, True, True]

    def test_has_status_progress_and_time(self) -> None:
        (_, line) = self.log_lines(BUSY, task("processing", 0.35))
        assert line == "Kirin generation d1: processing, 35% done, after 10 s"

    def test_progress_is_logged_by_the_quarter(self) -> None:
        lines = self.log_lines(*(task(progress=share) for share in (0.0, 0.2, 0.3, 0.5, 0.56, 0.99)))
        assert [line is not None for line in lines] == [True, False, True, False, True, True]

    def test_progress_that_falls_back_is_logged_too(self) -> None:
        assert None not in self.log_lines(task(progress=0.9), task(progress=0.1))

    def test_progress_that_is_left_out_is_no_news(self) -> None:
        assert self.log_lines(task(progress=0.9), BUSY)[1] is None

    def test_an_error_is_logged_with_its_reason_and_the_next_poll(self) -> None:
        (line,) = self.log_lines(KirinUnavailableError("HTTP 503: maintenance"))
        assert line is not None
        assert "d1" in line
        assert "HTTP 503: maintenance" in line
        assert "2 s" in line

    def test_the_end_is_logged_with_the_result(self) -> None:
        assert self.log_lines(DONE) == [None]


def test_a_wait_that_continues_in_a_new_process_does_not_start_over() -> None:
    """Reschedule mode and a restarted triggerer make a new poller each time: the first look there is not the first."""
    assert after(poller(), BUSY, START).delay == pytest.approx(FIRST_INTERVAL)
    assert after(poller(), BUSY, START + 600).delay > 5 * FIRST_INTERVAL


class TestWithACallback:
    def test_polls_only_as_a_safety_net(self) -> None:
        waiting = poller(callbacks=CallbackHealth())
        assert waiting.first_delay(START) == SAFETY_NET
        assert after(waiting, BUSY, START).delay == SAFETY_NET
        assert after(waiting, BUSY, START + SAFETY_NET).delay == SAFETY_NET

    def test_the_last_poll_is_at_the_deadline_nevertheless(self) -> None:
        assert poller(timeout=40, callbacks=CallbackHealth()).first_delay(START) == 40
        assert after(poller(timeout=40, callbacks=CallbackHealth()), BUSY, START).delay == 40

    def test_a_restart_neither_extends_the_first_delay_nor_puts_off_an_overdue_poll(self) -> None:
        waiting = poller(callbacks=CallbackHealth())
        assert waiting.first_delay(START + 100) == SAFETY_NET - 100
        assert waiting.first_delay(START + SAFETY_NET) == waiting.first_delay(START + 3000) == 0

    def test_a_clock_behind_the_worker_s_does_not_extend_the_first_delay(self) -> None:
        assert poller(callbacks=CallbackHealth()).first_delay(START - 3600) == SAFETY_NET

    def test_polls_at_once_without_a_callback_to_rely_on(self) -> None:
        distrusted = CallbackHealth()
        distrusted.on_missed(START)
        for options in ({}, {"callbacks": distrusted}, {"callbacks": CallbackHealth(), "poll_interval": 7}):
            assert poller(**options).first_delay(START + 1) == 0

    def test_an_end_that_the_first_poll_has_to_find_is_a_missed_callback(self) -> None:
        health = CallbackHealth()
        waiting = poller(callbacks=health)
        after(waiting, DONE, now := START + waiting.first_delay(START))
        assert not health.is_expected(now) and waiting.has_seen_it_end

    def test_an_end_that_a_poll_has_to_find_returns_the_connection_to_its_usual_pace_for_a_while(self) -> None:
        health = CallbackHealth()
        missed, another = poller(callbacks=health), poller(callbacks=health)
        later = poller(timeout=2 * DISTRUST, callbacks=health)
        after(missed, BUSY, START)
        assert after(another, BUSY, START).delay == SAFETY_NET
        after(missed, DONE, now := START + SAFETY_NET)
        assert after(another, BUSY, now).delay < SAFETY_NET
        assert after(later, BUSY, now + DISTRUST - 1).delay < SAFETY_NET
        assert after(later, BUSY, now + DISTRUST).delay == SAFETY_NET

    def test_a_callback_that_arrives_restores_trust(self) -> None:
        health = CallbackHealth()
        health.on_missed(START)
        assert after(poller(callbacks=health), BUSY, START).delay < SAFETY_NET
        health.on_arrived()
        assert after(poller(callbacks=health), BUSY, START).delay == SAFETY_NET

    def test_an_end_at_a_first_poll_that_was_not_put_off_says_nothing(self) -> None:
        health = CallbackHealth()
        restarted = poller(callbacks=health)
        after(restarted, DONE, now := START + SAFETY_NET + restarted.first_delay(START + SAFETY_NET))
        assert health.is_expected(now) and not restarted.has_seen_it_end

    def test_an_end_at_the_usual_pace_says_nothing(self) -> None:
        health = CallbackHealth()
        health.on_missed(START)
        waiting = poller(callbacks=health)
        after(waiting, BUSY, START)
        after(waiting, DONE, START + DISTRUST)
        assert health.is_expected(START + DISTRUST)

    def test_errors_and_missing_generations_are_polled_again_as_soon_as_ever(self) -> None:
        waiting = poller(callbacks=CallbackHealth())
        assert after(waiting, KirinNotFoundError("?"), START).delay == LOOKUP_RETRY_DELAYS[0]
        assert after(waiting, KirinUnavailableError("?"), START).delay < SAFETY_NET

    def test_the_user_s_own_interval_comes_first(self) -> None:
        assert after(poller(callbacks=CallbackHealth(), poll_interval=7), BUSY, START).delay == 7
