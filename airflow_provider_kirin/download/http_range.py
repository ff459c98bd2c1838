"""HTTP ranges: what a host reports about a file, and when a response continues the bytes received so far."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: The default limit of a file's length in bytes: far more than minutes of video need.
DEFAULT_MAX_BYTES = 4 * 1024**3
#: Bytes that are inspected before a file is written: is it a video, and does the file exist already?
SNIFF_BYTES = 64 * 1024
#: The minimum throughput, 5 kB/s: a host that sends fewer bytes in this many seconds of waiting is given up.
MIN_BYTES, WINDOW_SECONDS = 300_000, 60.0
#: Seconds between progress lines about a long download.
REPORT_EVERY = 10.0

_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
#: Content types of login and error pages. All others are judged by their bytes: hosts mislabel MP4 files freely.
_PAGES = re.compile(r"(?:text/html|(?:text|application)/(?:xml|json)|[^;]*\+(?:xml|json))\s*(?:;|,|$)")
#: Statuses of a link that is refused or gone. A fresh one may work.
_EXPIRED = frozenset({401, 403, 404, 410})
#: Google Cloud Storage's status of an expired link. Other hosts have it for a range that they do not support.
_BAD_REQUEST = 400


@dataclass(frozen=True)
class RemoteFile:
    """What a host's headers report about a file.

    :param size: bytes; None if the host does not report it
    :param validator: identifies this version of the file: a strong ETag, or its Last-Modified; None without one
    """

    size: int | None = None
    validator: str | None = None


def read_remote_file(headers: Mapping[str, str]) -> RemoteFile:
    """Read the headers of a response that begins with the first byte.

    :param headers: a case-insensitive mapping, as ``requests`` returns it
    """
    if is_packed(headers):
        # The length, and the offsets of a range, would count compressed bytes.
        return RemoteFile()
    content_range = _content_range(headers)
    return RemoteFile(content_range[1] if content_range else _length(headers), _validator(headers))


def is_self_delimited(headers: Mapping[str, str]) -> bool:
    """Return whether a truncated body can be detected from the headers. Otherwise only the file itself can show it."""
    if is_packed(headers):
        # A complete compressed body may still hold half a file.
        return False
    if content_range := _content_range(headers):
        return content_range[1] is not None
    is_chunked = headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
    return is_chunked or _length(headers) is not None


def is_packed(headers: Mapping[str, str]) -> bool:
    """Return whether a body is compressed, which some stores do to everything they keep."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def first_byte(status: int, headers: Mapping[str, str]) -> int | None:
    """Return the offset at which a body begins in the file; None if it is unknown.

    Some hosts answer a range request with 200, and only Content-Range shows that the body is a part. Others answer
    with 206 and no Content-Range where the whole was requested.

    :param status: the status of the response, a success
    :param headers: the headers of the response
    """
    if content_range := _content_range(headers):
        return content_range[0]
    return None if status == 206 and headers.get("Content-Range") else 0


def range_headers(start: int, remote_file: RemoteFile) -> dict[str, str]:
    """Return the headers that request the rest of a file, or all of it if a rest could not be verified.

    :param start: bytes received so far
    :param remote_file: what the host reported when it sent them
    """
    if not start or remote_file.validator is None:
        return {}
    return {"Range": f"bytes={start}-", "If-Range": remote_file.validator}


def is_continuation(status: int, headers: Mapping[str, str], *, start: int, remote_file: RemoteFile) -> bool:
    """Return whether a response is the rest of the same file.

    Some hosts ignore an ETag in ``If-Range`` (aiohttp's file server is one), so the response has to repeat it.

    :param status: the status of the response
    :param headers: the headers of the response
    :param start: bytes received so far
    :param remote_file: what the host reported when it sent them
    """
    content_range = _content_range(headers)
    if status != 206 or content_range is None or is_packed(headers):
        return False
    first, total = content_range
    same_size = remote_file.size is None or total is None or total == remote_file.size
    return first == start and same_size and _validator(headers) == remote_file.validator


def is_success(status: int) -> bool:
    """Return whether a status comes with the video, or a part of it. 203: a proxy has changed the headers."""
    return status in (200, 203, 206)


def is_expired(status: int, *, is_partial: bool) -> bool:
    """Return whether a status means that the link itself is refused or gone.

    :param status: the status of the response
    :param is_partial: whether only the rest of a file was requested
    """
    return status in _EXPIRED or (status == _BAD_REQUEST and not is_partial)


def is_temporary(status: int) -> bool:
    """Return whether the same request may succeed later: an error, or a success without the video, such as 202."""
    return status >= 500 or status in (408, 425, 429) or (status < 300 and not is_success(status))


def may_be_video(content_type: str) -> bool:
    """Return whether a Content-Type may be a video's: anything but HTML, XML and JSON."""
    return not _PAGES.match(content_type.strip().lower())


def is_mp4(head: bytes) -> bool:
    """Return whether a file begins with a ``ftyp`` box, as every MP4 does (ISO/IEC 14496-12, 4.3).

    :param head: the file's first bytes
    """
    return head[4:8] == b"ftyp"


class ThroughputGuard:
    """Decides whether a host is fast enough: :data:`MIN_BYTES` bytes in each :data:`WINDOW_SECONDS`.

    Only time spent waiting counts, not time spent writing, and the longest pause is excluded: the host may have to
    fetch or render the video first.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._bytes, self._waited, self._pause = 0, 0.0, 0.0

    def is_enough(self, count: int, waited: float) -> bool:
        """Record one read, and return whether the host is fast enough.

        :param count: bytes received
        :param waited: seconds spent waiting for them
        """
        self._bytes += count
        self._waited += waited
        self._pause = max(self._pause, waited)
        if self._waited - self._pause < WINDOW_SECONDS:
            return True
        is_enough = self._bytes >= MIN_BYTES
        self._begin()
        return is_enough


class DownloadProgress:
    """Reports the progress of a long download every :data:`REPORT_EVERY` seconds.

    :param started_at: seconds, on any clock
    """

    def __init__(self, started_at: float) -> None:
        self._started_at = self._logged_at = started_at

    def log_line(self, done: int, remote_file: RemoteFile, now: float) -> str | None:
        """Return a progress line if one is due, else None.

        :param done: bytes received so far
        :param remote_file: what the host reported
        :param now: seconds, on the same clock
        """
        if now - self._logged_at < REPORT_EVERY:
            return None
        self._logged_at = now
        speed = done / (now - self._started_at) / 1e6
        if remote_file.size is None:
            return f"{done:,} bytes so far, {speed:.1f} MB/s"
        return f"{done:,} of {remote_file.size:,} bytes ({done * 100 // max(remote_file.size, 1)} %), {speed:.1f} MB/s"


def _content_range(headers: Mapping[str, str]) -> tuple[int, int | None] | None:
    """Return the offset of a part, and the length of the whole file."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def _length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if _LENGTH.fullmatch(length) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    # A weak ETag (W/"...") does not guarantee identical bytes.
    return None if etag else headers.get("Last-Modified", "").strip() or None
