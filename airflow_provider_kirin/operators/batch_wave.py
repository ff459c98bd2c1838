"""What has happened in one wave of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError

#: Consecutive rows that fail for a reason that may pass, after which the gateway, or the destination, counts as
#: unavailable.
UNAVAILABLE_AFTER = 3


@dataclass
class Wave:
    """What has happened in the current wave, of which a new one knows nothing but ``unstored``."""

    #: Rows whose videos could not be stored, since the last one that could.
    unstored: int = 0
    submitted: int = 0
    is_full: bool = False
    #: Why nothing more is submitted before the next wave.
    paused_by: KirinError | None = None
    #: Rows that could not be submitted for a reason that may pass, and how many since the last one that was accepted.
    transient_errors: list[tuple[RowState, KirinError]] = field(default_factory=list)
    in_a_row: int = 0
    #: Rows whose download was tried in this wave.
    stored: set[str] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether the gateway may accept another row."""
        return not self.is_full and self.paused_by is None

    def add_accepted(self) -> None:
        """Count a row that was submitted, or adopted."""
        self.submitted += 1
        self.in_a_row = 0

    def add_transient_error(self, state: RowState, error: KirinError) -> None:
        """Keep a row's error, which may pass. After several in a row, the gateway counts as unavailable."""
        self.transient_errors.append((state, error))
        self.in_a_row += 1
        if self.in_a_row >= UNAVAILABLE_AFTER:
            self.paused_by = error

    def add_downloads(self, failed: Sequence[tuple[RowState, KirinError]], *, has_stored: bool, has_more: bool) -> bool:
        """Return whether the destination counts as unavailable: then nothing is submitted before the next wave.

        Rows may end one by one, and each wave see one of them fail: so the count goes on from wave to wave.

        :param failed: the rows whose videos could not be stored, as they were before, and why
        :param has_stored: whether others could
        :param has_more: whether rows are left to be paid; without any, a final error is each row's own
        """
        if has_stored:
            self.unstored = 0
            return False
        refused = [state for state, error in failed if isinstance(error, KirinDestinationError)]
        # A row that is tried again is counted already.
        self.unstored += sum(state.code != KirinDestinationError.__name__ for state in refused)
        is_unavailable = (
            max(self.unstored, len(refused)) >= UNAVAILABLE_AFTER
            and 0 < len(refused) == len(failed)
            and all(has_more or error.retryable for _, error in failed)
        )
        if is_unavailable:
            # The next try stores what this one could not: these rows are paid.
            self.paused_by = KirinDestinationError(failed[0][1].message, retryable=True)
        return is_unavailable
