"""A file that becomes visible under its name only when it is complete, on any storage."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote

from airflow_provider_kirin.api.redaction import one_line, redact_url
from airflow_provider_kirin.download.storage import OBJECT_STORES, URI_PATH
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError

#: Bytes buffered for a part of an upload, or a read. The libraries' default of 50 MiB would be held in memory twice.
_PART = 8 * 1024 * 1024
#: Bytes per read.
_CHUNK = 1024 * 1024
_FINAL = (PermissionError, NotADirectoryError, IsADirectoryError)


class AtomicFile(Protocol):
    """A file being written.

    :param size: bytes written so far
    """

    size: int

    def write(self, data: bytes) -> None:
        """Append data."""

    def commit(self) -> None:
        """Publish the file under its name, replacing an existing one."""

    def discard(self) -> None:
        """Delete what was written so far; writing may start again from the beginning."""


@contextlib.contextmanager
def open_atomic(path: Any) -> Iterator[AtomicFile]:
    """Open a file for writing; it is discarded unless it is committed.

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
    """Convert whatever a storage raises into one error that names the path.

    :param path: for the message
    :param doing: the failed action as a participle, for the message
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
            retryable=not (isinstance(error, _FINAL) or _is_without_bucket(path, error)),
        ) from error


def _is_without_bucket(path: Any, error: Exception) -> bool:
    """Return whether what is missing is a bucket, which is not created. A folder that was deleted meanwhile is."""
    return isinstance(error, FileNotFoundError) and getattr(path, "protocol", None) in OBJECT_STORES


def size_of(path: Any) -> int | None:
    """Return the length of a file in bytes, None if it does not exist.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    with storage_errors(path, "inspected"):
        try:
            return path.stat().st_size if isinstance(path, Path) else path.fs.info(path.path)["size"]
        except (FileNotFoundError, NotADirectoryError):
            return None


def first_bytes(path: Any, count: int) -> bytes:
    """Return the first bytes of a file.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    :param count: bytes at most
    """
    with storage_errors(path, "read"):
        if isinstance(path, Path):
            with path.open("rb") as file:
                return file.read(count)
        head: bytes = path.fs.cat_file(path.path, start=0, end=count)
        return head


def open_to_read(path: Any) -> BinaryIO:
    """Open a file for reading.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    # Not through ObjectStoragePath.open(), which would report every single read as lineage.
    opened: BinaryIO = path.open("rb") if isinstance(path, Path) else path.fs.open(path.path, "rb", block_size=_PART)
    return opened


def read_chunks(path: Any) -> Iterator[bytes]:
    """Yield a file's content in parts.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    with storage_errors(path, "read"), open_to_read(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def uri_of(path: Any) -> str:
    """Return a file's URI, with the Airflow connection that opens it.

    A local path is escaped no more than a URI requires: ObjectStoragePath does not decode, and run ids have colons.

    :param path: from :func:`airflow_provider_kirin.download.storage.as_path`
    """
    if not isinstance(path, Path):
        return str(path)
    return f"file://{quote(os.fsencode(path.absolute()), safe=URI_PATH)}"


def file_exists_error(path: Any) -> KirinDestinationError:
    """Return the error for an existing file that must not be replaced."""
    return KirinDestinationError(
        f"{redact_url(str(path))} already exists, and overwriting is not allowed (overwrite=False)."
    )


class _BaseFile:
    """What the three implementations have in common."""

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
        """Discard the file on failure: it is unknown how much was written, so nothing can be appended."""
        try:
            with storage_errors(self.path):
                yield
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        file, self._file, self.size = self._file, None, 0
        if file is not None:
            # The original error is the one to report.
            with contextlib.suppress(Exception):
                self._remove(file)

    def _open(self) -> Any:
        raise NotImplementedError

    def _show(self) -> None:
        raise NotImplementedError

    def _remove(self, file: Any) -> None:
        raise NotImplementedError


class _LocalFile(_BaseFile):
    """Written under a hidden name in the same folder, then renamed."""

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
    """The same on a file system that fsspec supports: SFTP, HDFS, SMB..."""

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
            # Not every file system can rename onto an existing file.
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
    """Uploaded in parts. The object becomes visible when the upload is completed, which closing the file does."""

    def _open(self) -> Any:
        # Not through path.open(), which would report every single write as lineage.
        return self.path.fs.open(self.path.path, "wb", block_size=_PART)

    def _show(self) -> None:
        self._file.close()

    def _remove(self, file: Any) -> None:
        try:
            file.discard()
        finally:
            # Otherwise it would complete the upload when it is closed or garbage-collected.
            file.closed = True


def _hidden(name: str) -> str:
    return f".{name}.{time.time_ns():x}.part"
