"""The outermost boxes of an MP4 (ISO/IEC 14496-12, 4.2), followed while its bytes come in: is one of them cut?"""

from __future__ import annotations

_SHORT, _LONG = 8, 16
#: A size that says: the size follows, in 64 bits.
_SIZE_FOLLOWS = 1


class BoxParser:
    """Knows, at any byte of a file, whether it may end there. Keeps no bytes but those of a header."""

    def __init__(self) -> None:
        self._head = b""
        #: Bytes of the present box that are still to come.
        self._left = 0
        self._is_last = False

    @property
    def is_incomplete(self) -> bool:
        """Whether a box has begun and not ended."""
        return bool(self._head or self._left)

    def feed(self, data: bytes) -> None:
        """Go on.

        :param data: the next bytes of the file
        """
        at = 0
        while at < len(data) and not self._is_last:
            step = min(self._left, len(data) - at)
            self._left -= step
            at += step
            if not self._left:
                rest = data[at : at + self._missing()]
                at += len(rest)
                self._head += rest
                self._read_head()

    def _missing(self) -> int:
        """Return how many bytes the header lacks."""
        is_long = len(self._head) >= _SHORT and int.from_bytes(self._head[:4]) == _SIZE_FOLLOWS
        return (_LONG if is_long else _SHORT) - len(self._head)

    def _read_head(self) -> None:
        if self._missing():
            return
        size = int.from_bytes(self._head[:4] if len(self._head) == _SHORT else self._head[_SHORT:])
        # A size of 0 reaches to the end of the file, wherever that is; after one that cannot be, nobody can tell.
        self._is_last = size < len(self._head)
        self._left = 0 if self._is_last else size - len(self._head)
        self._head = b""
