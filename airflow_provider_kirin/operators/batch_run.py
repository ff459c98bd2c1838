"""Work through a batch in waves: poll what is in flight, submit into free places, store what is finished.

Nothing here knows Airflow: an operator drives it, and so can a shell. What to do is decided in
:mod:`airflow_provider_kirin.api.batch`; this module carries it out, several rows at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from logging import getLogger
from typing import Any

from airflow_provider_kirin.api.batch.candidates import Candidates
from airflow_provider_kirin.api.batch.outcomes import (
    after_download,
    after_end,
    after_poll_error,
    after_rejection,
    after_timeout,
    after_transient_error,
    scope_of,
)
from airflow_provider_kirin.api.batch.record import RowRecord
from airflow_provider_kirin.api.batch.report import progress_line
from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.batch.row import Row
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.schedule import Wait, pause_after, target_after_full, target_after_wave
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.lookup import LOOKUP_VERIFIED, check_response
from airflow_provider_kirin.api.pauses import pause
from airflow_provider_kirin.api.submission import Submitted
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinError, KirinTaskFailedError
from airflow_provider_kirin.operators.batch_downloads import RowDownloads
from airflow_provider_kirin.operators.batch_recovery import BatchRecovery
from airflow_provider_kirin.operators.batch_settings import BatchClient, BatchSettings
from airflow_provider_kirin.operators.batch_submission import RowSubmitter
from airflow_provider_kirin.operators.batch_threads import as_completed, or_error
from airflow_provider_kirin.operators.batch_wave import UNAVAILABLE_AFTER, Wave
from airflow_provider_kirin.state.journal import Journal

#: Rows that are submitted or polled at the same time.
SUBMIT_THREADS = 8
#: Seconds between two reports of a long wave's progress.
_REPORT_SECONDS = 60.0
#: Consecutive waves in which nothing could be submitted, after which the batch gives up until it is retried.
_MAX_IDLE_WAVES = 10


class BatchRun:
    """One process's work on a batch. Call :meth:`open` once, then :meth:`wave` until the batch :attr:`is_finished`.

    :param client: calls the gateway, and stores videos
    :param journal: what survives a crash
    :param table: returns the rows of the table; called a few times in the first wave, once in others, and at the end
    :param settings: what the user wants
    :param log: the logger to write to
    :param threads: how many rows are submitted at the same time
    :param now: returns the time, in seconds since the epoch
    :param sleep: called with the seconds to wait
    :param lookup_verified: see :data:`.LOOKUP_VERIFIED`
    """

    rows: Rows
    _candidates: Candidates
    _submitter: RowSubmitter
    _downloads: RowDownloads

    def __init__(
        self,
        client: BatchClient,
        journal: Journal,
        table: Callable[[], Iterable[Row]],
        settings: BatchSettings,
        *,
        log: Any = None,
        threads: int = SUBMIT_THREADS,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = pause,
        lookup_verified: dict[str, bool] = LOOKUP_VERIFIED,
    ) -> None:
        self.client = client
        self.journal = journal
        self.table = table
        self.settings = settings
        self.log = log or getLogger(__name__)
        self.threads = threads
        self._now = now
        self._sleep = sleep
        self._verified = lookup_verified
        #: Called after each change of a row.
        self.on_change: Callable[[], object] = lambda: None
        #: Called at the end of each wave, and once a minute in a long one.
        self.on_report: Callable[[], object] = lambda: None
        #: Why nothing more is submitted; None if rows may be submitted.
        self.halted: KirinError | None = None
        #: Until when every end is known, by polls or by callbacks, in seconds since the epoch; 0 if one may be missing.
        self.known_until = 0.0
        self._wave = Wave()
        self._reported = Reported()

    def open(self, *, batch: str, try_number: int, round: int, may_be_lost: bool) -> None:
        """Take the batch over: see :meth:`.BatchRecovery.open`."""
        settings = self.settings
        recovery = BatchRecovery(self.journal, self.table, settings, log=self.log, now=self._now, sleep=self._sleep)
        self.rows = recovery.open(batch=batch, try_number=try_number, round=round, may_be_lost=may_be_lost)
        self._candidates = Candidates(
            self.table, self.rows, source=settings.source, model=settings.model, by_position=settings.by_position
        )
        self._downloads = RowDownloads(self.client, self.rows, now=self._now)
        self._submitter = RowSubmitter(
            self.client,
            self.journal,
            settings,
            known_generations=self.rows.known_generations,
            lookup_verified=self._verified,
            log=self.log,
            now=self._now,
            sleep=self._sleep,
        )

    # Waves --------------------------------------------------------------------------------------------------------

    @property
    def places(self) -> int:
        """How many generations may be in flight now."""
        return min(self.journal.head.target or self.settings.max_in_flight, self.settings.max_in_flight)

    @property
    def deadline(self) -> float:
        """When the batch has run out of time, in seconds since the epoch."""
        return self.journal.head.started_at + self.settings.timeout

    @property
    def why_stopped(self) -> str:
        """Why rows were not submitted; empty if none was left out."""
        if not self.rows.left:
            return ""
        if self.halted is not None:
            return str(self.halted)
        if self._now() >= self.deadline:
            return f"The batch has run out of time (timeout = {self.settings.timeout:.0f} s)."
        if self._candidates.is_exhausted:
            return f"Rows that were there when the batch began are no longer in {self.settings.source}."
        return "fail_fast ended it." if self.settings.fail_fast else ""

    @property
    def may_submit(self) -> bool:
        """Whether rows may be submitted at all."""
        is_stopped = self.settings.fail_fast and self.rows.failed > 0
        return self.halted is None and not is_stopped and self._now() < self.deadline

    @property
    def has_more(self) -> bool:
        """Whether rows wait for a place."""
        return self.rows.left > 0 and self.may_submit and not self._candidates.is_exhausted

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.rows.in_flight or self.has_more or self._downloads.waiting())

    def wait(self, *, hold: float = 0.0, at_once: bool = False) -> Wait:
        """Return the wait until the next wave, which begins now.

        :param hold: seconds before which the next wave must not begin
        :param at_once: whether it begins as soon as one generation has ended
        """
        now, idle = self._now(), self.journal.head.idle_waves
        is_refused = idle > 0 or not self._wave.is_open or bool(self._downloads.waiting())
        ends = (float(state.since or now) + self.settings.row_timeout for state in self.rows.having("sent"))
        return Wait(
            since=now,
            deadline=min([self.deadline, *ends]),
            earliest=now + hold,
            has_more=self.has_more,
            retry_at=now + pause_after(max(idle, 1)) if is_refused else None,
            at_once=at_once,
        )

    def wave(self, reported: Reported | None = None) -> None:
        """Poll, submit, store, and submit again; return when there is nothing to do but wait.

        :param reported: what callbacks have reported, if one has begun this wave
        :raises KirinError: the batch cannot continue; what is in flight stays on record
        """
        self._wave = Wave(unstored=self.journal.head.unstored)
        self._reported = reported or Reported()
        self._candidates.begin_wave()
        self._poll()
        if self._downloads.have_failed():
            self._store()
        self._submit()
        reported_at = self._now()
        while self._store():
            self._poll()
            self._submit()
            if self._now() - reported_at >= _REPORT_SECONDS:
                self._report()
                reported_at = self._now()
        self._end_wave()

    def _end_wave(self) -> None:
        head, wave = self.journal.head, self._wave
        for state, error in wave.transient_errors:
            known = self.rows.get(state.key) or state
            self._record(after_transient_error(known, error, are_others_accepted=wave.submitted > 0))
            if not wave.submitted:
                wave.paused_by = error
        if self.is_finished and not self.rows.left:
            # As many rows are paid as were there when the round began.
            self.rows.total += self._candidates.find_added(self.journal.head.rows_hash)
            if self._candidates.notice:
                self.log.warning("%s", self._candidates.notice)
            self._halt(self._candidates.error)
        target = (
            target_after_full(self.rows.in_flight)
            if wave.is_full
            else target_after_wave(self.places, self.settings.max_in_flight)
        )
        idle = head.idle_waves + 1 if not (wave.is_open or wave.submitted) else 0
        self._report()
        self.journal.write_head(replace(self.journal.head, target=target, idle_waves=idle, unstored=wave.unstored))
        if wave.is_full:
            self.log.info(
                "The account is full with %s generations of this batch in flight.", f"{self.rows.in_flight:,}"
            )
        if wave.paused_by is not None and idle >= _MAX_IDLE_WAVES:
            raise wave.paused_by

    def _report(self) -> None:
        """Write the manifest, and log the batch's progress."""
        in_order = sorted(self.rows.states.values(), key=lambda state: state.row)
        self.journal.compact(in_order, total=self.rows.total, is_last=self.is_finished)
        self.log.info(progress_line(self.rows, self.places))
        self.on_report()

    def _record(self, state: RowState) -> None:
        self.journal.record(state)
        self._set(state)

    def _set(self, state: RowState) -> None:
        self.rows.set(state)
        self.on_change()

    # Polling ------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        """Poll everything that is in flight, except what the gateway will call back for."""
        now, reported, errors = self._now(), self._reported, 0
        self.known_until = reported.at if reported.is_current(now) else now
        due = [state for state in self.rows.having("sent") if reported.is_due(state, now) or self._is_late(state)]
        for state, outcome in as_completed(or_error(self._get_task), due, threads=self.threads):
            if isinstance(outcome, KirinError):
                self.known_until = 0.0
            if not isinstance(outcome, KirinError):
                errors = 0
                if outcome.is_final:
                    self._record(self._end(state, outcome))
                else:
                    self._check_time(state)
            elif (changed := after_poll_error(state, outcome, self._now())) is None:
                errors += 1
                self._check_time(state, outcome)
                if errors >= UNAVAILABLE_AFTER:
                    self._wave.paused_by = outcome
                    self.log.warning("The gateway does not answer; it is asked again in the next wave: %s", outcome)
                    return
            elif changed is not state:
                self._record(changed)

    def _check_time(self, state: RowState, error: KirinError | None = None) -> None:
        if self._is_late(state):
            self._record(after_timeout(state, error, self._now()))

    def _is_late(self, state: RowState) -> bool:
        now = self._now()
        return now - (state.since or 0.0) >= self.settings.row_timeout or now >= self.deadline

    def _get_task(self, state: RowState) -> KirinTask:
        kirin_task_id = str(state.kirin_task_id)
        kirin_task = self._reported.ended.get(kirin_task_id) or self.client.get_task(
            kirin_task_id, external_task_id=state.external_task_id
        )
        return check_response(kirin_task, kirin_task_id=kirin_task_id)

    def _end(self, state: RowState, kirin_task: KirinTask) -> RowState:
        """Report the end of a generation, and return the state of its row."""
        now, error = self._now(), error_from_task(kirin_task)
        self.client.report("ended", state, error or kirin_task)
        if error is None:
            self._downloads.keep_links(state.key, kirin_task)
        else:
            self.log.warning("Row %s: %s", state.key, error)
        return after_end(state, kirin_task, now)

    # Submitting ---------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Submit rows until all places are taken, the account is full, or nothing is left."""
        self._submit_rows()
        if self._reopen_unknown():
            self._submit_rows()

    def _reopen_unknown(self) -> bool:
        """Return whether unknown rows can be resolved by now: a generation that is known to exist proves the lookup.

        After a crash in the first seconds of a batch there is none; the first row that is accepted is one.
        """
        if self._verified.get(self.settings.conn_id) is False or not any(self.rows.known_generations()):
            return False
        for state in self._candidates.reopen():
            self._record(state)
        return self.rows.count("intent") > 0

    def _submit_rows(self) -> None:
        if not self.has_more or not self._wave.is_open:
            return
        submissions = as_completed(
            lambda row: self._submitter.submit(row, self.rows.get(row.key)),
            self._candidates,
            threads=self.threads,
            may_start=self._may_start,
        )
        for _, (record, outcome) in submissions:
            self._after_submission(record, outcome)
        self._halt(self._candidates.error)

    def _halt(self, error: KirinError | None) -> None:
        """Submit nothing more; if the reason may pass, only until the next wave."""
        # Threads submit the next rows too: one reason is enough.
        if error is None or self.halted is not None:
            return
        if error.retryable:
            self._wave.paused_by = error
        else:
            self.halted = error
        self.log.warning("Nothing more is submitted: %s", error)

    def _may_start(self, running: int) -> bool:
        # The table may have more rows by now than were checked.
        free = min(self.places - self.rows.in_flight, self.rows.left) - running
        return free > 0 and self.may_submit and self._wave.is_open

    def _after_submission(self, record: RowRecord, outcome: Submitted | KirinError) -> None:
        state = record.state
        if isinstance(outcome, Submitted):
            self._wave.add_accepted()
            if record.has_sent:
                self.client.report("submitted", state, outcome.kirin_task)
            if outcome.kirin_task.is_final:
                state = self._end(state, outcome.kirin_task)
        else:
            state = self._after_error(state, outcome)
        if state is not record.state:
            self.journal.record(state)
        if state.version:
            self._set(state)

    def _after_error(self, state: RowState, error: KirinError) -> RowState:
        """Note what a failed submission means for the other rows, and return the state of this one."""
        match scope_of(error):
            case "full":
                self._wave.is_full = True
            case "unavailable" | "halted":
                self._halt(error)
            case "again":
                self._wave.add_transient_error(state, error)
                if self._wave.paused_by is error:
                    self.log.warning("The gateway accepts nothing; it is tried again in the next wave: %s", error)
            case "row":
                self.log.warning("Row %s: %s", state.key, error)
                state = after_rejection(state, error)
                if state.status == "failed" and not isinstance(error, KirinTaskFailedError):
                    self.client.report("ended", state, error)
        return state

    # Storing ------------------------------------------------------------------------------------------------------

    def _store(self) -> bool:
        """Store finished videos for a while; return whether rows should be polled and submitted again."""
        waiting = [state for state in self._downloads.waiting() if state.key not in self._wave.stored]
        failed: list[tuple[RowState, KirinError]] = []
        has_stored = False
        for state, outcome in self._downloads.store(waiting):
            self._wave.stored.add(state.key)
            if isinstance(outcome, KirinError):
                failed.append((state, outcome))
            else:
                has_stored = True
                self._record(after_download(state, outcome))
        is_unavailable = self._wave.add_downloads(failed, has_stored=has_stored, has_more=self.has_more)
        if is_unavailable:
            self.log.warning("Nothing more is submitted until videos can be stored: %s", failed[0][1])
        for state, error in failed:
            if not is_unavailable:
                self.log.warning("Row %s: its video could not be stored: %s", state.key, error)
            self._record(after_download(state, error, is_unavailable=is_unavailable))
        return bool(waiting)
