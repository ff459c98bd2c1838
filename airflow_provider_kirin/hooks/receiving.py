"""What comes over a connection, down to the last header: a host that sends next to nothing is hung up on."""

from __future__ import annotations

import time
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from socket import socket
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.transfer import LEAST, PERIOD, Flow

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class WatchedResponse(HTTPResponse):
    """Reads a reply, head and body, through a watch. A socket's timeout bounds one pause, not the sum of them.

    :param sock: the connection
    """

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = BufferedReader(_Watched(self.fp.detach()))


class _Watched(RawIOBase):
    def __init__(self, raw: RawIOBase) -> None:
        self._raw = raw
        self._flow = Flow()

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        began = time.monotonic()
        count = self._raw.readinto(buffer)
        if count and not self._flow.is_enough(count, time.monotonic() - began):
            raise ConnectionAbortedError(
                f"the host sends next to nothing: less than {LEAST / 1000:g} kB in {PERIOD:g} seconds"
            )
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
