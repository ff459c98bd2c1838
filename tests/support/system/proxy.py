"""A TCP proxy that stalls or drops bytes in the middle of a message."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field

from tests.support.system.processes import HOST
from tests.support.waiting import HANG


@dataclass
class _Stall:
    """Where a message stops: the request that begins so, or the response to it, after this many bytes."""

    begins: bytes
    after: int
    response: bool
    cut: bool
    reached: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Passes bytes on, but for one message that it stalls for ever, or cuts, in the middle.

    :param port: where it passes them to
    """

    def __init__(self, port: int) -> None:
        self._upstream = (HOST, port)
        self._server = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._server.getsockname()[1]}"
        self._stalls: list[_Stall] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, begins: bytes, after: int, *, response: bool = False, cut: bool = False) -> threading.Event:
        """Stop the next message of a kind.

        :param begins: how the request begins, such as ``b"POST "``
        :param after: the bytes of it that still pass
        :param response: whether it is the response to that request that stops
        :param cut: whether the client's socket is closed then, too; otherwise it hears nothing any more
        :return: is set when it happened
        """
        stall = _Stall(begins, after, response, cut)
        self._stalls.append(stall)
        return stall.reached

    def calm(self) -> None:
        """Forget what has not happened yet."""
        self._stalls.clear()

    def stop(self) -> None:
        """Take no more connections."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=_Pipe(self, client, self._upstream).run, daemon=True).start()

    def take(self, request: bytes, *, response: bool) -> _Stall | None:
        """Return the stall that is meant for a message, once."""
        for stall in self._stalls:
            if stall.response == response and request.startswith(stall.begins):
                self._stalls.remove(stall)
                return stall
        return None


class _Pipe:
    """One connection; HTTP/1.1 without pipelining, so a request begins where the client speaks after a response."""

    def __init__(self, proxy: Proxy, client: socket.socket, upstream: tuple[str, int]) -> None:
        self._proxy = proxy
        self._client = client
        self._upstream_address = upstream
        self._request = b""
        self._in_request = False

    def run(self) -> None:
        """Pass bytes both ways until a side closes."""
        try:
            upstream = socket.create_connection(self._upstream_address, timeout=HANG)
        except OSError:
            self._client.close()
            return
        upstream.settimeout(None)
        back = threading.Thread(target=self._responses, args=(upstream,), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            self._requests(upstream)
        for side in (upstream, self._client):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def _requests(self, upstream: socket.socket) -> None:
        stall, passed = None, 0
        while data := self._client.recv(65_536):
            if not self._in_request:
                self._request, self._in_request, passed = data[:256], True, 0
                stall = self._proxy.take(self._request, response=False)
            if stall is not None and passed + len(data) >= stall.after:
                upstream.sendall(data[: stall.after - passed])
                self._hang(stall)
                return
            upstream.sendall(data)
            passed += len(data)

    def _responses(self, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._pass_responses(upstream)
        # The gateway closed, or cut: so does the proxy.
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _pass_responses(self, upstream: socket.socket) -> None:
        stall, passed = None, 0
        while data := upstream.recv(65_536):
            if self._in_request:
                self._in_request, passed = False, 0
                stall = self._proxy.take(self._request, response=True)
            if stall is not None and passed + len(data) >= stall.after:
                self._client.sendall(data[: stall.after - passed])
                self._hang(stall)
                return
            self._client.sendall(data)
            passed += len(data)

    def _hang(self, stall: _Stall) -> None:
        """Pass nothing any more; a client that leaves, or dies, ends the connection."""
        stall.reached.set()
        if stall.cut:
            self._client.shutdown(socket.SHUT_RDWR)
            return
        while self._client.recv(65_536):
            pass
