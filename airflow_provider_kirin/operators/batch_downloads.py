"""Store the videos of a batch's finished rows, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from airflow_provider_kirin.api.batch.outcomes import MAX_TRANSIENT_ERRORS
from airflow_provider_kirin.api.batch.rows import Rows
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.download.filenames import key_part, with_hash
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.operators.batch_settings import BatchClient
from airflow_provider_kirin.operators.batch_threads import as_completed, or_error

#: Videos that are stored at the same time.
_THREADS = 4
#: Seconds after which no further download is started: rows are polled and submitted again, places must not stay empty.
_SECONDS = 60.0
#: Seconds for which the links of a poll are used.
_FRESH_SECONDS = 60.0


class RowDownloads:
    """Stores finished videos, by the links of their last poll while these are fresh.

    :param client: stores videos
    :param rows: the states of all rows
    :param now: returns the time, in seconds since the epoch
    """

    def __init__(self, client: BatchClient, rows: Rows, *, now: Callable[[], float]) -> None:
        self._client = client
        self._rows = rows
        self._now = now
        #: Key -> a finished generation with fresh links, and when it was polled.
        self._fresh: dict[str, tuple[KirinTask, float]] = {}
        #: A name in lower case -> the row whose files have it. Some disks take "SKU-a" and "sku-A" for the same name.
        self._named = {
            key_part(state.key).casefold(): state.key
            for state in rows.states.values()
            if state.files and with_hash(state.key) not in state.files[0]
        }

    def keep_links(self, key: str, kirin_task: KirinTask) -> None:
        """Keep the links of a generation that was seen to end just now."""
        self._fresh[key] = kirin_task, self._now()

    def waiting(self) -> list[RowState]:
        """Return the rows whose videos are still to be stored."""
        return [state for state in self._rows.having("done") if state.transient_errors < MAX_TRANSIENT_ERRORS]

    def have_failed(self) -> bool:
        """Return whether videos could not be stored before: they come first, before more rows are paid."""
        return any(state.code for state in self.waiting())

    def store(self, states: Iterable[RowState]) -> Iterator[tuple[RowState, list[VideoFile] | KirinError]]:
        """Yield each row with its files, or why there are none; stop after a while, although rows are left."""
        until = self._now() + _SECONDS
        downloads = as_completed(
            or_error(self._save), states, threads=_THREADS, may_start=lambda running: self._now() < until
        )
        for state, outcome in downloads:
            self._fresh.pop(state.key, None)
            yield state, outcome

    def _save(self, state: RowState) -> list[VideoFile]:
        kirin_task, polled_at = self._fresh.get(state.key, (None, 0.0))
        is_fresh = self._now() - polled_at < _FRESH_SECONDS
        return self._client.save(state, kirin_task if is_fresh else None, file_key=self._file_key(state.key))

    def _file_key(self, key: str) -> str:
        """Return what a row's files are named by: its key, unless the files of another row have that name."""
        return key if self._named.setdefault(key_part(key).casefold(), key) == key else with_hash(key)
