"""Which rows of a batch to submit next."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from airflow_provider_kirin.api.batch.row import Row
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import RowState, is_to_submit
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinTableError, KirinUnknownSubmitError

#: How many rows that were added an error names.
_MAX_NAMED = 5


class RowsHash:
    """A hash of what names a table's rows, in their order: whether they are the same rows, without keeping them.

    :param model: the model's id
    :param by_position: whether rows have no key of their own: then it is all that they have
    """

    def __init__(self, model: str, *, by_position: bool) -> None:
        self._hash = hashlib.sha256()
        self._model = model
        self._by_position = by_position

    def add(self, row: Row) -> None:
        """Add the next row."""
        name = row.digest(self._model) if self._by_position else row.key
        self._hash.update(f"{len(name)}:{name}".encode(errors="surrogatepass"))

    @property
    def value(self) -> str:
        """The hash of the rows so far."""
        return self._hash.hexdigest()


class Candidates:
    """The rows to submit, each at most once a wave.

    :param table: returns the rows of the table, in their order
    :param rows: what is known about them
    :param source: where the rows come from, safe to show
    :param model: the model's id
    :param by_position: whether rows have no key of their own
    """

    def __init__(
        self, table: Callable[[], Iterable[Row]], rows: Rows, *, source: str, model: str, by_position: bool
    ) -> None:
        self._table = table
        self._rows = rows
        self._source = source
        self._model = model
        self._by_position = by_position
        #: How many rows without a state may be yielded: any more were added since.
        self._room = 0
        #: Keys of the rows that were yielded in this wave.
        self._tried: set[str] = set()
        #: Keys of the rows whose outcome was unknown, and which were looked up again.
        self._reopened: set[str] = set()
        #: Whether the table has nothing to submit, although rows are left.
        self.is_exhausted = False
        #: Why the table's rows are not what they were, or cannot be read; nothing is yielded then.
        self.error: KirinTableError | None = None
        #: What a person should know of the table at the end; usually empty.
        self.notice = ""

    def begin_wave(self) -> None:
        """Allow all rows again."""
        self._room = self._rows.total - self._rows.known
        self._tried.clear()
        self.is_exhausted = False
        self.error = None

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the table's order, those that had errors last."""
        for had_errors in (False, True):
            before: Row | None = None
            for row in self._read():
                previous, before = before, row
                state = self._rows.get(row.key)
                if (state is not None and state.transient_errors > 0) is not had_errors or row.key in self._tried:
                    continue
                if _is_new(state) and self._room <= 0:
                    continue
                if not row.problems and is_to_submit(state, self._rows.row_retries):
                    if self._find_misplaced(previous, row):
                        return
                    self._room -= _is_new(state)
                    self._tried.add(row.key)
                    yield row
        self.is_exhausted = not self._tried and self.error is None

    def _read(self) -> Iterator[Row]:
        """Yield the table's rows. It may be gone, although rows of it are in flight, and paid."""
        try:
            yield from self._table() if self.error is None else ()
        except KirinTableError as error:
            self.error = error

    def find_added(self, rows: str) -> int:
        """Return how many rows are left out because others took their place, once as many as there were have a video.

        That is an :attr:`error`. Rows at the table's end, and a table that cannot be read, are only a :attr:`notice`.

        :param rows: the hash of the rows when the batch began
        """
        added: list[str] = []
        before: Row | None = None
        known, is_same = RowsHash(self._model, by_position=self._by_position), False
        try:
            for count, row in enumerate(self._table(), 1):
                known.add(row)
                if count == self._rows.total:
                    is_same = known.value == rows
                state = self._rows.get(row.key)
                if not row.problems and _is_new(state):
                    self._find_misplaced(before)
                    added.append(short_repr(row.key))
                before = row
        except KirinTableError as error:
            self.notice = f"Whether rows have been added since the batch began is unknown: {error}"
            return 0
        if self.error is not None:
            return len(added)
        named = ", ".join(added[:_MAX_NAMED])
        more = f" and {len(added) - _MAX_NAMED:,} more" if len(added) > _MAX_NAMED else ""
        if added and is_same:
            self.notice = f"Added at the end of {self._source}, for the next run or a clear: {named}{more}."
            return 0
        if added:
            self.error = KirinTableError(
                f"{self._source} has changed since the batch began: no more rows are submitted than it had then. "
                f"Left out: {named}{more}."
            )
        return len(added)

    def _find_misplaced(self, *rows: Row | None) -> bool:
        """Return whether one of these rows, known by its position, has other values than when it was submitted.

        Rows that were moved or inserted while the batch runs shift all that follow. So a candidate and the one before
        it show it, and the others need no hash.
        """
        for row in rows:
            state = self._rows.get(row.key) if row and self._by_position else None
            if row and state and state.external_task_id and state.digest != row.digest(self._model):
                self.error = KirinTableError(
                    f"Row {row.position} of {self._source} has changed since the batch began: it is not what was "
                    "submitted as that row. Without `key`, rows are known by their position. Put them back in their "
                    "order first: otherwise rows in another place are paid again."
                )
                return True
        return False

    def reopen(self) -> Iterator[RowState]:
        """Yield new states of unknown rows that a lookup may resolve by now, each row once in a process."""
        for state in self._rows.having("unknown"):
            if state.code == KirinUnknownSubmitError.__name__ and state.key not in self._reopened:
                self._reopened.add(state.key)
                self._tried.discard(state.key)
                self.is_exhausted = False
                yield state.to("intent")


def _is_new(state: RowState | None) -> bool:
    return state is None or state.status == "gone"
