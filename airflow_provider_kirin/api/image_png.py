"""What is inside a PNG file: its header, and whether the rest of it is whole.

Each chunk's checksum is verified, which finds whatever went wrong after the file was written. What was written wrong is
looked for in the first megabytes of the pixels, and in all of them where there are no more. Unpacking all of a large
picture takes longer than submitting it. Nothing that is unpacked is kept, and notes (texts, colour profiles) are never
parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from airflow_provider_kirin.api.image_file import Header, UnfitFile, damaged

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

_STEP: Final = 64 * 1024
#: Bytes of a picture that are unpacked at most.
_MAX_UNPACKED: Final = 2 * 1024 * 1024
#: All compressed notes of one PNG together may unpack to this much; real ones need a few hundred kB.
_MAX_NOTES: Final = 16 * 1024 * 1024
#: PNG colour type -> samples a pixel, bit depths allowed.
_COLOURS: Final = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}
#: x0, y0, dx, dy of the seven passes of an interlaced PNG.
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def read_header(data: bytes) -> Header:
    """Read the header of a file that begins with the signature.

    :param data: the file, or as much of its beginning as there is
    :raises UnfitFile: the header is damaged or missing
    """
    width, height = _header(data)[:2]
    return Header("PNG", width, height)


def check_body(data: bytes) -> None:
    """Look through the whole file for damage, in bounded memory and time.

    :param data: the whole file
    :raises UnfitFile: the file is cut, damaged, animated or built to overwhelm its reader
    """
    import zlib

    expected = _unpacked_size(data)
    pixels, notes_left, previous = _Inflater(expected, enough=_MAX_UNPACKED), _MAX_NOTES, b""
    for kind, body in _chunks(data):
        if kind == b"acTL":
            raise UnfitFile("the image must be a still one; this PNG is animated", "Export one frame of it.")
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            notes_left -= _size_of_notes(kind, body, notes_left)
        elif kind == b"IDAT":
            if pixels.size and previous != kind:
                raise damaged("the pixels of this one are scattered over the file")
            try:
                pixels.feed(body)
            except zlib.error:
                raise damaged("the pixels of this one cannot be unpacked") from None
        previous = kind
    if not pixels.is_whole(expected):
        raise damaged("pixels are missing in this one")


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and body of each chunk up to IEND, which must be there."""
    import zlib

    view = memoryview(data)
    position = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        kind = data[position + 4 : position + 8]
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        if end + 4 > len(data):
            raise damaged("this one ends too early")
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise damaged("a checksum in this one is wrong")
        yield kind, view[position + 8 : end]
        position = end + 4


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Return width, height, bits a pixel, and 1 if interlaced."""
    import struct

    kind, body = next(_chunks(data))
    if kind != b"IHDR" or len(body) != 13:
        raise damaged("this one has no PNG header")
    width, height, depth, colour, packing, filtering, interlaced = struct.unpack(">IIBBBBB", body)
    samples, depths = _COLOURS.get(colour, (0, ()))
    if not (width and height and depth in depths) or packing or filtering or interlaced > 1:
        raise damaged("the PNG header of this one makes no sense")
    return width, height, depth * samples, interlaced


def _unpacked_size(data: bytes) -> int:
    """Return the exact number of bytes that the pixels of this PNG take before compression."""
    width, height, bits, interlaced = _header(data)
    total = 0
    for x0, y0, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x0 - width) // dx), -((y0 - height) // dy)
        if columns > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


class _Inflater:
    """Counts what a zlib stream unpacks to and keeps none of it.

    :param limit: the most that it may unpack to
    :param enough: where to stop looking, None for at the end
    """

    def __init__(self, limit: int, *, enough: int | None = None) -> None:
        import zlib

        self._stream = zlib.decompressobj()
        self._limit = limit
        self._enough = limit + 1 if enough is None else enough
        self.size = 0

    def feed(self, packed: memoryview) -> None:
        for start in range(0, len(packed), _STEP):
            pending: bytes | memoryview = packed[start : start + _STEP]
            # Past the end, zlib would collect all that follows, copying it again for each piece.
            while pending and not self._stream.eof and self.size < self._enough:
                self._count(self._stream.decompress(pending, _STEP))
                pending = self._stream.unconsumed_tail

    def is_whole(self, expected: int) -> bool:
        """Say whether the stream came to its proper end and gave so many bytes, as far as it was looked at."""
        if self.size >= self._enough:
            return True
        self._count(self._stream.flush())
        return self._stream.eof and self.size == expected

    def _count(self, unpacked: bytes) -> None:
        self.size += len(unpacked)
        if self.size > self._limit:
            raise damaged("this one unpacks to far more than a picture of its size holds")


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
    return notes.size
