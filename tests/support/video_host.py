"""A host of videos on loopback that knows ranges and validators, and that cuts, changes and refuses on request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MEGABYTE = 1_000_000
#: A file that begins as an MP4 does.
START = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"


def video(size: int, seed: int = 0) -> bytes:
    """Return this many bytes that look like an MP4: two boxes, the second different for each seed and offset."""
    block = bytes((seed + offset * 7) % 251 for offset in range(251 * 40))
    head = START + (size - len(START)).to_bytes(4) + b"mdat"
    return (head + block * (size // len(block) + 1))[:size]


def is_mp4(data: bytes) -> bool:
    """Return whether it is an MP4, as the emulator renders it."""
    return data[4:8] == b"ftyp" and b"moov" in data


@dataclass
class VideoHost:
    """Serves one file under every path.

    :param body: the file
    :param address: of loopback
    """

    body: bytes
    address: str = "127.0.0.1"
    #: More header fields of a 200 and of a 206.
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    kind: str = "video/mp4"
    knows_ranges: bool = True
    heeds_if_range: bool = True
    #: Whether the length is announced.
    says_length: bool = True
    #: What meets the next requests: a status (from 400 to 599), a number of bytes after which the response is cut, an
    #: address to redirect to, or nothing.
    turns: list[int | str | None] = field(default_factory=list)
    #: Called before each answer.
    before: Callable[[VideoHost], None] = lambda host: None
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host.requests.append(
                    {"path": self.path, **{name.lower(): value for name, value in self.headers.items()}}
                )
                host.before(host)
                with suppress(OSError):
                    host.answer(self)
                self.close_connection = True

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((self.address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{self.address}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> VideoHost:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def ranges(self) -> list[str | None]:
        """What each request asked for."""
        return [request.get("range") for request in self.requests]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        turn = self.turns.pop(0) if self.turns else None
        if isinstance(turn, str):
            handler.send_response(302)
            handler.send_header("Location", turn)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if turn is not None and 400 <= turn < 600:
            handler.send_response(turn)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = self._start(handler)
        rest = self.body[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", self.kind)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(rest)))
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        self._send(handler, rest if turn is None else rest[:turn])

    def _start(self, handler: BaseHTTPRequestHandler) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if not self.knows_ranges or not found:
            return 0
        asked = handler.headers.get("If-Range")
        if self.heeds_if_range and asked not in (None, *self.headers.values()):
            return 0
        return int(found[1])

    def _send(self, handler: BaseHTTPRequestHandler, data: bytes) -> None:
        # Counted first: a client that has received it may check at once.
        self.sent += len(data)
        handler.wfile.write(data)
        handler.wfile.flush()


class EndlessHost(VideoHost):
    """Sends more than it holds, under ``/large``."""

    def __init__(self, body: bytes, large: int) -> None:
        self.large = large
        super().__init__(body)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        large = self.large if "large" in handler.path else MEGABYTE
        handler.send_response(200)
        handler.send_header("Content-Type", "video/mp4")
        handler.send_header("Content-Length", str(large))
        handler.end_headers()
        while large:
            self._send(handler, self.body[:large])
            large -= min(large, len(self.body))
