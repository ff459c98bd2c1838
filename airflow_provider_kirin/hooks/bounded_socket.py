"""A socket that receives little at a time and not much in all, so that no response holds up the event loop."""

from __future__ import annotations

import socket
from typing import Any

from airflow_provider_kirin.api.requests import MAX_RESPONSE_BYTES

#: Bytes that are received at a time. asyncio would take 256 KiB, and aiohttp parses in one go what has arrived: ten
#: thousand interim responses, for example, in a quarter of a second.
MAX_READ = 1024
#: Bytes that may follow a request. The body has its own limit; this one includes headers, interim responses, chunk
#: extensions and trailers.
MAX_RECEIVED = 2 * MAX_RESPONSE_BYTES


class BoundedSocket(socket.socket):
    """A socket for aiohttp's ``socket_factory``."""

    _received = 0

    @classmethod
    def create(cls, address: tuple[Any, ...]) -> BoundedSocket:
        """Return a socket for an address.

        :param address: as :func:`socket.getaddrinfo` returns it
        """
        family, kind, protocol, *_ = address
        return cls(family, kind, protocol)

    def recv(self, *args: Any) -> bytes:
        """Receive some bytes."""
        size, *flags = args
        data = super().recv(min(size, MAX_READ), *flags)
        self._count(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        """Receive some bytes into a buffer."""
        buffer, *_ = args
        size = super().recv_into(memoryview(buffer)[:MAX_READ])
        self._count(size)
        return size

    def send(self, *args: Any) -> int:
        """Send (a part of) a request."""
        self._received = 0
        return super().send(*args)

    def sendmsg(self, *args: Any) -> int:
        """Send (a part of) a request."""
        self._received = 0
        return super().sendmsg(*args)

    def _count(self, size: int) -> None:
        self._received += size
        if self._received > MAX_RECEIVED:
            raise ConnectionAbortedError(f"more than {MAX_RECEIVED:,} bytes with headers and interim responses")
