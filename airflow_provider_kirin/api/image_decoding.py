"""What is inside a JPEG or PNG file: its header, and whether the rest of it is whole.

Nothing here trusts the file. Headers are read before anything is unpacked, pixels are unpacked without being kept, and
the notes that cameras and editors leave in a file (EXIF, XMP, colour profiles) are never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import RawIOBase
from typing import Final

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"

_STEP: Final = 64 * 1024
#: All compressed notes of one PNG together may unpack to this much; real ones need a few hundred kB.
_MAX_NOTES: Final = 16 * 1024 * 1024
#: PNG colour type -> samples a pixel, bit depths allowed.
_PNG_COLOURS: Final = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
#: x0, y0, dx, dy of the seven passes of an interlaced PNG.
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

#: The next marker of a JPEG: neither a stuffed byte (FF 00), nor a restart (FF D0 to D7), nor padding (FF FF).
_MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NO_PHOTOGRAPH: Final = "this one is not built like a photograph"
_TEM, _SOI, _EOI, _SOS, _COM = 0x01, 0xD8, 0xD9, 0xDA, 0xFE
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
#: A progressive JPEG has about ten scans. Thousands of them in a small file would keep a decoder busy for hours.
_MAX_SCANS: Final = 100
#: Real files have a few hundred segments at most (profiles and XMP come in pieces of 64 kB).
_MAX_SEGMENTS: Final = 10_000
#: Decoding a JPEG of several scans takes 6 bytes a pixel at any scale, so larger ones are judged by structure only.
_MAX_BUFFERED_PIXELS: Final = 16_000_000


class UnfitFile(Exception):
    """The file cannot be used as a picture.

    :param rule: what a file must be, and what this one is
    :param remedy: what to do about it
    """

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels begin.

    :param format: ``JPEG`` or ``PNG``
    :param width: in pixels, as stored (EXIF orientation is not applied)
    :param height: in pixels
    """

    format: str
    width: int
    height: int


def read_header(data: bytes) -> Header:
    """Read the header of a file that begins with one of the two signatures.

    :param data: the file, or as much of its beginning as there is
    :raises UnfitFile: the header is damaged or missing
    """
    if data.startswith(PNG_SIGNATURE):
        width, height = _png_header(data)[:2]
        return Header("PNG", width, height)
    return _jpeg_header(data)


def check_body(data: bytes, header: Header) -> None:
    """Look through the whole file for damage, in bounded memory.

    :param data: the whole file
    :param header: what :func:`read_header` found
    :raises UnfitFile: the file is cut, damaged, animated or built to overwhelm its reader
    """
    if header.format == "PNG":
        _check_png(data)
    else:
        _check_jpeg(data, header)


def _damaged(what: str) -> UnfitFile:
    return UnfitFile(f"the file must be whole and undamaged; {what}", "Copy or export the image again.")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and body of each chunk up to IEND, which must be there."""
    import zlib

    view = memoryview(data)
    position = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        kind = data[position + 4 : position + 8]
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        if end + 4 > len(data):
            raise _damaged("this one ends too early")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise _damaged("a checksum in this one is wrong")
        yield kind, view[position + 8 : end]
        position = end + 4


def _png_header(data: bytes) -> tuple[int, int, int, int]:
    """Return width, height, bits a pixel, and 1 if interlaced."""
    import struct

    kind, body = next(_png_chunks(data))
    if kind != b"IHDR" or len(body) != 13:
        raise _damaged("this one has no PNG header")
    width, height, depth, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", body)
    samples, depths = _PNG_COLOURS.get(colour, (0, ()))
    if not (width and height and depth in depths) or packing or filtering or interlaced > 1:
        raise _damaged("the PNG header of this one makes no sense")
    return width, height, depth * samples, interlaced


def _unpacked_size(data: bytes) -> int:
    """Return the exact number of bytes that the pixels of this PNG take before compression."""
    width, height, bits, interlaced = _png_header(data)
    total = 0
    for x0, y0, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x0 - width) // dx), -((y0 - height) // dy)
        if columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


class _Inflater:
    """Counts what a zlib stream unpacks to and keeps none of it.

    :param limit: the most that it may unpack to
    """

    def __init__(self, limit: int) -> None:
        import zlib

        self._stream = zlib.decompressobj()
        self._limit = limit
        self.size = 0

    def feed(self, packed: memoryview) -> None:
        for start in range(0, len(packed), _STEP):
            pending: bytes | memoryview = packed[start : start + _STEP]
            # Past the end, zlib would collect all that follows, copying it again for each piece.
            while pending and not self._stream.eof:
                self._count(self._stream.decompress(pending, _STEP))
                pending = self._stream.unconsumed_tail

    def finish(self) -> bool:
        """Say whether the stream came to its proper end."""
        self._count(self._stream.flush())
        return self._stream.eof

    def _count(self, unpacked: bytes) -> None:
        self.size += len(unpacked)
        if self.size > self._limit:
            raise _damaged("this one unpacks to far more than a picture of its size holds")


def _check_png(data: bytes) -> None:
    import zlib

    expected = _unpacked_size(data)
    pixels, notes_left, previous = _Inflater(expected), _MAX_NOTES, b""
    for kind, body in _png_chunks(data):
        if kind == b"acTL":
            raise UnfitFile("the image must be a still one; this PNG is animated", "Export one frame of it.")
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            notes_left -= _size_of_notes(kind, body, notes_left)
        elif kind == b"IDAT":
            if pixels.size and previous != kind:
                raise _damaged("the pixels of this one are scattered over the file")
            try:
                pixels.feed(body)
            except zlib.error:
                raise _damaged("the pixels of this one cannot be unpacked") from None
        previous = kind
    if not pixels.finish() or pixels.size != expected:
        raise _damaged("pixels are missing in this one")


def _size_of_notes(kind: bytes, body: memoryview, limit: int) -> int:
    """Return what a compressed note unpacks to. A damaged note does no harm: decoders skip it."""
    import zlib

    rest = bytes(body).partition(b"\0")[2]
    packed = rest[1:]
    if kind == b"iTXt":
        packed = rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\x01" else b""
    notes = _Inflater(limit)
    with suppress(zlib.error):
        notes.feed(memoryview(packed))
        notes.finish()
    return notes.size


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment up to the end-of-image marker, which must be there."""
    position, count = len(b"\xff\xd8"), 0
    while found := _MARKER.search(data, position):
        count += 1
        if count > _MAX_SEGMENTS:
            raise _damaged(_NO_PHOTOGRAPH)
        marker, position = data[found.end() - 1], found.end()
        if marker not in (_TEM, _SOI, _EOI):
            position += max(2, int.from_bytes(data[position : position + 2], "big"))
            if position > len(data):
                break
        yield marker, found.start(), position
        if marker == _EOI:
            return
    raise _damaged("this one ends too early")


def _jpeg_header(data: bytes) -> Header:
    for marker, start, end in _jpeg_segments(data):
        if marker in _FRAMES and end - start >= 10:
            height = int.from_bytes(data[start + 5 : start + 7], "big")
            width = int.from_bytes(data[start + 7 : start + 9], "big")
            if width and height:
                return Header("JPEG", width, height)
    raise _damaged("this one has no JPEG header")


def _check_jpeg(data: bytes, header: Header) -> None:
    """Walk to the end of the first picture (MPO files hold more), then let Pillow decode it."""
    view = memoryview(data)
    kept = [view[:2]]
    frames: list[int] = []
    scans = first_scan = stop = 0
    for marker, start, end in _jpeg_segments(data):
        if marker in _FRAMES:
            frames.append(marker)
        if marker == _SOS:
            scans += 1
            first_scan = first_scan or start
        # Application data and comments stay out: Pillow would parse them, warn about them, be attacked through them.
        elif not scans and not 0xE0 <= marker <= 0xEF and marker != _COM:
            kept.append(view[start:end])
        stop = end
    if len(frames) != 1 or not 1 <= scans <= _MAX_SCANS:
        raise _damaged(_NO_PHOTOGRAPH)
    buffered = scans > 1 or frames[0] not in _SEQUENTIAL
    if buffered and header.width * header.height > _MAX_BUFFERED_PIXELS:
        return
    kept.append(view[first_scan:stop])
    _decode_jpeg(_Joined(kept), header)


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


def _decode_jpeg(stream: _Joined, header: Header) -> None:
    """Decode at an eighth of the size, which reads all of the file and keeps little of it."""
    # The class itself, not Image.open: no other plugin is tried, and there is no bomb warning (our limits came first).
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        with JpegImageFile(stream) as image:  # type: ignore[arg-type]
            image.draft("L", (max(1, header.width // 8), max(1, header.height // 8)))
            image.load()
    except Exception:  # Pillow promises no list of what it raises for a file made in bad faith
        raise _damaged("the pixels of this one cannot be decoded") from None
