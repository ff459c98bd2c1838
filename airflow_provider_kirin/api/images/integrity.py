"""Read an image's dimensions with Pillow, and check that the file is complete and undamaged.

A PNG has a checksum per chunk, which detects any damage after the file was written, without decompressing the pixels. A
JPEG has no checksums, and a decoder accepts damaged pixels: so its end marker must be present, and its first rows must
decode, which requires intact tables. Decoding a large image completely takes longer than submitting it.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
#: Optional chunks that affect the picture: transparency and animation. All others (in lower case) are metadata.
_VISIBLE: Final = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
#: Maximum bytes per pixel, uncompressed and with all overhead, and bytes of a file besides its pixels.
_PIXEL, _OVERHEAD = 9, 4096
_JPEG_END: Final = b"\xff\xd9"
#: Markers of a scan and of the end: these bytes do not occur in pixel data.
_SCAN_OR_END: Final = re.compile(rb"\xff[\xd9\xda]")
#: A progressive JPEG has about ten scans. Thousands of them in a small file would keep a decoder busy for hours.
_MAX_SCANS: Final = 100
#: The rows of a JPEG that are decoded: its tallest unit has 32.
_ROWS: Final = 32
#: Bytes of compressed pixels that are decoded.
_SAMPLE: Final = 16 * 1024


class InvalidImage(Exception):
    """The file cannot be used as an image.

    :param rule: what is required, and what is wrong with this file
    :param remedy: how to fix it
    """

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


class CorruptImage(InvalidImage):
    """The file is damaged or incomplete.

    :param what: what is wrong, a clause about "this one"
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"the file must be complete and undamaged; {what}", "Copy or export the image again.")


class IncompleteFile(CorruptImage):
    """The end of the file is missing, and nothing else is wrong with it."""

    def __init__(self) -> None:
        super().__init__("this one ends too early")


@dataclass(frozen=True)
class Header:
    """The format and the dimensions in a file's header.

    :param format: ``JPEG`` or ``PNG``
    :param width: in pixels, as stored (EXIF orientation is not applied)
    :param height: in pixels
    """

    format: str
    width: int
    height: int


def read_header(data: bytes, file_format: str) -> Header:
    """Read the header of a file.

    :param data: the file, or as much of its beginning as there is
    :param file_format: ``JPEG`` or ``PNG``, by its first bytes
    :raises InvalidImage: the header is damaged or missing
    """
    image, _ = _open(strip_metadata(data) if file_format == "PNG" else data, file_format)
    return Header(file_format, *image.size)


def check_integrity(data: bytes, file_format: str) -> None:
    """Check the whole file for damage, in bounded memory and time.

    :param data: the whole file; anything after its first image (as in MPO files) is ignored
    :param file_format: ``JPEG`` or ``PNG``, by its first bytes
    :raises IncompleteFile: the file is truncated
    :raises InvalidImage: the file is damaged, animated or a decompression bomb
    """
    if file_format == "PNG":
        _check_png(strip_metadata(data))
    else:
        _check_jpeg(data)


def strip_metadata(data: bytes) -> bytes:
    """Return a PNG without text chunks, profiles, EXIF and other metadata, which some decoders fail on.

    :param data: the file, or as much of its beginning as there is
    """
    view, start, chunk_type = memoryview(data), len(_PNG_START), b""
    kept = [view[:start]]
    while start < len(data) and chunk_type != b"IEND":
        chunk_type, end = data[start + 4 : start + 8], start + 12 + int.from_bytes(view[start : start + 4], "big")
        if chunk_type[:1].isupper() or chunk_type in _VISIBLE:
            kept.append(view[start:end])
        start = end
    return b"".join(kept)


def _open(data: bytes, file_format: str) -> tuple[ImageFile, int]:
    """Return the image, without decoding its pixels, and the position where Pillow stopped reading."""
    # The classes instead of Image.open: no other plugin is tried, and no bomb warning is emitted (we check the limits).
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    file = BytesIO(data)
    try:
        with warnings.catch_warnings(action="ignore"):
            image = (PngImageFile if file_format == "PNG" else JpegImageFile)(file)
    except Exception:  # Pillow does not document what it raises for a malicious file
        raise CorruptImage(f"this one has no {file_format} header") from None
    return image, file.tell()


def _check_png(data: bytes) -> None:
    image, _ = _open(data, "PNG")
    if getattr(image, "is_animated", False):
        raise InvalidImage("the image must be a still image; this PNG is animated", "Export one frame of it.")
    if not data.endswith(_PNG_END):
        raise IncompleteFile
    if len(data) > _PIXEL * image.width * image.height + _OVERHEAD:
        raise CorruptImage("this one has far more data than an image of its size needs")
    try:
        pixels = image.tile[0][2]
        image.verify()
    except Exception:
        raise CorruptImage("this one has a wrong checksum") from None
    try:
        size = int.from_bytes(data[pixels - 8 : pixels - 4], "big")
        zlib.decompressobj().decompress(data[pixels : pixels + min(size, _SAMPLE)], _SAMPLE)
    except zlib.error:
        raise CorruptImage("the pixels of this one cannot be decompressed") from None


def _check_jpeg(data: bytes) -> None:
    image, scan = _open(data, "JPEG")
    markers = [found[0] for found in islice(_SCAN_OR_END.finditer(data, scan), _MAX_SCANS)]
    is_truncated = _JPEG_END not in markers
    if is_truncated and len(markers) == _MAX_SCANS:
        raise CorruptImage("this one has far more scans than a photograph")
    try:
        _open(_first_rows(data, image.size, scan), "JPEG")[0].load()
    except Exception:
        raise CorruptImage("the pixels of this one cannot be decoded") from None
    if is_truncated:
        raise IncompleteFile


def _first_rows(data: bytes, size: tuple[int, int], scan: int) -> bytes:
    """Return a JPEG with the same tables and fewer rows, so that decoding takes neither time nor memory."""
    width, height = size
    before, _, after = data[:scan].rpartition(struct.pack(">HH", height, width))
    lower = struct.pack(">HH", min(height, _ROWS), width)
    return b"".join((before, lower, after, data[scan : scan + _SAMPLE], _JPEG_END))
