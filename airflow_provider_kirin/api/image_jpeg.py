"""What is inside a JPEG file: its header, and whether the rest of it is whole.

All of the file is walked through, and the first rows are decoded, by Pillow: they need every table that the file
brings. To decode the other rows would find nothing more: a JPEG has no checksums, so a decoder takes spoilt pixels for
pixels. Notes that cameras and editors leave in a file (EXIF, XMP, colour profiles) are never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import RawIOBase
from typing import Final

from airflow_provider_kirin.api.image_file import Header, damaged

SIGNATURE: Final = b"\xff\xd8\xff"

#: The next marker of a JPEG: neither a stuffed byte (FF 00), nor a restart (FF D0 to D7), nor padding (FF FF).
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NO_PHOTOGRAPH: Final = "this one is not built like a photograph"
_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NOTES: Final = frozenset(range(0xE0, 0xF0)) | {_COM}
#: Tables (DHT, DAC, DQT), number of lines, restart interval.
_KNOWN: Final = _FRAMES | _NOTES | {_SOI, _EOI, _SOS, 0xC4, 0xCC, 0xDB, 0xDC, 0xDD}
#: A progressive JPEG has about ten scans. Thousands of them in a small file would keep a decoder busy for hours.
_MAX_SCANS: Final = 100
#: Real files have a few hundred segments at most (profiles and XMP come in pieces of 64 kB).
_MAX_SEGMENTS: Final = 10_000
#: The rows that are decoded: the tallest unit that a JPEG can have...
_ROWS: Final = 32
#: ...and how much of each scan a decoder gets to see for them.
_PIXELS: Final = 16 * 1024


def read_header(data: bytes) -> Header:
    """Read the header of a file that begins with the signature.

    :param data: the file, or as much of its beginning as there is
    :raises UnfitFile: the header is damaged or missing
    """
    for marker, start, end in _segments(data):
        if marker in _FRAMES and end - start >= 10:
            height = int.from_bytes(data[start + 5 : start + 7], "big")
            width = int.from_bytes(data[start + 7 : start + 9], "big")
            if width and height:
                return Header("JPEG", width, height)
    raise damaged("this one has no JPEG header")


def check_body(data: bytes) -> None:
    """Look through the whole file for damage, in bounded memory and time.

    :param data: the whole file; what follows the first picture (MPO files hold more) does not matter
    :raises UnfitFile: the file is cut, damaged or built to overwhelm its reader
    """
    view = memoryview(data)
    kept: list[memoryview] = []
    frames = scans = after_scan = 0
    for marker, start, end in _segments(data):
        if after_scan:
            kept.append(view[after_scan : min(start, after_scan + _PIXELS)])
        after_scan = end if marker == _SOS else 0
        scans += marker == _SOS
        if marker in _FRAMES:
            frames += 1
            kept.append(_low(view[start:end]))
        # Notes stay out: Pillow would parse them, warn about them, be attacked through them.
        elif marker not in _NOTES:
            kept.append(view[start:end])
    if frames != 1 or not 1 <= scans <= _MAX_SCANS:
        raise damaged(_NO_PHOTOGRAPH)
    _decode(_Joined(kept))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the end-of-image marker, which must be there."""
    position, count = 0, 0
    while found := _MARKER.search(data, position):
        count += 1
        marker, position = data[found.end() - 1], found.end()
        if marker not in _KNOWN or (marker == _SOI) != (count == 1) or count > _MAX_SEGMENTS:
            raise damaged(_NO_PHOTOGRAPH)
        if marker not in (_SOI, _EOI):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
            if position > len(data):
                break
        yield marker, found.start(), position
        if marker == _EOI:
            return
    raise damaged("this one ends too early")


def _low(frame: memoryview) -> memoryview:
    """Return the frame header of a picture that ends after a few rows."""
    lower = bytearray(frame)
    lower[5:7] = min(_ROWS, int.from_bytes(frame[5:7], "big")).to_bytes(2, "big")
    return memoryview(lower)


class _Joined(RawIOBase):
    """Pieces of a file as one file to read, without a copy of its megabytes.

    :param pieces: in their order
    """

    def __init__(self, pieces: list[memoryview]) -> None:
        self._pieces = pieces
        self.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go back to the beginning, which is all that a decoder asks for."""
        assert offset == whence == 0
        self._left = self._pieces[::-1]
        return 0

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, all that were asked for as far as there are any."""
        found: list[memoryview] = []
        while self._left and size > 0:
            piece = self._left.pop()
            if size < len(piece):
                self._left.append(piece[size:])
            found.append(piece[:size])
            size -= len(found[-1])
        return b"".join(found)


def _decode(stream: _Joined) -> None:
    # The class itself, not Image.open: no other plugin is tried, and there is no bomb warning (our limits came first).
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(stream) as image:  # type: ignore[arg-type]
            image.load()
    except Exception:  # Pillow promises no list of what it raises for a file made in bad faith
        raise damaged("the pixels of this one cannot be decoded") from None
