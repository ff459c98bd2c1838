"""Copy a video from where the gateway put it to where the user wants it: streamed, resumed, verified, never half."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from logging import getLogger
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import safe_url
from airflow_provider_kirin.download.atomic_file import Writing, already_there, first_bytes, size_of, writing
from airflow_provider_kirin.download.http import ExpiredLinkError, check_reply, get
from airflow_provider_kirin.download.http_range import (
    HEAD,
    Announced,
    Progress,
    continues,
    is_mp4,
    range_headers,
    read_announced,
    says_its_end,
)
from airflow_provider_kirin.download.mp4 import Boxes
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
        self._announced = Announced()
        self._boxes = Boxes()

    def run(self) -> int:
        """Fetch the file, unless it is there, going on after cuts; return its length in bytes.

        :raises KirinDestinationError: another file is there and may stay, or the storage does not take this one
        :raises KirinError: nothing usable came; no half file is left under the final name
        """
        from airflow_provider_kirin.download.ssrf import guarded_session

        self._there = self._look_at_the_place()
        self._progress = Progress(time.monotonic())
        fruitless = most = fresh_links = 0
        with guarded_session(self._connection.private_hosts) as session, writing(self._path) as file:
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

    def _look_at_the_place(self) -> int | None:
        try:
            return size_of(self._path)
        except KirinDestinationError as error:
            # A place where one may only write tells nothing, and is written to all the same.
            if self._overwrite and isinstance(error.__cause__, PermissionError):
                return None
            raise

    def _fetch(self, session: requests.Session, file: Writing) -> int:
        wanted = range_headers(file.size, self._announced)
        with get(session, self._url, self._connection, wanted) as (reply, chunks):
            self._begin(reply, file)
            if not file.size:
                head = self._read_head(chunks)
                if self._is_there(head):
                    return self._there or 0
                self._boxes = Boxes()
                self._keep(head, file)
            for chunk in chunks:
                self._check_limit(file.size + len(chunk))
                self._keep(chunk, file)
                if news := self._progress.news(file.size, self._announced, time.monotonic()):
                    log.info("Downloading %s: %s", safe_url(self._url), news)
            size = file.size
            self._check_length(size)
            self._check_end(size, reply)
        file.commit()
        return size

    def _keep(self, data: bytes, file: Writing) -> None:
        file.write(data)
        self._boxes.feed(data)

    def _begin(self, reply: requests.Response, file: Writing) -> None:
        """Judge the head of a reply: does it go on, or begin anew?"""
        status = reply.status_code
        if file.size and continues(status, reply.headers, start=file.size, announced=self._announced):
            log.info("The host goes on after byte %s.", f"{file.size:,}")
            if self._announced.size is None:
                self._announced = read_announced(reply.headers)
            return
        if status in (200, 206, 416):
            # What is here belongs to another state of the file, or the host knows no ranges.
            file.discard()
        check_reply(reply, self._url)
        self._announced = read_announced(reply.headers)
        self._check_limit(self._announced.size or 0)

    def _read_head(self, chunks: Iterator[bytes]) -> bytes:
        head = bytearray()
        for chunk in chunks:
            head += chunk
            self._check_limit(len(head))
            if len(head) >= HEAD:
                break
        if not head:
            self._check_length(0)
        if not is_mp4(bytes(head[:12])):
            raise KirinReplyError(
                f"{safe_url(self._url)} is no MP4 by its content ({len(head):,} bytes were looked at).", retryable=False
            )
        return bytes(head)

    def _is_there(self, head: bytes) -> bool:
        """Return whether the file is there: of the length that the host announces, and beginning alike."""
        if self._there is None:
            return False
        if self._announced.size == self._there and self._begins_with(head[:HEAD]):
            log.info(
                "%s is there already, with the length (%s bytes) and the beginning of the video: not fetched again.",
                safe_url(str(self._path)),
                f"{self._there:,}",
            )
            return True
        if not self._overwrite:
            raise already_there(self._path)
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
                f"{safe_url(self._url)} has {size:,} bytes or more, and max_bytes = {self._max_bytes:,}. If the video "
                "is meant to be that long, raise max_bytes; downloading again is free.",
                retryable=False,
            )

    def _check_length(self, size: int) -> None:
        if not size or self._announced.size not in (None, size):
            wanted = "some" if self._announced.size is None else f"{self._announced.size:,}"
            raise KirinReplyError(f"{safe_url(self._url)} gave {size:,} bytes where {wanted} were announced.")

    def _check_end(self, size: int, reply: requests.Response) -> None:
        """Where nothing else tells a whole body from a cut one, the video has to."""
        if self._boxes.is_cut and self._announced.size is None and not says_its_end(reply.headers):
            raise KirinReplyError(
                f"{safe_url(self._url)} ended after {size:,} bytes, in the middle of the video. Its host does not say "
                "how long the whole is."
            )
