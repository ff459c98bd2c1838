"""Which rows of a batch to submit next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_kirin.api.batch.row import Row
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import RowState, is_to_submit
from airflow_provider_kirin.exceptions import KirinUnknownSubmitError


class Candidates:
    """The rows to submit, each at most once a wave.

    :param table: returns the rows of the table, in their order
    :param rows: what is known about them
    :param model: the model's id
    :param by_position: whether rows have no key of their own
    """

    def __init__(self, table: Callable[[], Iterable[Row]], rows: Rows, *, model: str, by_position: bool) -> None:
        self._table = table
        self._rows = rows
        self._model = model
        self._by_position = by_position
        #: Keys of the rows that were yielded in this wave.
        self._tried: set[str] = set()
        #: Keys of the rows whose outcome was unknown, and which were looked up again.
        self._reopened: set[str] = set()
        #: Whether the table has nothing to submit, although rows are left.
        self.is_exhausted = False
        #: A row without a key of its own that is in the place of another one, after which nothing is yielded.
        self.misplaced: Row | None = None

    def begin_wave(self) -> None:
        """Allow all rows again."""
        self._tried.clear()
        self.is_exhausted = False

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the table's order, those that had errors last."""
        for had_errors in (False, True):
            before: Row | None = None
            for row in self._table():
                previous, before = before, row
                state = self._rows.get(row.key)
                if (state is not None and state.transient_errors > 0) is not had_errors or row.key in self._tried:
                    continue
                if not row.problems and is_to_submit(state, self._rows.row_retries):
                    self.misplaced = next((each for each in (previous, row) if each and self._is_misplaced(each)), None)
                    if self.misplaced is not None:
                        return
                    self._tried.add(row.key)
                    yield row
        self.is_exhausted = not self._tried

    def _is_misplaced(self, row: Row) -> bool:
        """Return whether a row known by its position has other values than when it was submitted.

        Rows that were moved or inserted while the batch runs shift all that follow. So a candidate and the one before
        it show it, and the others need no hash.
        """
        state = self._rows.get(row.key) if self._by_position else None
        if state is None or state.external_task_id is None:
            return False
        return state.digest != row.digest(self._model)

    def reopen(self) -> Iterator[RowState]:
        """Yield new states of unknown rows that a lookup may resolve by now, each row once in a process."""
        for state in self._rows.having("unknown"):
            if state.code == KirinUnknownSubmitError.__name__ and state.key not in self._reopened:
                self._reopened.add(state.key)
                self._tried.discard(state.key)
                self.is_exhausted = False
                yield state.to("intent")
