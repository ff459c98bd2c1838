"""Parse an MP4 (ISO/IEC 14496-12) without decoding it: where it may end, and what its header states.

The bytes are untrusted: parsing them is bounded in time and memory, and never fails. What cannot be parsed is unknown.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

_SHORT, _LONG = 8, 16
#: This value of the size field means that a 64-bit size follows.
_SIZE_FOLLOWS = 1
#: Bytes of a movie header that are kept; that of a video of an hour has about one million.
MAX_HEADER = 4 * 1024 * 1024
#: Boxes that are read inside another one.
_MAX_BOXES = 200
#: What is played. All else may be missing.
_MOVIE = frozenset({b"moov", b"mdat"})
#: Boxes that the movie is made of, or that stand before a part of it.
_LEADING = _MOVIE | {b"ftyp", b"styp", b"moof", b"sidx"}
#: Boxes that may also stand after the movie.
_TRAILING = frozenset({b"free", b"skip", b"wide", b"uuid", b"meta", b"udta", b"mfra", b"emsg"})


class BoxParser:
    """Follows the top-level boxes of a file as its bytes arrive, and knows at any byte whether the file may end there.

    Keeps the content of the movie header, unless it is longer than :data:`MAX_HEADER`, and nothing else.
    """

    def __init__(self) -> None:
        #: The content of the box that describes the video, as far as it has arrived.
        self.movie_header = bytearray()
        self._is_header = False
        self._head = b""
        #: The type of the current box, empty as long as its header is incomplete.
        self._type = b""
        self._missing_movie = set(_MOVIE)
        #: Bytes of the current box that have not arrived yet.
        self._left = 0
        self._is_last = False

    def is_cut(self, *, is_delimited: bool) -> bool:
        """Return whether a file that ends here is truncated. What follows a movie need not be a box, nor be complete.

        :param is_delimited: whether the host reported that the file ends here; then only what is certain counts
        """
        is_inside_box = bool(self._head or self._left)
        if not is_inside_box or self._type in _LEADING:
            return is_inside_box
        return bool(self._missing_movie) and (not is_delimited or self._type in _TRAILING)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the file."""
        position = 0
        while position < len(data) and not self._is_last:
            skipped = min(self._left, len(data) - position)
            if self._is_header:
                self.movie_header += data[position : position + skipped]
            self._left -= skipped
            position += skipped
            if not self._left:
                self._missing_movie.discard(self._type)
                self._type = b""
                header_bytes = data[position : position + self._missing()]
                position += len(header_bytes)
                self._head += header_bytes
                self._read_head()

    def _missing(self) -> int:
        """Return how many bytes of the header are missing."""
        is_long = len(self._head) >= _SHORT and int.from_bytes(self._head[:4]) == _SIZE_FOLLOWS
        return (_LONG if is_long else _SHORT) - len(self._head)

    def _read_head(self) -> None:
        if self._missing():
            return
        size = int.from_bytes(self._head[:4] if len(self._head) == _SHORT else self._head[_SHORT:])
        # A size of 0 extends to the end of the file, wherever that is; after an impossible size nothing is certain.
        self._is_last = size < len(self._head)
        self._left = 0 if self._is_last else size - len(self._head)
        self._type = self._head[4:8]
        # A file has only one movie header.
        self._is_header = self._type == b"moov" and not self.movie_header and self._left <= MAX_HEADER
        self._head = b""


@dataclass(frozen=True)
class Movie:
    """What a movie header states; None for what it does not state.

    :param width: pixels
    :param height: pixels
    :param frame_rate: frames per second, on average
    :param seconds: how long it plays
    :param has_audio: whether it has a sound track
    """

    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    seconds: float | None = None
    has_audio: bool | None = None


def read_movie(header: bytes | bytearray) -> Movie:
    """Read a movie header.

    :param header: the content of a ``moov`` box: :attr:`BoxParser.movie_header`; empty if the file has none
    """
    tracks = [_find(track, "mdia") for name, track in _boxes(memoryview(header)) if name == b"trak"]
    if not tracks:
        return Movie()
    handlers = [bytes(_find(track, "hdlr")[8:12]) for track in tracks]
    video = tracks[handlers.index(b"vide")] if b"vide" in handlers else memoryview(b"")
    samples = _find(video, "minf", "stbl")
    # An entry begins with its size and format; width and height are 24 bytes behind that.
    width, height = _unpack(">HH", _find(samples, "stsd"), 40) or (0, 0)
    frames = _unpack(">I", _find(samples, "stsz"), 8)
    shown = _frame_seconds(_find(video, "mdhd"), _find(samples, "stts"))
    return Movie(
        width=width or None,
        height=height or None,
        frame_rate=round(frames[0] / shown, 3) if frames and frames[0] and shown else None,
        seconds=round(seconds, 3) if (seconds := _duration(_find(memoryview(header), "mvhd"))) else None,
        has_audio=b"soun" in handlers,
    )


def _boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield name and content of each box inside of another one, up to the first incomplete one."""

    def walk() -> Iterator[tuple[bytes, memoryview]]:
        rest = content
        while len(rest) >= _SHORT:
            size = int.from_bytes(rest[:4])
            if not _SHORT <= size <= len(rest):
                return
            yield bytes(rest[4:_SHORT]), rest[_SHORT:size]
            rest = rest[size:]

    return islice(walk(), _MAX_BOXES)


def _find(content: memoryview, *path: str) -> memoryview:
    """Return the content of the first box at a path; empty if there is none."""
    for name in path:
        content = next((inner for found, inner in _boxes(content) if found == name.encode()), memoryview(b""))
    return content


def _duration(header: memoryview) -> float | None:
    """Return the seconds that a movie's header states."""
    version, scale, length = _times(header)
    # All bits set: unknown.
    is_known = scale and length and length != (2**64 if version == 1 else 2**32) - 1
    return length / scale if is_known else None


def _frame_seconds(header: memoryview, sample_times: memoryview) -> float | None:
    """Return the seconds of all frames of a track.

    The length in the track's header would be too long where frames are reordered: some encoders add the delay to it.
    """
    _, scale, _ = _times(header)
    entries = sample_times[8:]
    ticks = sum(count * each for count, each in struct.iter_unpack(">II", entries[: len(entries) // 8 * 8]))
    return ticks / scale if scale and ticks else None


def _times(header: memoryview) -> tuple[int, int, int]:
    """Return the version of a movie's or a track's header, its ticks a second and its length in ticks."""
    version = header[0] if header else 0
    layout, offset = (">IQ", 20) if version == 1 else (">II", 12)
    scale, length = _unpack(layout, header, offset) or (0, 0)
    return version, scale, length


def _unpack(layout: str, content: memoryview, offset: int) -> tuple[int, ...] | None:
    try:
        return struct.unpack_from(layout, content, offset)
    except struct.error:
        return None
