"""Decide when to poll again and when to stop: one poller without I/O or a clock, for every way of waiting.

A :class:`Poller` receives the last response or error and the current time, and returns a :class:`PollResult`. The
sync hook, the async hook, the trigger and the sensor's poke mode only carry it out.

The schedule (:func:`next_poll_delay`): poll at once and again soon after, as progress may show how fast this generation
is. Poll a few times until the earliest plausible end, and after that at intervals proportional to the elapsed time, so
that the relative delay stays the same however long the generation takes. Progress that moves predicts the end, which is
approached in shrinking steps. The page Comparison shows how the constants were measured. Where the gateway's callback
will end the wait, polling is only a safety net (:mod:`.callback_health`), also at first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_kirin.api.callback_health import SAFETY_NET, CallbackHealth
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.lookup import mismatch, settle_not_found
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS, backoff_delay
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinConfigError,
    KirinError,
    KirinNotFoundError,
    KirinTimeoutError,
)

#: Seconds until the second poll: soon enough for a fast gateway, cheap for a slow one.
FIRST_INTERVAL = 3.0
MIN_INTERVAL = 2.0
MAX_INTERVAL = 120.0
#: Seconds within which a wait finds out that its connection does not exist.
_START_SECONDS = 60.0
#: Lower bound for a user's own interval: short enough for an emulator, and not a hot loop even if it is 0.
MIN_FIXED_INTERVAL = 0.1
#: Seconds before which no end is expected: public clients wait for one to ten minutes; the API documents no duration.
EARLIEST_END = 55.0
#: Until then, the elapsed time grows by this factor from poll to poll: few polls, yet a faster gateway is noticed.
EARLY_FACTOR = 4.3
#: From then on, the next poll comes after this share of the elapsed time.
GROWTH = 0.16
#: If progress predicts the end, the next poll comes after this share of the remaining time.
SHARE_OF_REMAINING = 0.6
#: The bounds of that delay, as shares of the elapsed time.
MIN_SHARE, MAX_SHARE = 0.045, 0.5
#: While tasks wait for a place in a full account, an end is worth more polls: this many seconds apart, or as close as
#: progress would make them.
AWAITED_INTERVAL = 5.0
#: Progress is logged when it has moved by this much: each log line costs a triggerer several queries.
PROGRESS_LOG_STEP = 0.25
#: ``created_at`` counts as the start if it is at most this many seconds before the wait: its unit and its clock are not
#: documented.
MAX_CREATED_AT_SKEW = 600.0


#: How a wait ended: the finished generation with its video, or why there is none.
Outcome = KirinTask | KirinError


@dataclass(frozen=True)
class PollResult:
    """What to do next: poll again after ``delay`` seconds, or stop.

    :param delay: seconds until the next poll, unless this is the last one
    :param outcome: how the wait ended; None if it is not over
    :param log_line: a line to log if something has changed, else None
    """

    delay: float = 0.0
    outcome: Outcome | None = None
    log_line: str | None = None


class Poller:
    """One wait for one generation.

    :param kirin_task_id: the generation's id
    :param started_at: when the wait started, by the same clock as ``now`` (wall-clock time, so that it survives a
        restart)
    :param deadline: when the wait has to end, by the same clock
    :param poll_interval: seconds between polls; None for the adaptive schedule
    :param is_kirin_id: whether the id is the gateway's own, which every response has to repeat
    :param callbacks: what is known of the connection's callbacks, if the generation was submitted with one
    :param external_task_id: the external task id that it was submitted under, if known: not every response repeats it
    :param is_awaited: returns whether a task waits for the place that the generation takes
    :param jitter: returns a number between 0 and 1; spreads the polls of waits that started together
    """

    def __init__(
        self,
        kirin_task_id: str,
        *,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
        is_kirin_id: bool = False,
        callbacks: CallbackHealth | None = None,
        external_task_id: str | None = None,
        is_awaited: Callable[[], bool] = lambda: False,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.kirin_task_id = kirin_task_id
        self._is_kirin_id = is_kirin_id
        self.external_task_id = external_task_id
        self.started_at = started_at
        self.deadline = deadline
        self.poll_interval = None if poll_interval is None else max(poll_interval, MIN_FIXED_INTERVAL)
        # The user's own interval comes first.
        self._callbacks = callbacks if poll_interval is None else None
        #: Whether a callback was relied on to end the wait before the next poll.
        self._expects_callback = False
        self._is_awaited = is_awaited
        self._jitter = jitter
        self._poll_count = 0
        self._error_count = 0
        #: Consecutive polls in which the API did not know the generation.
        self._not_found_count = 0
        #: Whether the API did not know the generation at the last poll, which may be replication lag, or whether the
        #: connection was not found.
        self.is_not_found = False
        #: Whether the gateway asked at the last poll not to be polled for a while, which it asks of the whole account.
        self.has_to_wait = False
        self._logged: tuple[str, float | None] | None = None
        #: Whether it ended during this wait: it was in progress at an earlier poll, or when the wait began. It may have
        #: ended long before the poll that found its end.
        self.has_seen_it_end = False
        #: Elapsed seconds and progress when the progress last moved, and the predicted end in elapsed seconds.
        self._moved = (0.0, 0.0)
        self._predicted_end: float | None = None

    def first_delay(self, now: float) -> float:
        """Return the seconds until the first poll, which is put off if a callback is expected to end the wait.

        For a wait that began when the generation was submitted: an earlier callback may have been missed otherwise. The
        delay counts from the start of the wait, so that a restart neither extends it nor puts off an overdue poll.

        :param now: the current time
        """
        # Clocks may differ: if this one is behind the worker's, the delay is as long as if they agreed.
        delay = min(self.started_at + SAFETY_NET - now, SAFETY_NET)
        self._expects_callback = delay > 0 and self._is_callback_expected(now)
        return self._until_deadline(delay, now) if self._expects_callback else 0.0

    def on_response(self, kirin_task: KirinTask, now: float) -> PollResult:
        """Decide what to do after a response.

        The status is checked before the deadline: a generation that finished in time is a success.

        :param kirin_task: the generation as the gateway reports it
        :param now: the time of the poll
        """
        if self._is_kirin_id and (error := mismatch(kirin_task, kirin_task_id=self.kirin_task_id)):
            # Another generation: it says nothing about this one.
            return self.on_error(error, now)
        self._poll_count += 1
        self._error_count = self._not_found_count = 0
        self.is_not_found = self.has_to_wait = False
        if kirin_task.is_final:
            self.has_seen_it_end = self._logged is not None or self._expects_callback
            if self._callbacks and self._expects_callback:
                self._callbacks.on_missed(now)
            return PollResult(outcome=error_from_task(kirin_task) or kirin_task)
        log_line = self._progress_line(kirin_task, now)
        if now >= self.deadline:
            word = one_line(kirin_task.raw_status or kirin_task.status, 40)
            return self._timed_out(now, f"it is still {word}", is_running=not kirin_task.has_unknown_status)
        interval = self.poll_interval
        if interval is None:
            interval = self._interval(kirin_task, now) * (0.95 + 0.1 * self._jitter())
        return PollResult(delay=self._until_deadline(interval, now), log_line=log_line)

    def on_error(self, error: KirinError, now: float) -> PollResult:
        """Decide what to do after a poll that failed.

        :param error: why
        :param now: the time of the poll
        """
        self._poll_count += 1
        # Later, or if it was found before, a secrets backend is down, which passes.
        is_start = now < self.started_at + _START_SECONDS or self._not_found_count > 0
        is_missing = isinstance(error, KirinConfigError) and error.retryable
        is_no_connection = is_missing and is_start and self._logged is None
        self.is_not_found = is_no_connection or (isinstance(error, KirinNotFoundError) and error.from_api)
        self.has_to_wait = isinstance(error, KirinAPIError) and bool(error.retry_after)
        # A load balancer's 404 or a firewall's 403 says nothing about the generation: it is temporary, like a 503.
        if not isinstance(error, KirinAPIError) or error.from_api:
            if self.is_not_found:
                return self._after_not_found(error, now)
            if not error.retryable:
                return PollResult(outcome=error)
        if now >= self.deadline:
            return self._timed_out(now, f"the last poll failed: {error}")
        self._error_count += 1
        delay = max(backoff_delay(error, self._error_count, jitter=self._jitter), self.poll_interval or 0.0)
        delay = self._until_deadline(delay, now)
        log_line = f"Could not poll Kirin generation {self.kirin_task_id}; next poll in {delay:.0f} s: {error}"
        return PollResult(delay=delay, log_line=log_line)

    def _after_not_found(self, error: KirinError, now: float) -> PollResult:
        """Accept that a generation or the connection is not found only after a while, whatever the user's interval."""
        is_last = self._not_found_count >= len(LOOKUP_RETRY_DELAYS) or now >= self.deadline
        why, asked = "The connection is not found; looking it up again", 0.0
        if isinstance(error, KirinNotFoundError):
            why = f"The gateway does not know Kirin generation {self.kirin_task_id} (yet); polling again"
            asked = error.retry_after or 0.0
            if is_last:
                error = settle_not_found(error, is_submitted=self.external_task_id is not None)
        if is_last:
            return PollResult(outcome=error)
        delay = self._until_deadline(max(LOOKUP_RETRY_DELAYS[self._not_found_count], asked), now)
        log_line = None if self._not_found_count else f"{why}: {error}"
        self._not_found_count += 1
        return PollResult(delay=delay, log_line=log_line)

    def _timed_out(self, now: float, why: str, *, is_running: bool = False) -> PollResult:
        waited = now - self.started_at
        end = "did not finish" if is_running else "was not seen to finish"
        fate = "It continues at Kirin and will be billed" if is_running else "It may continue at Kirin and be billed"
        return PollResult(
            outcome=KirinTimeoutError(
                f"Kirin generation {self.kirin_task_id} {end} within {waited:.0f} s; {why}. {fate}: "
                "do not submit it again; wait for this id with a longer timeout.",
                kirin_task_ids=[self.kirin_task_id],
            )
        )

    def _until_deadline(self, interval: float, now: float) -> float:
        """Return the interval, shortened so that the last poll falls on the deadline, not after it."""
        return max(min(interval, self.deadline - now), 0.0)

    def _progress_line(self, kirin_task: KirinTask, now: float) -> str | None:
        status = one_line(kirin_task.raw_status or kirin_task.status, 40)
        if (
            self._logged is not None
            and self._logged[0] == status
            and not _is_worth_logging(kirin_task.progress, self._logged[1])
        ):
            return None
        self._logged = (status, kirin_task.progress)
        share = "" if kirin_task.progress is None else f", {kirin_task.progress:.0%} done"
        return f"Kirin generation {self.kirin_task_id}: {status}{share}, after {max(now - self.started_at, 0):.0f} s"

    def _interval(self, kirin_task: KirinTask, now: float) -> float:
        self._expects_callback = self._is_callback_expected(now)
        return SAFETY_NET if self._expects_callback else self._usual_interval(kirin_task, now)

    def _is_callback_expected(self, now: float) -> bool:
        return self._callbacks is not None and self._callbacks.is_expected(now)

    def _usual_interval(self, kirin_task: KirinTask, now: float) -> float:
        elapsed = max(now - self._began_at(kirin_task), 0.0)
        self._predict_end(kirin_task.progress, elapsed)
        if self._poll_count == 1 and now - self.started_at < FIRST_INTERVAL:
            return FIRST_INTERVAL
        delay = next_poll_delay(elapsed, self._predicted_end)
        return min(delay, max(AWAITED_INTERVAL, MIN_SHARE * elapsed)) if self._is_awaited() else delay

    def _predict_end(self, progress: float | None, elapsed: float) -> None:
        """Extrapolate from the last two different values of progress, or from the start and one."""
        since, before = self._moved
        if progress and before < progress < 1 and elapsed > since:
            self._moved = (elapsed, progress)
            self._predicted_end = elapsed + (elapsed - since) * (1 - progress) / (progress - before)

    def _began_at(self, kirin_task: KirinTask) -> float:
        """Return when the generation started, which may be before this wait."""
        created = kirin_task.created_at or 0.0
        # Both seconds and milliseconds have been observed.
        created = created / 1000 if created > 1e11 else created
        return created if 0 <= self.started_at - created <= MAX_CREATED_AT_SKEW else self.started_at


def next_poll_delay(elapsed: float, predicted_end: float | None) -> float:
    """Return the seconds until the next poll of a generation that has not ended.

    :param elapsed: seconds since the generation started
    :param predicted_end: the end that progress predicts, in seconds since the start; None without a prediction
    """
    delay = GROWTH * elapsed
    if elapsed < EARLIEST_END:
        delay = max(delay, min((EARLY_FACTOR - 1) * elapsed, EARLIEST_END - elapsed))
    # A prediction may be wrong: it no longer counts once its time has passed.
    if predicted_end is not None and (remaining := predicted_end - elapsed) > 0:
        longest = max(delay, MAX_SHARE * elapsed)
        delay = min(max(SHARE_OF_REMAINING * remaining, MIN_SHARE * elapsed), longest)
    return min(max(delay, MIN_INTERVAL), MAX_INTERVAL)


def _is_worth_logging(progress: float | None, logged: float | None) -> bool:
    """Return whether progress has moved far enough since it was last logged."""
    return progress is not None and (logged is None or abs(progress - logged) >= PROGRESS_LOG_STEP)
