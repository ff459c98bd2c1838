"""Download a video from the gateway's link to the user's destination: streamed, resumed, verified and atomic."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from logging import getLogger
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.pauses import pause
from airflow_provider_kirin.api.redaction import redact_url
from airflow_provider_kirin.download.atomic_file import (
    AtomicFile,
    file_exists_error,
    first_bytes,
    open_atomic,
    read_chunks,
    size_of,
    uri_of,
)
from airflow_provider_kirin.download.http import ExpiredLinkError, UndecodableError, check_response, get
from airflow_provider_kirin.download.http_range import (
    SNIFF_BYTES,
    DownloadProgress,
    RemoteFile,
    is_continuation,
    is_expired,
    is_mp4,
    is_self_delimited,
    is_temporary,
    may_be_video,
    range_headers,
    read_remote_file,
)
from airflow_provider_kirin.download.inspection import Inspector
from airflow_provider_kirin.download.storage import as_path
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError, KirinResponseError

if TYPE_CHECKING:
    import requests

    from airflow_provider_kirin.api.video_file import VideoFile
    from airflow_provider_kirin.connection import KirinConnection

#: Consecutive attempts without a new byte before giving up.
_MAX_FRUITLESS = 3
#: Attempts in total, for a host that disconnects again and again.
_MAX_ATTEMPTS = 100
_MAX_FRESH_LINKS = 2

log = getLogger(__name__)


class Download:
    """One file from one link.

    :param url: the video's link, on any host
    :param destination: a local path or the URI of an object
    :param connection: provides timeout, TLS, proxies and allowed private hosts
    :param overwrite: whether an existing, different file may be replaced
    :param max_bytes: a longer file is refused
    :param fresh_url: returns a new link to the same video if this one is refused
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
        self._inspector = Inspector()
        #: Whether to believe a Content-Encoding. Some hosts declare one for files that they store as they are.
        self._unpack = True

    def run(self) -> VideoFile:
        """Download the file unless it exists, resuming after disconnects; return what is known of it.

        :raises KirinDestinationError: another file exists and must not be replaced, or the storage rejects this one
        :raises KirinError: the download failed; no partial file is left under the final name
        """
        from airflow_provider_kirin.download.ssrf import guarded_session

        self._existing_size = self._read_existing_size()
        self._progress = DownloadProgress(time.monotonic())
        fruitless = longest = fresh_links = 0
        with guarded_session(self._connection.private_hosts) as session, open_atomic(self._path) as file:
            for attempt in range(1, _MAX_ATTEMPTS + 1):
                try:
                    return self._fetch(session, file)
                except ExpiredLinkError as error:
                    fresh_links += 1
                    if self._fresh_url is None or fresh_links > _MAX_FRESH_LINKS or attempt == _MAX_ATTEMPTS:
                        raise
                    log.info("Continuing with a fresh link: %s", error)
                    # Wait, because the fresh link may be the same one: the store may lag behind the gateway.
                    pause(fresh_links)
                    self._url = self._fresh_url()
                except KirinError as error:
                    if not file.size:
                        self._unpack = not isinstance(error, UndecodableError)
                    if file.size > longest:
                        longest, fruitless = file.size, 0
                    fruitless += 1
                    if not error.retryable or fruitless == _MAX_FRUITLESS or attempt == _MAX_ATTEMPTS:
                        raise
                    log.warning("Retrying in %s s, with %s bytes received: %s", fruitless, f"{file.size:,}", error)
                    pause(fruitless)
        raise AssertionError("unreachable")

    def _read_existing_size(self) -> int | None:
        try:
            return size_of(self._path)
        except KirinDestinationError as error:
            # A write-only storage cannot be inspected, but can be written to.
            if self._overwrite and isinstance(error.__cause__, PermissionError):
                return None
            raise

    def _fetch(self, session: requests.Session, file: AtomicFile) -> VideoFile:
        headers = range_headers(file.size, self._remote_file)
        with get(session, self._url, self._connection, headers, unpack=self._unpack) as (response, chunks):
            self._begin(response, file, is_partial=bool(headers))
            if not file.size:
                head = self._read_head(chunks, may_start_over=bool(headers) or not self._unpack)
                self._inspector = Inspector()
                if self._exists(head):
                    return self._inspect_existing(response)
                self._keep(head, file)
            for chunk in chunks:
                self._check_limit(file.size + len(chunk))
                self._keep(chunk, file)
                if log_line := self._progress.log_line(file.size, self._remote_file, time.monotonic()):
                    log.info("Downloading %s: %s", redact_url(self._url), log_line)
            self._check_length(file.size)
            self._check_end(response, file)
        file.commit()
        return self._inspector.describe(uri_of(self._path))

    def _inspect_existing(self, response: requests.Response) -> VideoFile:
        for chunk in read_chunks(self._path):
            self._inspector.feed(chunk)
        self._check_end(response)
        return self._inspector.describe(uri_of(self._path))

    def _keep(self, data: bytes, file: AtomicFile) -> None:
        file.write(data)
        self._inspector.feed(data)

    def _begin(self, response: requests.Response, file: AtomicFile, *, is_partial: bool) -> None:
        """Decide by the head of a response whether it continues the file or starts again."""
        status = response.status_code
        if file.size and is_continuation(status, response.headers, start=file.size, remote_file=self._remote_file):
            log.info("Resuming after byte %s.", f"{file.size:,}")
            if self._remote_file.size is None:
                self._remote_file = read_remote_file(response.headers)
            return
        is_video = may_be_video(response.headers.get("Content-Type", ""))
        if is_video and not (is_expired(status, is_partial=is_partial) or is_temporary(status)):
            # The bytes received belong to another version of the file, or the host does not support ranges.
            file.discard()
        check_response(response, self._url, is_partial=is_partial)
        self._remote_file = read_remote_file(response.headers)
        self._check_limit(self._remote_file.size or 0)

    def _read_head(self, chunks: Iterator[bytes], *, may_start_over: bool) -> bytes:
        head = bytearray()
        for chunk in chunks:
            head += chunk
            self._check_limit(len(head))
            if len(head) >= SNIFF_BYTES:
                break
        if not head:
            self._check_length(0)
        if not is_mp4(bytes(head[:12])):
            error_class = KirinResponseError if may_start_over else ExpiredLinkError
            raise error_class(
                f"{redact_url(self._url)} is not an MP4 file by its content ({len(head):,} bytes were inspected).",
                retryable=may_start_over,
            )
        return bytes(head)

    def _exists(self, head: bytes) -> bool:
        """Return whether the file exists, with the announced length and the same first bytes."""
        if self._existing_size is None:
            return False
        if self._remote_file.size == self._existing_size and self._begins_with(head[:SNIFF_BYTES]):
            log.info(
                "%s already exists, with the length (%s bytes) and the first bytes of the video: not downloaded again.",
                redact_url(str(self._path)),
                f"{self._existing_size:,}",
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
            raise KirinResponseError(
                f"{redact_url(self._url)} has {size:,} bytes or more, and max_bytes = {self._max_bytes:,}. If the "
                "video is meant to be that long, increase max_bytes; downloading again is free.",
                retryable=False,
            )

    def _check_length(self, size: int) -> None:
        if not size or self._remote_file.size not in (None, size):
            expected = "at least 1" if self._remote_file.size is None else f"{self._remote_file.size:,}"
            raise KirinResponseError(f"{redact_url(self._url)} sent {size:,} bytes; expected {expected}.")

    def _check_end(self, response: requests.Response, file: AtomicFile | None = None) -> None:
        """Check the video's own structure: headers may not state where it ends, or be wrong."""
        is_delimited = self._remote_file.size is not None or is_self_delimited(response.headers)
        if not self._inspector.boxes.is_cut(is_delimited=is_delimited):
            return
        why = "does not report the full length"
        if is_delimited:
            why = "reported this as the full length"
            if file:
                # No rest can be requested.
                file.discard()
        raise KirinResponseError(
            f"{redact_url(self._url)} ended after {self._inspector.size:,} bytes, in the middle of the video. Its host "
            f"{why}."
        )
