"""The emulator in the harness, and a TCP proxy before it that stalls or drops bytes in the middle of a message."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.integration.emulated import KEY, Emulator
from tests.system.processes import HOST, free_port
from tests.waiting import until


class Gateway:
    """An emulator that can be killed and started again, on the same port and with the same tasks.

    :param folder: keeps its tasks
    :param arguments: more of its command line
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self._arguments = ("--port", str(self.port), "--state-dir", str(folder), *arguments)
        self.emulator = Emulator(*self._arguments)
        self.url = self.emulator.url

    def start(self) -> None:
        """Start it again."""
        self.emulator = Emulator(*self._arguments)

    def kill(self) -> None:
        """SIGKILL."""
        self.emulator.process.kill()
        self.emulator.process.communicate()

    def stop(self) -> None:
        """End it."""
        self.emulator.stop()

    def fault(self, on: str, kind: str, **more: Any) -> None:
        """Ask for trouble; see docs/emulator.md."""
        self.emulator.fault(on=on, kind=kind, **more)

    def calm(self) -> None:
        """Forget the faults and let go what is held."""
        self.emulator.call("DELETE", "/emulator/faults")
        self.release()

    def release(self) -> None:
        """Let go what is held."""
        self.emulator.call("POST", "/emulator/release")

    def held(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many requests are held, and return them."""

        def look() -> list[dict[str, Any]]:
            held = self.emulator.call("GET", "/emulator/held")["held"]
            return list(held) if len(held) >= count else []

        return until(look, f"{count} requests are held")

    def asked(self, method: str, path: str = "", **like: Any) -> int:
        """Return how many such requests were answered."""
        seen = self.emulator.requests(method, path)
        return sum(all(one[name] == value for name, value in like.items()) for one in seen)

    def generations(self) -> dict[str, dict[str, Any]]:
        """Return every generation, paid or given back, by id."""
        ledger = self.emulator.ledger()
        return {one["id"]: one for one in [*ledger["paid"], *ledger["failed"]]}

    def video(self, kirin_task_id: str) -> bytes:
        """Return the video of a generation."""
        url = self.emulator.call("GET", f"/model/v1/generation/task/{kirin_task_id}")["output"][0]["content"][0]["url"]
        with requests.Session() as http:
            http.trust_env = False
            return http.get(url, timeout=60).content


__all__ = ["KEY", "Gateway", "Proxy"]


@dataclass
class _Stall:
    """Where a message stops: the request that begins so, or the response to it, after so many bytes."""

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
            upstream = socket.create_connection(self._upstream_address, timeout=60)
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
