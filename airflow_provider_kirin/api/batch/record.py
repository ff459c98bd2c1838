"""The submission record of one row of a batch: a :class:`~airflow_provider_kirin.api.record.Record` over its state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.record import EarlierSubmission
from airflow_provider_kirin.api.task import KirinTask

#: A submission may have been sent, and its response is not on record.
_UNRESOLVED = ("intent", "unknown")


class RowRecord:
    """What is on record about one row, and what is added to it.

    :param state: what is known about the row
    :param store: stores a state; it returns only when the state would survive a crash
    :param round: the current round of automatic retries
    :param conn_id: the connection that this process uses
    :param model: the model that this process uses
    :param known: returns pairs of external task id and Kirin task id, to verify that the lookup works
    :param may_be_lost: returns whether a submission of this row may have been on record, and be lost
    :param now: returns the time, in seconds since the epoch
    """

    def __init__(
        self,
        state: RowState,
        *,
        store: Callable[[RowState], None],
        round: int,
        conn_id: str,
        model: str,
        known: Callable[[], Iterable[tuple[str, str]]],
        may_be_lost: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self.state = state
        #: The estimated cost of the generation that is being submitted, if there is a budget.
        self.usd: str | None = None
        #: What the generation that is being submitted is ordered with, if that is to be written beside its video.
        self.order: dict[str, Any] | None = None
        #: Whether this process sent the submission.
        self.has_sent = False
        self._store = store
        self._round = round
        self._conn_id = conn_id
        self._model = model
        self._known = known
        self._may_be_lost = may_be_lost
        self._now = now

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation submitted under this external task id, if it is on record."""
        if external_task_id == self.state.external_task_id:
            return self.state.kirin_task_id
        return self.state.earlier.get(external_task_id, {}).get("kirin_task_id")

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return whether an earlier process may have sent a submission whose response is not on record."""
        if self.state.status in _UNRESOLVED and external_task_id == self.state.external_task_id:
            return True
        return not self.state.external_task_id and self._may_be_lost()

    def latest(self) -> EarlierSubmission | None:
        """Return the latest generation of the row that was, or may have been, submitted."""
        state = self.state
        if not state.external_task_id or not (state.kirin_task_id or state.status in _UNRESOLVED):
            return None
        return EarlierSubmission(
            external_task_id=state.external_task_id,
            kirin_task_id=state.kirin_task_id,
            conn_id=state.conn_id,
            model=state.model,
            is_same_round=state.round == self._round,
        )

    def sent_as(self, external_task_id: str) -> str:
        """Return the external task id that this id's payload was really submitted under: usually the same one."""
        state = self.state
        return str(state.external_task_id) if state.sent_as == external_task_id else external_task_id

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Record, before the request is sent, that a submission is about to be sent."""
        state = self.state
        changes = {} if external_task_id == state.external_task_id else state.without_generation()
        self.has_sent = True
        self._change(
            state.to(
                "intent",
                **changes
                | {
                    "external_task_id": external_task_id,
                    "kirin_task_id": None,
                    "sent_as": instead_of,
                    "order": self.order,
                    "conn_id": self._conn_id,
                    "model": self._model,
                    "round": self._round,
                    "code": None,
                    "error": None,
                },
            )
        )

    def clear_intent(self, external_task_id: str) -> None:
        """Record that nothing was accepted."""
        self._change(self.state.to("todo", external_task_id=None, kirin_task_id=None, sent_as=None, order=None))
        self.has_sent = False

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Record the generation that was accepted, or found."""
        state = self.state
        changes = {} if external_task_id == state.external_task_id else state.without_generation()
        since = state.since if state.kirin_task_id == kirin_task_id and state.since else self._now()
        self._change(
            state.to(
                "sent",
                **changes
                | {
                    "external_task_id": external_task_id,
                    "kirin_task_id": kirin_task_id,
                    "conn_id": self._conn_id,
                    "model": state.model or self._model,
                    "round": self._round,
                    "since": since,
                    "usd": self.usd or state.usd,
                    "code": None,
                    "error": None,
                },
            )
        )

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Record that a generation failed, and what it cost."""
        cost = billed_cost(kirin_task)
        entry = {"kirin_task_id": kirin_task.id, "cost": None if cost is None else show_usd(cost)}
        own_cost = None if external_task_id == self.state.external_task_id else self.state.cost
        # Stored together with what follows.
        self.state = replace(self.state, cost=own_cost, earlier={**self.state.earlier, external_task_id: entry})

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return pairs of external task id and Kirin task id that are known to belong together."""
        return self._known()

    def _change(self, state: RowState) -> None:
        self._store(state)
        self.state = state
