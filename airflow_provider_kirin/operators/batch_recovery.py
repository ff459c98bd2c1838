"""Take a batch over from the process that worked on it before, and check its table once a round."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from airflow_provider_kirin.api.batch.candidates import RowsHash
from airflow_provider_kirin.api.batch.row import BadRows, Row, check_row
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import RowState, at_new_round, at_new_try, refused
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS
from airflow_provider_kirin.exceptions import KirinBatchError
from airflow_provider_kirin.operators.batch_settings import BatchSettings
from airflow_provider_kirin.state.journal import Head, Journal


class BatchRecovery:
    """Finds out what earlier processes left. See :class:`.BatchRun` for the parameters."""

    def __init__(
        self,
        journal: Journal,
        table: Callable[[], Iterable[Row]],
        settings: BatchSettings,
        *,
        log: Any,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._journal = journal
        self._table = table
        self._settings = settings
        self._log = log
        self._now = now
        self._sleep = sleep

    def open(self, *, batch: str, try_number: int, round: int, may_be_lost: bool) -> Rows:
        """Take the batch over from the process that worked on it before, whatever happened to it.

        :param batch: the batch's identity: the same in every process
        :param try_number: of this process; a process with a smaller one stops
        :param round: the round of automatic retries
        :param may_be_lost: whether there was a journal before, if there is none now
        :raises KirinTableError: the table cannot be used; nothing was sent
        :raises SupersededError: a newer try works on the batch
        """
        known = self._journal.read_head()
        if known is not None and known.batch != batch:
            if known.round == round:
                self._refuse_to_replace(known)
            text = "The journal in %s is of another batch (another `take`, say), and is replaced."
            self._log.info(text, self._journal.folder)
        same = known if known is not None and known.batch == batch else None
        is_new_round = same is None or same.round != round
        head = Head(
            batch,
            owner=self._journal.owner,
            try_number=try_number,
            round=round,
            started_at=self._now() if same is None or is_new_round else same.started_at,
            rows=None if same is None or is_new_round else same.rows,
            rows_hash="" if same is None or is_new_round else same.rows_hash,
            recorded=0 if same is None else same.recorded,
            target=0 if same is None or is_new_round else same.target,
            # Another try has its own patience.
            idle_waves=0 if same is None or same.try_number != try_number else same.idle_waves,
            unstored=0 if same is None else same.unstored,
            is_damaged=may_be_lost if known is None else same is not None and same.is_damaged,
        )
        states, damaged = self._journal.take_over(head)
        if damaged:
            self._log.warning("%s records of the journal in %s cannot be read.", f"{damaged:,}", self._journal.folder)
        if damaged or head.is_damaged:
            self._look_up_what_is_lost(replace(head, is_damaged=True), is_new=not head.is_damaged or known is None)
        if same is None or same.try_number != try_number:
            changed = [state for before in states.values() if (state := at_new_try(before)) is not before]
            if changed:
                self._journal.record(*changed)
            states |= {state.key: state for state in changed}
        return self._check_table(states)

    def _refuse_to_replace(self, known: Head) -> None:
        """Keep a retry from paying again for what earlier tries submitted as another batch.

        :param known: the earlier tries' batch
        """
        states, _ = self._journal.read_states(known)
        if submitted := [state for state in states.values() if state.external_task_id]:
            raise KirinBatchError(
                f"Earlier tries of this task submitted {len(submitted):,} rows with another `take`, connection or "
                f"namespace; see {self._journal.manifest_uri}. A retry never pays again, so nothing was submitted. "
                "Switch back, or clear the task to submit all rows anew."
            )

    def _look_up_what_is_lost(self, head: Head, *, is_new: bool) -> None:
        self._journal.write_head(head)
        if is_new:
            self._log.warning(
                "The journal in %s is missing or damaged. Rows that are not on record are looked up before they are "
                "submitted: that costs time, and no money.",
                self._journal.folder,
            )
            # What an earlier process submitted last may not show at once.
            self._sleep(sum(LOOKUP_RETRY_DELAYS))

    def _check_table(self, states: dict[str, RowState]) -> Rows:
        """Check all rows, once a round, before anything is paid."""
        head = self._journal.head
        if head.rows is not None:
            return Rows(states, total=head.rows, row_retries=self._settings.row_retries)
        bad, total, found = BadRows(by_position=self._settings.by_position), 0, dict[str, RowState]()
        rows = RowsHash(self._settings.model, by_position=self._settings.by_position)
        for row in self._table():
            total += 1
            rows.add(row)
            checked = check_row(row, self._settings.model, allow_unknown_model=self._settings.allow_unknown_model)
            state = states.pop(row.key, None)
            if state is not None:
                state = replace(at_new_round(state, row.digest(self._settings.model)), row=row.position)
                found[row.key] = state
            if checked.problems:
                bad.add(checked)
                if state is None or state.status == "todo":
                    found[row.key] = refused(state or RowState(row.key, row=row.position), checked.problems)
        if bad.count and self._settings.on_bad_row == "error":
            has_submitted = any(state.external_task_id for state in (*found.values(), *states.values()))
            raise bad.error(
                total, source=self._settings.source, model=self._settings.model, has_submitted=has_submitted
            )
        if bad.count:
            text = '%s of the %s rows break a rule.%s on_bad_row="skip" continues without them:'
            self._log.warning(text, f"{bad.count:,}", f"{total:,}", bad.key_hint)
            for line in bad.lines():
                self._log.warning("  %s", line)
        if states:
            self._log.warning(
                "%s rows of the earlier table are not in this one any more. Their videos stay where they are, and what "
                "is in flight is not stored. The manifest keeps the ids of their generations.",
                f"{len(states):,}",
            )
            submitted = (state for state in states.values() if state.external_task_id or state.earlier)
            found |= {state.key: state.to("gone") for state in submitted}
        self._journal.compact(found.values(), total=total, is_last=True)
        self._journal.write_head(replace(self._journal.head, rows=total, rows_hash=rows.value))
        return Rows(found, total=total, row_retries=self._settings.row_retries)
