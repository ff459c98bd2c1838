"""The interface to a step's submission record, and one that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_kirin.api.task import KirinTask


@dataclass(frozen=True)
class EarlierSubmission:
    """The latest generation that the task instance submitted, or may have submitted.

    :param external_task_id: the external task id it was submitted under
    :param kirin_task_id: the generation's id; None if the response was not recorded
    :param conn_id: the Airflow connection it was submitted through
    :param model: the model; empty if it is not known for certain
    :param is_same_round: whether a try of the current round submitted it
    """

    external_task_id: str
    kirin_task_id: str | None
    conn_id: str
    model: str
    is_same_round: bool

    def __str__(self) -> str:
        if self.kirin_task_id:
            return f"Kirin generation {self.kirin_task_id} (external task id {self.external_task_id})"
        return f"a generation that may exist (external task id {self.external_task_id})"


@dataclass
class InFlight:
    """What may have been sent and is not on record yet, so that a kill can be explained.

    :param external_task_id: of the submission in progress; None if there is none
    """

    external_task_id: str | None = None


class Record(Protocol):
    """What earlier tries of the step recorded, by external task id.

    The bodies are those of :class:`NoRecord`. Others implement all of it without deriving from this, so that mypy finds
    a method that is missing: one that silently keeps nothing could pay twice.
    """

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation submitted under this external task id, if it is on record."""
        return None

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose response is not on record."""
        return False

    def latest(self) -> EarlierSubmission | None:
        """Return the latest generation that was or may have been submitted, if one is on record."""
        return None

    def sent_as(self, external_task_id: str) -> str:
        """Return the external task id that this id's payload was really submitted under: usually the same one."""
        return external_task_id

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Record, before the request is sent, that a submission is about to be sent.

        :param external_task_id: the external task id it is sent under
        :param instead_of: the external task id that the payload would normally be submitted under, if another one
        """
        return

    def clear_intent(self, external_task_id: str) -> None:
        """Record that nothing was accepted."""
        return

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Record the generation that was accepted."""
        return

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Record that a generation failed, and what it cost."""
        return

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return pairs of external task id and Kirin task id that are known to belong together."""
        return ()


class NoRecord(Record):
    """Keeps nothing, for callers without persistent state: only the lookup finds earlier generations."""
