"""Copy a video from where the gateway put it to where the user wants it: streamed, resumed, verified, never half."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from logging import getLogger
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import redact_url
from airflow_provider_kirin.download.atomic_file import AtomicFile, file_exists_error, first_bytes, open_atomic, size_of
from airflow_provider_kirin.download.http import ExpiredLinkError, check_response, get
from airflow_provider_kirin.download.http_range import (
    SNIFF_BYTES,
    DownloadProgress,
    RemoteFile,
    is_continuation,
    is_mp4,
    is_self_delimited,
    range_headers,
    read_remote_file,
)
from airflow_provider_kirin.download.mp4 import BoxParser
from airflow_provider_kirin.download.storage import as_path
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError, KirinReplyError

if TYPE_CHECKING:
    import requests

    from airflow_provider_kirin.connection import KirinConnection

#: So many tries in a row may bring nothing new...
_FRUITLESS = 3
#: ...and so many may be made at all, for a host that cuts again and again.
_MOST_TRIES = 100
_FRESH_LINKS = 2

log = getLogger(__name__)


class Download:
    """One file from one link.

    :param url: where the video lies, any host
    :param destination: a local path or the URI of an object
    :param connection: for timeout, TLS, proxies, and the hosts that are allowed
    :param overwrite: whether another file that is there may be replaced
    :param max_bytes: what is longer is refused
    :param fresh_url: returns a new link to the same video, where this one is refused
    """

    def __init__(
        self,
        url: str,
        destination: Any,
        *,
        connection: KirinConnection,
        overwrite: bool,
        max_bytes: int,
        fresh_url: Callable[[], str] | None,
    ) -> None:
        self._url = url
        self._path = as_path(destination)
        self._connection = connection
        self._overwrite = overwrite
        self._max_bytes = max_bytes
        self._fresh_url = fresh_url
        self._remote_file = RemoteFile()
        self._box_parser = BoxParser()

    def run(self) -> int:
        """Fetch the file, unless it is there, going on after cuts; return its length in bytes.

        :raises KirinDestinationError: another file is there and may stay, or the storage does not take this one
        :raises KirinError: nothing usable came; no half file is left under the final name
        """
        from airflow_provider_kirin.download.ssrf import guarded_session

        self._size_there = self._existing_size()
        self._progress = DownloadProgress(time.monotonic())
        fruitless = most = fresh_links = 0
        with guarded_session(self._connection.private_hosts) as session, open_atomic(self._path) as file:
            for attempt in range(1, _MOST_TRIES + 1):
                try:
                    return self._fetch(session, file)
                except ExpiredLinkError:
                    fresh_links += 1
                    if self._fresh_url is None or fresh_links > _FRESH_LINKS or attempt == _MOST_TRIES:
                        raise
                    log.info("The link to the video was refused; going on with a fresh one.")
                    # It may be the same: a store may be a moment behind the gateway.
                    time.sleep(fresh_links)
                    self._url = self._fresh_url()
                except KirinError as error:
                    if file.size > most:
                        most, fruitless = file.size, 0
                    fruitless += 1
                    if not error.retryable or fruitless == _FRUITLESS or attempt == _MOST_TRIES:
                        raise
                    log.warning("Trying again in %s s, with %s bytes here: %s", fruitless, f"{file.size:,}", error)
                    time.sleep(fruitless)
        raise AssertionError("unreachable")

    def _existing_size(self) -> int | None:
        try:
            return size_of(self._path)
        except KirinDestinationError as error:
            # A place where one may only write tells nothing, and is written to all the same.
            if self._overwrite and isinstance(error.__cause__, PermissionError):
                return None
            raise

    def _fetch(self, session: requests.Session, file: AtomicFile) -> int:
        wanted = range_headers(file.size, self._remote_file)
        with get(session, self._url, self._connection, wanted) as (response, chunks):
            self._begin(response, file)
            if not file.size:
                head = self._read_head(chunks)
                if self._is_there(head):
                    return self._size_there or 0
                self._box_parser = BoxParser()
                self._keep(head, file)
            for chunk in chunks:
                self._check_limit(file.size + len(chunk))
                self._keep(chunk, file)
                if log_line := self._progress.log_line(file.size, self._remote_file, time.monotonic()):
                    log.info("Downloading %s: %s", redact_url(self._url), log_line)
            size = file.size
            self._check_length(size)
            self._check_end(size, response)
        file.commit()
        return size

    def _keep(self, data: bytes, file: AtomicFile) -> None:
        file.write(data)
        self._box_parser.feed(data)

    def _begin(self, response: requests.Response, file: AtomicFile) -> None:
        """Judge the head of a reply: does it go on, or begin anew?"""
        status = response.status_code
        if file.size and is_continuation(status, response.headers, start=file.size, remote_file=self._remote_file):
            log.info("The host goes on after byte %s.", f"{file.size:,}")
            if self._remote_file.size is None:
                self._remote_file = read_remote_file(response.headers)
            return
        if status in (200, 206, 416):
            # What is here belongs to another state of the file, or the host knows no ranges.
            file.discard()
        check_response(response, self._url)
        self._remote_file = read_remote_file(response.headers)
        self._check_limit(self._remote_file.size or 0)

    def _read_head(self, chunks: Iterator[bytes]) -> bytes:
        head = bytearray()
        for chunk in chunks:
            head += chunk
            self._check_limit(len(head))
            if len(head) >= SNIFF_BYTES:
                break
        if not head:
            self._check_length(0)
        if not is_mp4(bytes(head[:12])):
            raise KirinReplyError(
                f"{redact_url(self._url)} is no MP4 by its content ({len(head):,} bytes were looked at).",
                retryable=False,
            )
        return bytes(head)

    def _is_there(self, head: bytes) -> bool:
        """Return whether the file is there: of the length that the host announces, and beginning alike."""
        if self._size_there is None:
            return False
        if self._remote_file.size == self._size_there and self._begins_with(head[:SNIFF_BYTES]):
            log.info(
                "%s is there already, with the length (%s bytes) and the beginning of the video: not fetched again.",
                redact_url(str(self._path)),
                f"{self._size_there:,}",
            )
            return True
        if not self._overwrite:
            raise file_exists_error(self._path)
        return False

    def _begins_with(self, head: bytes) -> bool:
        try:
            return first_bytes(self._path, len(head)) == head
        except KirinDestinationError as error:
            if isinstance(error.__cause__, (PermissionError, FileNotFoundError)):
                return False
            raise

    def _check_limit(self, size: int) -> None:
        if size > self._max_bytes:
            raise KirinReplyError(
                f"{redact_url(self._url)} has {size:,} bytes or more, and max_bytes = {self._max_bytes:,}. If the "
                "video "
                "is meant to be that long, raise max_bytes; downloading again is free.",
                retryable=False,
            )

    def _check_length(self, size: int) -> None:
        if not size or self._remote_file.size not in (None, size):
            wanted = "some" if self._remote_file.size is None else f"{self._remote_file.size:,}"
            raise KirinReplyError(f"{redact_url(self._url)} gave {size:,} bytes where {wanted} were announced.")

    def _check_end(self, size: int, response: requests.Response) -> None:
        """Where nothing else tells a whole body from a cut one, the video has to."""
        if (
            self._box_parser.is_incomplete
            and self._remote_file.size is None
            and not is_self_delimited(response.headers)
        ):
            raise KirinReplyError(
                f"{redact_url(self._url)} ended after {size:,} bytes, in the middle of the video. Its host does not "
                "say "
                "how long the whole is."
            )
