"""A file that appears under its name only when it is whole, on whatever storage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from airflow_provider_kirin.api.redaction import one_line, redact_url
from airflow_provider_kirin.download.storage import OBJECT_STORES
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError

#: Bytes that are collected for one part of an upload. The libraries' own 50 MiB would be held twice.
_PART = 8 * 1024 * 1024
_FINAL = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)


class AtomicFile(Protocol):
    """A file on its way.

    :param size: bytes written so far
    """

    size: int

    def write(self, data: bytes) -> None:
        """Append."""

    def commit(self) -> None:
        """Show the file under its name, in the place of an older one."""

    def discard(self) -> None:
        """Throw away what was written; writing may begin anew."""


@contextlib.contextmanager
def open_atomic(path: Any) -> Iterator[AtomicFile]:
    """Begin a file; it is discarded unless it was committed.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    file: AtomicFile
    if isinstance(path, Path):
        file = _LocalFile(path)
    else:
        file = _Object(path) if path.protocol in OBJECT_STORES else _FsspecFile(path)
    try:
        yield file
    finally:
        file.discard()


@contextlib.contextmanager
def storage_errors(path: Any, doing: str = "written") -> Iterator[None]:
    """Turn whatever a storage raises into one error that names the place.

    :param path: where
    :param doing: what was tried
    """
    try:
        yield
    except KirinError:
        raise
    except Exception as error:
        why = one_line(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
        raise KirinDestinationError(
            f"destination = {redact_url(str(path))} cannot be {doing}: {why}. Check the path, the storage's Airflow "
            "connection and its permissions; the video is not lost, and downloading again is free.",
            retryable=not isinstance(error, _FINAL),
        ) from error


def size_of(path: Any) -> int | None:
    """Return the length of a file in bytes, None where there is none.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    with storage_errors(path, "looked at"):
        try:
            return path.stat().st_size if isinstance(path, Path) else path.fs.info(path.path)["size"]
        except (FileNotFoundError, NotADirectoryError):
            return None


def first_bytes(path: Any, count: int) -> bytes:
    """Return how a file begins.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    :param count: bytes at most
    """
    with storage_errors(path, "read"):
        if isinstance(path, Path):
            with path.open("rb") as file:
                return file.read(count)
        found: bytes = path.fs.cat_file(path.path, start=0, end=count)
        return found


def file_exists_error(path: Any) -> KirinDestinationError:
    """Return the error for a file that may not be replaced.

    :param path: where
    """
    return KirinDestinationError(
        f"{redact_url(str(path))} is there already, and overwriting was not allowed (overwrite=False)."
    )


class _BaseFile:
    """What the three kinds of storage have in common."""

    def __init__(self, path: Any) -> None:
        self.path = path
        self.size = 0
        self._file: Any = None

    def write(self, data: bytes) -> None:
        with self._all_or_nothing():
            if self._file is None:
                self._file = self._open()
            self._file.write(data)
        self.size += len(data)

    def commit(self) -> None:
        with self._all_or_nothing():
            self._show()
        self._file = None

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """After a failure nobody knows how much was written: nothing may be appended to it."""
        try:
            with storage_errors(self.path):
                yield
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        file, self._file, self.size = self._file, None, 0
        if file is not None:
            # What went wrong before is the error to tell.
            with contextlib.suppress(Exception):
                self._remove(file)

    def _open(self) -> Any:
        raise NotImplementedError

    def _show(self) -> None:
        raise NotImplementedError

    def _remove(self, file: Any) -> None:
        raise NotImplementedError


class _LocalFile(_BaseFile):
    """Written under a hidden name beside the final one, then renamed."""

    path: Path

    def _open(self) -> BinaryIO:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self.path.with_name(_hidden(self.path.name))
        return self._part.open("wb")

    def _show(self) -> None:
        self._file.close()
        self._part.replace(self.path)

    def _remove(self, file: Any) -> None:
        try:
            file.close()
        finally:
            self._part.unlink(missing_ok=True)


class _FsspecFile(_BaseFile):
    """The same on a file system that fsspec knows: SFTP, HDFS, SMB..."""

    def _open(self) -> Any:
        fs, where = self.path.fs, str(self.path.path)
        folder, slash, name = where.rpartition("/")
        if folder:
            fs.makedirs(folder, exist_ok=True)
        self._part = f"{folder}{slash}{_hidden(name)}"
        return fs.open(self._part, "wb")

    def _show(self) -> None:
        fs, where = self.path.fs, self.path.path
        self._file.close()
        try:
            fs.mv(self._part, where)
        except OSError:
            # Not every file system renames onto a file that is there.
            if not fs.exists(where):
                raise
            fs.rm_file(where)
            fs.mv(self._part, where)

    def _remove(self, file: Any) -> None:
        try:
            file.close()
        finally:
            if self.path.fs.exists(self._part):
                self.path.fs.rm_file(self._part)


class _Object(_BaseFile):
    """Uploaded in parts. The store shows the object when the upload is completed, which closing the file does."""

    def _open(self) -> Any:
        # Not through path.open(), which would note each single write as lineage.
        return self.path.fs.open(self.path.path, "wb", block_size=_PART)

    def _show(self) -> None:
        self._file.close()

    def _remove(self, file: Any) -> None:
        try:
            file.discard()
        finally:
            # Or it would complete the upload when it is closed, or merely forgotten.
            file.closed = True


def _hidden(name: str) -> str:
    return f".{name}.{time.time_ns():x}.part"
