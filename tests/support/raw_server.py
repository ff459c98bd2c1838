"""A server on a bare socket, and the ways in which it may treat a client."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable
from itertools import count

from tests.support.emulator import KEY
from tests.support.waiting import HANG


class RawServer:
    """Reads one request per connection and hands the socket to a function; what is left open is closed after it.

    :param answer: gets the socket and this server
    :param port: 0 for a free one
    """

    def __init__(self, answer: Callable[[socket.socket, RawServer], None], port: int = 0) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.sent = 0
        self.stopping = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", port))
        # What a client has not read yet shall not pile up in the kernel: `sent` is to mean something.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send, and count."""
        connection.sendall(data)
        self.sent += len(data)

    def stop(self) -> None:
        """End all threads, also those that wait for a client."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join(HANG)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(HANG)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(HANG)
            request = _read_request(connection)
            if request:
                self.requests.append(request)
                self.answer(connection, self)


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return data
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def whole(
    body: bytes | str | dict[str, object],
    *,
    status: str = "200 OK",
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> bytes:
    """Return the bytes of a response; ``length`` may lie."""
    raw = json.dumps(body) if isinstance(body, dict) else body
    raw = raw.encode() if isinstance(raw, str) else raw
    fields = {
        "Content-Type": kind,
        "Content-Length": str(len(raw) if length is None else length),
        "Connection": "close",
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + raw


def replying(response: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Answer every request with the same bytes, then close."""
    return lambda connection, server: server.send(connection, response)


TASK = {"id": "kirin-1", "status": "completed", "output": [{"content": [{"type": "video", "url": "http://v/1.mp4"}]}]}
_GOOD = whole(TASK)


def _reset(connection: socket.socket, server: RawServer) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset_in_the_middle(connection: socket.socket, server: RawServer) -> None:
    server.send(connection, _GOOD[: len(_GOOD) // 2])
    _reset(connection, server)


def _drip(data: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Send a byte every tenth of a second, for ever."""

    def answer(connection: socket.socket, server: RawServer) -> None:
        for index in count():
            if server.stopping.wait(0.1):
                return
            server.send(connection, data[index : index + 1] or b" ")

    return answer


def _drip_body(connection: socket.socket, server: RawServer) -> None:
    head, _, body = whole(TASK, length=1000).partition(b"\r\n\r\n")
    server.send(connection, head + b"\r\n\r\n")
    _drip(body)(connection, server)


def _drip_chunks(connection: socket.socket, server: RawServer) -> None:
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    _drip(b"1\r\n \r\n" * 20)(connection, server)


def _endless_body(connection: socket.socket, server: RawServer) -> None:
    server.send(connection, b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not server.stopping.is_set() and server.sent < 100_000_000:
        server.send(connection, b" " * 65536)


def _endless_redirect(connection: socket.socket, server: RawServer) -> None:
    server.send(connection, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n")
    while not server.stopping.is_set() and server.sent < 100_000_000:
        server.send(connection, b" " * 65536)


def _endless_headers(connection: socket.socket, server: RawServer) -> None:
    server.send(connection, b"HTTP/1.1 200 OK\r\n")
    while not server.stopping.is_set() and server.sent < 100_000_000:
        server.send(connection, b"X-More: and more\r\n" * 1000)


def endless(beginning: bytes, again: bytes) -> Callable[[socket.socket, RawServer], None]:
    """Send the same again and again, as fast as the client takes it."""

    def answer(connection: socket.socket, server: RawServer) -> None:
        server.send(connection, beginning)
        while not server.stopping.is_set():
            server.send(connection, again)

    return answer


def dripping(beginning: bytes, again: bytes = b"x") -> Callable[[socket.socket, RawServer], None]:
    """Send the same again and again, now and then."""

    def answer(connection: socket.socket, server: RawServer) -> None:
        server.send(connection, beginning)
        while not server.stopping.wait(0.05):
            server.send(connection, again)

    return answer


def phases(content_type: str, first: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Return the phases of a response that a host can drag out: how each begins, and what may then come for ever."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n".encode()
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    whole_chunk = f"{len(first):x}\r\n".encode() + first + b"\r\n"
    return {
        "in the status line": (b"HTTP/1.1 200 ", b"O"),
        "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        "headers of an interim response": (b"HTTP/1.1 100 Continue\r\n", b"X-Hint: 1\r\n"),
        "in a header": (head + b"X-Long: ", b"x"),
        "in a chunk's extension": (chunked + b"1;x=", b"y"),
        "chunk extensions": (chunked + whole_chunk, b"1;x=" + b"y" * 1000 + b"\r\n \r\n"),
        "in a trailer": (chunked + whole_chunk + b"0\r\nX-Long: ", b"x"),
        "trailers": (chunked + whole_chunk + b"0\r\n", b"X-More: 1\r\n"),
    }


def _silence(connection: socket.socket, server: RawServer) -> None:
    server.stopping.wait()


def gzip_bomb(size: int = 300_000_000) -> bytes:
    """Return a response of a few hundred kilobytes that unpacks to ``size`` bytes."""
    packed = bytearray()
    block = gzip.compress(b" " * 10_000_000, compresslevel=9)
    for _ in range(size // 10_000_000):
        packed += block
    return whole(bytes(packed), headers={"Content-Encoding": "gzip"})


#: How a gateway may break off or break the rules: what a client makes of each has to be a KirinError.
WAYS: dict[str, Callable[[socket.socket, RawServer], None]] = {
    "reset after the request": _reset,
    "closed without a response": lambda connection, server: None,
    "reset in the middle": _reset_in_the_middle,
    "closed in the middle of the head": replying(_GOOD[:30]),
    "closed in the middle of the body": replying(_GOOD[:-20]),
    "content length too long": replying(whole(TASK, length=5000)),
    "content length too short": replying(whole(TASK, length=20)),
    "two content lengths": replying(_GOOD.replace(b"\r\n", b"\r\nContent-Length: 5\r\n", 1)),
    "silence": _silence,
    "the head drips": _drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200),
    "the body drips": _drip_body,
    "chunks drip": _drip_chunks,
    "an endless body": _endless_body,
    "endless headers": _endless_headers,
    "endless interim responses": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "endless trailers": endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X-More: 1\r\n" * 1000
    ),
    "a redirect with an endless body": _endless_redirect,
    "a redirect to no URL": replying(whole("", status="302 Found", headers={"Location": "http://[::1"})),
    "a gzip bomb": lambda connection, server: server.send(connection, gzip_bomb()),
    "broken gzip": replying(whole(b"\x1f\x8b\x08 no", headers={"Content-Encoding": "gzip"})),
    "a broken chunk": replying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"),
    "not HTTP": replying(b"SSH-2.0-OpenSSH_9.7\r\n"),
    "binary": replying(bytes(range(256)) * 8),
    "an empty body": replying(whole(b"")),
    "no JSON": replying(whole(b"{'id': 1")),
    "deep JSON": replying(whole(b"[" * 200_000)),
    "an array": replying(whole(b"[]")),
    "null": replying(whole(b"null")),
    "no fields": replying(whole({})),
    "not UTF-8": replying(whole(b'{"id": "\xff\xfe", "status": ')),
    "a surrogate": replying(whole(b'{"error": {"message": "\\ud800"}}', status="400 Bad Request")),
    "an HTML page": replying(whole("<!DOCTYPE html><html><title>Log in</title></html>", kind="text/html")),
    "an HTML error": replying(whole("<html>Bad Gateway</html>", status="502 Bad Gateway", kind="text/html")),
}

#: Responses in which a gateway repeats the key.
ECHOES: dict[str, bytes] = {
    "JSON error": whole({"error": {"code": KEY, "message": f"invalid token {KEY}"}}, status="401 Unauthorized"),
    "request id in the body": whole({"error": f"bad {KEY}", "request_id": KEY}, status="500 Internal Server Error"),
    "HTML": whole(f"<html>Authorization: Bearer {KEY}</html>", kind="text/html"),
    "text": whole(f"you said {KEY}", status="404 Not Found"),
    "X-Request-Id": whole({"error": "x"}, status="400 Bad Request", headers={"X-Request-Id": KEY}),
    "Location": whole("", status="302 Found", headers={"Location": f"http://127.0.0.1:1/{KEY}"}),
    "bare Location": whole("", status="302 Found", headers={"Location": KEY}),
    "task": whole({"id": KEY, "status": f"odd {KEY}"}),
    "failed task": whole({"id": "x", "status": "failed", "error": {"code": "1", "message": KEY}}),
    "status line": f"HTTP/1.1 banana {KEY}\r\n\r\n".encode(),
    "header name": f"HTTP/1.1 200 OK\r\nAuthorization was: Bearer {KEY}\r\n\r\n{{}}".encode(),
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n\r\n{{}}".encode(),
    "chunk size": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "echoed request": f"GET / HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode(),
    "echoed header": f"Authorization: Bearer {KEY}\r\n\r\n".encode(),
}
