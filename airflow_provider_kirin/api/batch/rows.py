"""The states of all rows of a batch, and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

from airflow_provider_kirin.api.batch.state import RANK, RowState, Status, is_to_submit


class Rows:
    """The states of all rows, and their sums.

    :param states: the states that are known
    :param total: the number of rows in the table
    :param row_retries: how many further generations a row gets after one that failed
    """

    def __init__(self, states: Mapping[str, RowState], *, total: int, row_retries: int) -> None:
        self.states = dict(states)
        self.total = total
        self.row_retries = row_retries
        self._counts = Counter(state.status for state in self.states.values())
        self._again = sum(self.is_again(state) for state in self.states.values())

    def get(self, key: str) -> RowState | None:
        """Return the state of a row; None if nothing is known about it."""
        return self.states.get(key)

    def set(self, state: RowState) -> None:
        """Replace the state of a row."""
        if (known := self.states.get(state.key)) is not None:
            self._counts[known.status] -= 1
            self._again -= self.is_again(known)
        self._counts[state.status] += 1
        self._again += self.is_again(state)
        self.states[state.key] = state

    def is_again(self, state: RowState) -> bool:
        """Return whether a row that failed is to be submitted again."""
        return state.status == "failed" and is_to_submit(state, self.row_retries)

    def count(self, *statuses: Status) -> int:
        """Return how many rows are in one of these states."""
        return sum(self._counts[status] for status in statuses)

    def having(self, *statuses: Status) -> list[RowState]:
        """Return the rows in one of these states."""
        return [state for state in self.states.values() if state.status in statuses]

    @property
    def known(self) -> int:
        """How many of the rows that were there when the round began have a state."""
        return len(self.states) - self.count("gone")

    @property
    def in_flight(self) -> int:
        """How many rows hold one of the account's places, or may."""
        return self.count("sent")

    @property
    def left(self) -> int:
        """How many rows are to be submitted."""
        known = self.count("sent", "done", "saved", "failed", "refused", "unknown", "timeout")
        return max(self.total - known, 0) + self._again

    @property
    def failed(self) -> int:
        """How many rows have ended without a video."""
        return self.count("failed", "refused", "unknown", "timeout") - self._again

    @property
    def cost(self) -> Decimal:
        """US dollars, as far as they are known."""
        return sum((state.money for state in self.states.values()), Decimal(0))

    def counts(self) -> dict[str, int]:
        """Return the number of rows by state, without those that have none."""
        counts = {
            status: self._counts[status] for status in RANK if self._counts[status] and status not in ("todo", "gone")
        }
        left = self.total - sum(counts.values())
        return {"todo": left, **counts} if left > 0 else counts

    def known_generations(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of external task id and Kirin task id that belong together."""
        # A copy: rows are submitted in threads.
        for state in list(self.states.values()):
            if state.external_task_id and state.kirin_task_id:
                yield state.external_task_id, state.kirin_task_id
