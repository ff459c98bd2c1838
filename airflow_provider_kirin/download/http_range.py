"""How a file comes over HTTP: what its host says of it, and when the rest of it may follow what is here already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: The longest file that is taken unless the user says otherwise: far more than minutes of video need. Bytes.
DEFAULT_MAX_BYTES = 4 * 1024**3
#: So much of a file is looked at before it is kept: what it is, and whether it is here already. Bytes.
SNIFF_BYTES = 64 * 1024
#: A host that sends less than so many bytes in so many seconds of waiting is not waited for: 5 kB/s.
MIN_BYTES, WINDOW_SECONDS = 300_000, 60.0
#: Seconds between two lines about a long download.
REPORT_EVERY = 10.0

_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
#: What a login page or an error is. Everything else is judged by its bytes: hosts call an MP4 the oddest things.
_PAGES = re.compile(r"(?:text/html|(?:text|application)/(?:xml|json)|[^;]*\+(?:xml|json))\s*(?:;|,|$)")
#: The link is refused or gone. A fresh one may not be.
_EXPIRED = frozenset({401, 403, 404, 410})


@dataclass(frozen=True)
class RemoteFile:
    """What a host says of a file, before its bytes.

    :param size: bytes; None where the host does not say
    :param validator: names this state of the file: a strong ETag, or the time of its last change; None without one
    """

    size: int | None = None
    validator: str | None = None


def read_remote_file(headers: Mapping[str, str]) -> RemoteFile:
    """Read the headers of a response that begins with the first byte.

    :param headers: of the reply; names in any case (``requests`` gives such a mapping)
    """
    if is_packed(headers):
        # The length is that of the packed bytes, and so would be the offsets of a range.
        return RemoteFile()
    content_range = _content_range(headers)
    return RemoteFile(content_range[1] if content_range else _length(headers), _validator(headers))


def is_self_delimited(headers: Mapping[str, str]) -> bool:
    """Return whether the headers tell a whole file from one that is cut. Otherwise only the file itself can.

    :param headers: of the reply
    """
    if is_packed(headers):
        # A pack that came whole may still hold half a file.
        return False
    if content_range := _content_range(headers):
        return content_range[1] is not None
    is_chunked = headers.get("Transfer-Encoding", "").strip().lower() == "chunked"
    return is_chunked or _length(headers) is not None


def is_packed(headers: Mapping[str, str]) -> bool:
    """Return whether a body is compressed, which some stores do to whatever they keep.

    :param headers: of the reply
    """
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def first_byte(status: int, headers: Mapping[str, str]) -> int | None:
    """Return where in the file a body begins; None if that is unknown.

    Some hosts answer a range with 200, and say only by the way that it is a part.

    :param status: of the reply, 200 or 206
    :param headers: of the reply
    """
    if content_range := _content_range(headers):
        return content_range[0]
    return 0 if status == 200 else None


def range_headers(start: int, remote_file: RemoteFile) -> dict[str, str]:
    """Return the headers that ask for the rest of a file, or for all of it where a rest could not be trusted.

    :param start: bytes that are here already
    :param remote_file: of the reply that they came with
    """
    if not start or remote_file.validator is None:
        return {}
    return {"Range": f"bytes={start}-", "If-Range": remote_file.validator}


def is_continuation(status: int, headers: Mapping[str, str], *, start: int, remote_file: RemoteFile) -> bool:
    """Return whether a reply is the rest of the same file.

    Some hosts do not look at an ETag in ``If-Range`` (aiohttp's file server is one), so the reply has to repeat it.

    :param status: of the reply
    :param headers: of the reply
    :param start: bytes that are here already
    :param remote_file: of the reply that they came with
    """
    content_range = _content_range(headers)
    if status != 206 or content_range is None or is_packed(headers):
        return False
    first, total = content_range
    same_size = remote_file.size is None or total is None or total == remote_file.size
    return first == start and same_size and _validator(headers) == remote_file.validator


def is_expired(status: int) -> bool:
    """Return whether a host refuses a link as such.

    :param status: of the reply
    """
    return status in _EXPIRED


def may_be_video(content_type: str) -> bool:
    """Return whether a Content-Type leaves room for a video: whether it is not HTML, XML or JSON.

    :param content_type: the header
    """
    return not _PAGES.match(content_type.strip().lower())


def is_mp4(head: bytes) -> bool:
    """Return whether a file begins as each MP4 does: with a ``ftyp`` box (ISO/IEC 14496-12, 4.3).

    :param head: its first bytes
    """
    return head[4:8] == b"ftyp"


class ThroughputGuard:
    """Judges whether a host sends enough to be waited for: :data:`MIN_BYTES` bytes in each :data:`WINDOW_SECONDS`.

    What counts is the time of waiting, not what is done with the bytes, and without the longest pause: a host may have
    to fetch or to render the video.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._bytes, self._waited, self._pause = 0, 0.0, 0.0

    def is_enough(self, count: int, waited: float) -> bool:
        """Note what came, and judge.

        :param count: bytes
        :param waited: seconds that they were waited for
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
    """Says now and then how far a long download is.

    :param started_at: seconds, on any clock
    """

    def __init__(self, started_at: float) -> None:
        self._started_at = self._logged_at = started_at

    def log_line(self, done: int, remote_file: RemoteFile, now: float) -> str | None:
        """Return a line that is worth logging, or None.

        :param done: bytes that are here
        :param remote_file: what the host said
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
    """Return where a part begins, and how long the whole file is."""
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    return (int(found[1]), None if found[2] == "*" else int(found[2])) if found else None


def _length(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if _LENGTH.fullmatch(length) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    # A weak ETag (W/"...") stands for files that only mean the same.
    return None if etag else headers.get("Last-Modified", "").strip() or None
