"""Follow the top-level boxes of an MP4 (ISO/IEC 14496-12, 4.2) as its bytes arrive, to detect a truncated file."""

from __future__ import annotations

_SHORT, _LONG = 8, 16
#: This value of the size field means that a 64-bit size follows.
_SIZE_FOLLOWS = 1


class BoxParser:
    """Knows, at any byte of a file, whether it may end there. Buffers only the bytes of a header."""

    def __init__(self) -> None:
        self._head = b""
        #: Bytes of the current box that have not arrived yet.
        self._left = 0
        self._is_last = False

    @property
    def is_incomplete(self) -> bool:
        """Whether a box has begun but not ended."""
        return bool(self._head or self._left)

    def feed(self, data: bytes) -> None:
        """Parse the next bytes of the file."""
        position = 0
        while position < len(data) and not self._is_last:
            skipped = min(self._left, len(data) - position)
            self._left -= skipped
            position += skipped
            if not self._left:
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
        self._head = b""
