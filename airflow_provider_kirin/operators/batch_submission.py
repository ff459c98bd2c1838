"""Submit one row of a batch, at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_kirin.api.batch.record import RowRecord
from airflow_provider_kirin.api.batch.row import Row
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.payload import PreparedPayload
from airflow_provider_kirin.api.submission import Submission, Submitted
from airflow_provider_kirin.exceptions import KirinBatchError, KirinDestinationError, KirinError, KirinPayloadError
from airflow_provider_kirin.operators.batch_settings import BatchClient, BatchSettings, QuietLog
from airflow_provider_kirin.state.journal import Journal


class RowSubmitter:
    """Submits rows, or finds what was submitted for them. Its methods run in several threads.

    :param client: calls the gateway
    :param journal: what survives a crash
    :param settings: what the user wants
    :param known_generations: returns pairs of external task id and Kirin task id that belong together
    :param lookup_verified: see :data:`.LOOKUP_VERIFIED`
    :param log: the logger to write to
    :param now: returns the time, in seconds since the epoch
    :param sleep: called with the seconds to wait
    """

    def __init__(
        self,
        client: BatchClient,
        journal: Journal,
        settings: BatchSettings,
        *,
        known_generations: Callable[[], Iterable[tuple[str, str]]],
        lookup_verified: dict[str, bool],
        log: Any,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._client = client
        self._journal = journal
        self._settings = settings
        self._known_generations = known_generations
        self._verified = lookup_verified
        self._log = log
        self._now = now
        self._sleep = sleep

    def submit(self, row: Row, state: RowState | None) -> tuple[RowRecord, Submitted | KirinError]:
        """Submit a row, or adopt what was submitted for it; return what is on record then, and the outcome.

        :param row: the row
        :param state: what is known about it; None for nothing
        :raises KirinError: no row can be submitted: the journal cannot be written, or is another process's now
        """
        state = state or RowState(row.key, row=row.position, digest=row.digest(self._settings.model))
        record = self._record(state, self._journal.head.round)
        try:
            try:
                prepared = self._client.prepare(row)
            except KirinPayloadError:
                # What was, or may have been, submitted before needs no payload.
                record = self._record(state, state.round)
                found = self._submission(record, None, "").find_existing()
                if found is None:
                    raise
                return record, found
            own_id = prepared.params.get("external_task_id")
            external_task_id = own_id or self._client.external_task_id(row, prepared)
            submission = self._submission(record, prepared, external_task_id, is_user_id=bool(own_id))
            return record, submission.submit_or_adopt()
        except (KirinBatchError, KirinDestinationError):
            raise
        except KirinError as error:
            return record, error

    def _record(self, state: RowState, round: int) -> RowRecord:
        head = self._journal.head
        return RowRecord(
            state,
            store=self._journal.record,
            round=round,
            conn_id=self._settings.conn_id,
            model=self._settings.model,
            known=self._known_generations,
            may_be_lost=lambda: head.is_damaged and not self._verified.get(self._settings.conn_id),
            now=self._now,
        )

    def _submission(
        self, record: RowRecord, prepared: PreparedPayload | None, external_task_id: str, *, is_user_id: bool = False
    ) -> Submission:
        return Submission(
            self._client.sender(prepared, record),
            record,
            external_task_id=external_task_id,
            is_user_id=is_user_id,
            model="" if is_user_id else self._settings.model,
            on_unknown_submit=self._settings.on_unknown_submit,
            lookup_verified=self._verified,
            conn_id=self._settings.conn_id,
            capacity_patience=0,
            log=QuietLog(self._log, record.state.key),
            sleep=self._sleep,
        )
