"""What a step has to remember of its purchases, whoever keeps it: the interface, and a record that keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_kirin.api.task import KirinTask


@dataclass(frozen=True)
class EarlierSubmission:
    """What the task instance bought last, or may have bought.

    :param external_task_id: the external task id it was submitted under
    :param kirin_task_id: the generation; None if the answer is not on record
    :param conn_id: the connection
    :param model: the model; empty if that is not known for sure
    :param is_same_round: whether a try of the present round did it
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


class Record(Protocol):
    """What is known of earlier tries of the step, by external task id."""

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation that was bought under this external task id, if that is on record."""

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose answer is not on record."""

    def latest(self) -> EarlierSubmission | None:
        """Return what was bought last, or may have been bought, if that is on record."""

    def sent_as(self, external_task_id: str) -> str:
        """Return the external task id under which this one's payload was submitted: as a rule the same."""

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Remember, before it is sent, that a submission is about to be sent, maybe in place of another id's."""

    def clear_intent(self, external_task_id: str) -> None:
        """Remember that nothing was accepted."""

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember what was accepted."""

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Remember a generation that failed: it may have cost something."""

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return pairs of external task id and Kirin task id that are known to belong together."""


class NoRecord:
    """A record of nothing: what does not outlive its process, and only the look-up tells what there is."""

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return nothing."""
        return None

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return that nothing was sent."""
        return False

    def latest(self) -> EarlierSubmission | None:
        """Return nothing."""
        return None

    def sent_as(self, external_task_id: str) -> str:
        """Return the same."""
        return external_task_id

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Remember nothing."""

    def clear_intent(self, external_task_id: str) -> None:
        """Remember nothing."""

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember nothing."""

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Remember nothing."""

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return nothing."""
        return ()
