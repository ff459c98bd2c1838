"""A real emulator process on a free port, and what tests say to it.

``emulator`` is one process for the whole session, emptied before each test; ``start_emulator`` starts more of them
with other arguments.
"""

from __future__ import annotations

import base64
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.support import waiting
from tests.support.emulator import Emulator


def until(look: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Look again and again until it is good."""
    (seen,) = waiting.until(lambda: [seen] if good(seen := look()) else None, "what is good", pause=0.02)
    return seen


@pytest.fixture(scope="session", name="until")
def until_fixture() -> Callable[..., Any]:
    """Poll until something is so."""
    return until


@pytest.fixture(scope="session")
def shared_emulator() -> Iterator[Emulator]:
    """One process for all tests that do not ask for special arguments."""
    emulator = Emulator("--seconds", "0", stderr=subprocess.PIPE)
    yield emulator
    code, errors = emulator.stop()
    assert (code, errors) == (0, ""), "the shared emulator logged an error or did not end cleanly"


@pytest.fixture
def emulator(shared_emulator: Emulator) -> Emulator:
    """The shared emulator, empty."""
    shared_emulator.reset()
    return shared_emulator


@pytest.fixture
def start_emulator() -> Iterator[Callable[..., Emulator]]:
    """Start emulators with arguments of the test's own; all are stopped at its end."""
    started: list[Emulator] = []

    def start(*arguments: str, **options: Any) -> Emulator:
        started.append(Emulator(*arguments, stderr=subprocess.PIPE, **options))
        return started[-1]

    yield start
    for emulator in started:
        emulator.stop()


def picture(width: int = 640, height: int = 360, kind: str = "JPEG", colour: str = "orange") -> bytes:
    """An image with something to recognize: a red left half, a coloured right half, a white bar."""
    image = Image.new("RGB", (width, height), "darkred")
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height), fill=colour)
    draw.rectangle((width // 3, height // 2, width // 2, height // 2 + height // 6), fill="white")
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


@pytest.fixture(scope="session", name="picture")
def picture_fixture() -> Callable[..., bytes]:
    """Draw an image."""
    return picture


@pytest.fixture(scope="session")
def image() -> str:
    """A landscape JPEG in base64, as a submit wants it."""
    return base64.b64encode(picture()).decode()


@pytest.fixture(scope="session")
def small_image() -> str:
    """A small square in base64: its video is rendered in half the time."""
    return base64.b64encode(picture(300, 300)).decode()


class Receiver:
    """An HTTP server of the test's own: it keeps what is POSTed and serves ``files``."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.files: dict[str, bytes] = {}
        self.answers: list[int] = []
        self.arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.arrived:
                    receiver.posts.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    status = receiver.answers.pop(0) if receiver.answers else 200
                    receiver.arrived.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                body = receiver.files.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, count: int, seconds: float = waiting.HANG) -> list[tuple[str, dict[str, str], bytes]]:
        """Return the posts, once there are that many."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.posts) >= count, seconds), f"only {len(self.posts)} arrived"
            return list(self.posts)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of callbacks, and a host of images."""
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
