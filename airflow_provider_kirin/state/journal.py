"""What a batch keeps beside its videos: the state of each row, so that the next process submits only what is missing.

::

    manifest.jsonl             a line for each row; replaced as a whole, and current after each wave
    _journal/head.json         who works on the batch, since when, and in which round of retries
    _journal/000001-ab12.jsonl what has changed since the manifest was written

Object storage cannot append, so each change is a small file of its own; several threads that record at the same time
share one. Files hold states, not differences, and each state has a version: they can be read in any order, or twice.
What is lost or damaged costs lookups. It does not cost money, because external task ids do not depend on it.

Nothing in these files is a secret: no signed URL, no key, no image; and no payload but, for the files beside the
videos, what a row was ordered with, until its video is stored.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, get_type_hints

from airflow_provider_kirin.api.batch.state import SCHEMA_VERSION, RowState, merge
from airflow_provider_kirin.api.sanitize import has_type
from airflow_provider_kirin.download.atomic_file import open_atomic, storage_errors, uri_of
from airflow_provider_kirin.download.storage import as_path
from airflow_provider_kirin.exceptions import KirinBatchError, KirinDestinationError

MANIFEST = "manifest.jsonl"
FOLDER = "_journal"
_HEAD = f"{FOLDER}/head.json"
#: This many files of changes may wait to be merged into the manifest of a large batch.
_MAX_SEGMENTS = 64
#: The manifest of a large batch is written when at least this share of its rows has changed.
_WORTH_A_MANIFEST = 0.01


@dataclass(frozen=True)
class Head:
    """What is known about the batch as a whole.

    :param batch: the batch's identity
    :param owner: the process that works on it
    :param try_number: that process's try
    :param round: the round of automatic retries
    :param started_at: when the round began, in seconds since the epoch
    :param rows: the number of rows in the table; None before they have been checked in this round
    :param rows_hash: see :class:`.RowsHash`
    :param recorded: the number of rows in the manifest
    :param target: how many generations may be in flight; 0 for the most that is allowed
    :param idle_waves: consecutive waves in which nothing could be submitted
    :param unstored: rows whose videos could not be stored, since the last one that could
    :param is_damaged: whether a part of the journal was lost
    """

    batch: str
    owner: str = ""
    try_number: int = 0
    round: int = 0
    started_at: float = 0.0
    rows: int | None = None
    rows_hash: str = ""
    recorded: int = 0
    target: int = 0
    idle_waves: int = 0
    unstored: int = 0
    is_damaged: bool = False


_HEAD_TYPES = get_type_hints(Head)


class SupersededError(KirinBatchError):
    """Another process works on the batch now."""

    def __init__(self) -> None:
        super().__init__(
            "A newer try of this task works on the batch; this one stops, and submits nothing more.", retryable=True
        )


class Journal:
    """The journal of one batch.

    :param folder: the URI or path of the batch's folder
    :param owner: names this process; different for each
    :param has_begun: whether an earlier process has written it
    """

    def __init__(self, folder: str, *, owner: str, has_begun: bool = False) -> None:
        self.folder = folder.rstrip("/")
        self.owner = owner
        self._has_begun = has_begun
        self.head = Head("")
        self._segments: list[str] = []
        self._number = 0
        self._changes = 0
        self._queue: list[RowState] = []
        self._queued = self._written = 0
        self._queueing, self._writing = threading.Lock(), threading.Lock()

    @property
    def manifest_uri(self) -> str:
        """The URI of the manifest."""
        return uri_of(as_path(f"{self.folder}/{MANIFEST}"))

    def read_head(self) -> Head | None:
        """Return what is known about the batch as a whole; None if there is nothing, or it cannot be read.

        :raises KirinDestinationError: the storage cannot be read
        """
        with self._opened(_HEAD) as file:
            content = file.read()
        try:
            entry = json.loads(content or b"null")
        except ValueError:
            return None
        known = {name: entry[name] for name in _HEAD_TYPES if name in entry} if isinstance(entry, dict) else {}
        if not known.get("batch") or not all(has_type(value, _HEAD_TYPES[name]) for name, value in known.items()):
            return None
        return Head(**known)

    def is_begun(self) -> bool:
        """Return whether a row was, or may have been, submitted by an earlier process.

        :raises KirinDestinationError: the storage cannot be read
        """
        head, (states, damaged) = self.read_head(), self._read_lines(MANIFEST, "")
        is_lost = head is not None and head.recorded > len(states)
        return bool(self._list() or damaged or is_lost or any(state.external_task_id for state in states))

    def take_over(self, head: Head) -> tuple[dict[str, RowState], int]:
        """Become the one process that works on the batch; return the states of its rows, and how many were lost.

        :param head: what the batch continues with
        :raises SupersededError: a newer try has taken it over
        """
        current = self.read_head()
        if current is not None and current.batch == head.batch and current.try_number > head.try_number:
            raise SupersededError
        # In this order: an earlier owner writes its intent before it reads the head.
        self._replace_head(head)
        # Without a head, nothing says whose rows these are: they are ours rather than paid again.
        return self.read_states(head if current is not None else replace(head, batch=""))

    def peek(self) -> dict[str, RowState]:
        """Return the states of all rows, by key, for a process that does not work on the batch."""
        return self.read_states(self.read_head() or Head(""))[0]

    def read_states(self, head: Head) -> tuple[dict[str, RowState], int]:
        """Return the states of all rows, by key, and how many records of them were lost.

        :param head: of the batch: what another batch left in this folder is not read
        """
        self._segments = self._list()
        self._number = max((int(name.partition("-")[0]) for name in self._segments), default=0)
        states, damaged = self._read_lines(MANIFEST, head.batch)
        lost = max(head.recorded - len(states), 0)
        self._changes = 0
        for name in self._segments:
            changes, unreadable = self._read_lines(f"{FOLDER}/{name}", head.batch)
            states += changes
            self._changes += len(changes)
            damaged += unreadable
        return merge(states), max(damaged, lost)

    def write_head(self, head: Head) -> None:
        """Replace what is known about the batch as a whole.

        :raises SupersededError: another process has taken the batch over
        """
        self.check_owner()
        self._replace_head(head)

    def _replace_head(self, head: Head) -> None:
        self.head = head
        self._write(_HEAD, json.dumps({"schema_version": SCHEMA_VERSION, **asdict(head)}, indent=1))

    def check_owner(self) -> None:
        """Check that no other process has taken the batch over.

        :raises SupersededError: one has
        """
        current = self.read_head()
        if current is not None and current.owner != self.owner:
            raise SupersededError

    def record(self, *states: RowState) -> None:
        """Store states of rows. When this returns, they are stored, and this process still owned the batch.

        Threads that record at the same time share a file: the first one writes for all that wait.

        :param states: the new states
        :raises SupersededError: another process has taken the batch over; it knows of this state, or comes first
        """
        with self._queueing:
            self._queue += states
            self._queued += 1
            ticket = self._queued
        with self._writing:
            if self._written >= ticket:
                return
            with self._queueing:
                batch, last = self._queue, self._queued
                self._queue = []
            try:
                self._write_segment(batch)
                # In this order: a process that takes over writes the head before it reads the segments.
                self.check_owner()
            except BaseException:
                with self._queueing:
                    self._queue = batch + self._queue
                raise
            self._written = last

    def _write_segment(self, states: Iterable[RowState]) -> None:
        lines = [_line(state, self.head.batch) for state in states]
        name = f"{self._number + 1:06}-{self.owner}.jsonl"
        self._write(f"{FOLDER}/{name}", "".join(lines))
        self._number += 1
        self._segments.append(name)
        self._changes += len(lines)

    def compact(self, states: Iterable[RowState], *, total: int, is_last: bool = False) -> None:
        """Write the manifest, if enough has changed, and delete what it replaces.

        :param states: the states of all rows, in the order of the manifest
        :param total: the number of rows in the table
        :param is_last: whether it has to be current
        """
        is_little = self._changes < total * _WORTH_A_MANIFEST and len(self._segments) < _MAX_SEGMENTS
        if is_little and not is_last:
            return
        self.check_owner()
        count = 0

        def lines() -> Iterator[str]:
            nonlocal count
            for state in states:
                count += 1
                yield _line(state, self.head.batch)

        self._write(MANIFEST, lines())
        self.write_head(replace(self.head, recorded=count))
        for name in self._segments:
            # What stays is read again, and changes nothing.
            with contextlib.suppress(Exception):
                self._delete(f"{FOLDER}/{name}")
        self._segments, self._changes = [], 0

    def _read_lines(self, name: str, batch: str) -> tuple[list[RowState], int]:
        """Return the states of a batch (of any, if it is empty) in a file, and how many of its lines cannot be read."""
        states, damaged = [], 0
        # One line at a time: a manifest may have a hundred megabytes.
        with self._opened(name) as file:
            for line in file:
                if not line.strip():
                    continue
                entry = _parse(line.decode(errors="replace"))
                state = RowState.from_dict(entry)
                if state is None:
                    damaged += 1
                elif not batch or entry["batch"] == batch:
                    states.append(state)
        return states, damaged

    @contextlib.contextmanager
    def _path(self, name: str) -> Iterator[Any]:
        """Yield the path of one of the batch's files.

        :raises KirinDestinationError: retryable if it could be written before: that is an outage, and rows are paid
        """
        try:
            yield as_path(f"{self.folder}/{name}")
        except KirinDestinationError as error:
            raise KirinDestinationError(error.message, retryable=error.retryable or self._has_begun) from error

    def _list(self) -> list[str]:
        """Return the names of the files of changes, oldest first."""
        with self._path(FOLDER) as path, storage_errors(path, "read"):
            try:
                if isinstance(path, Path):
                    names = [entry.name for entry in path.iterdir()]
                else:
                    # Libraries keep listings, and other processes write.
                    path.fs.invalidate_cache()
                    names = [str(name).rpartition("/")[2] for name in path.fs.ls(path.path, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(name for name in names if name.endswith(".jsonl") and name.partition("-")[0].isdecimal())

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        """Open a file; one that does not exist is empty."""
        with self._path(name) as path, storage_errors(path, "read"), contextlib.ExitStack() as stack:
            try:
                # An object is read at once: the size that a library keeps of one that was replaced is the old one, and
                # parts of two versions make no file.
                is_local = isinstance(path, Path)
                file = stack.enter_context(path.open("rb")) if is_local else io.BytesIO(path.fs.cat_file(path.path))
            except FileNotFoundError:
                file = io.BytesIO()
            yield file

    def _write(self, name: str, content: str | Iterable[str]) -> None:
        with self._path(name) as path, open_atomic(path) as file:
            file.write(b"")
            for part in [content] if isinstance(content, str) else content:
                file.write(part.encode(errors="replace"))
            file.commit()
        self._has_begun = True

    def _delete(self, name: str) -> None:
        path = as_path(f"{self.folder}/{name}")
        if isinstance(path, Path):
            path.unlink(missing_ok=True)
        else:
            path.fs.rm_file(path.path)


def _parse(line: str) -> Any:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and "batch" in entry else None


def _line(state: RowState, batch: str) -> str:
    return json.dumps({**state.to_dict(), "batch": batch}, ensure_ascii=False) + "\n"
