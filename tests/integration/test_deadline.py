"""A call has an end, whatever the other side does and in whichever phase, and leaves no thread and no socket behind."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from airflow_provider_kirin.exceptions import KirinError, KirinNetworkError, KirinResponseError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.utils.deadline import Deadline, DeadlineError
from tests.support.leftovers import left_behind
from tests.support.raw_server import TASK, WAYS, RawServer, dripping, endless, phases, replying, whole
from tests.support.waiting import HANG

PHASES = phases("application/json", b"{}") | {
    "in the body": (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b" "),
}
#: The second one if this process, in which the server is a thread, stands still.
TOO_LATE = "not complete within 1 s|timed out"


@pytest.fixture
def hook(connect) -> Iterator[Callable[..., KirinHook]]:
    with ExitStack() as open_hooks:
        yield lambda url, **extra: open_hooks.enter_context(closing(KirinHook(connect(url, timeout=0.5, **extra))))


@pytest.fixture
def payload(image_bytes) -> dict[str, Any]:
    return {"image": image_bytes, "prompt": "a vase turns"}


def lose(hook: KirinHook, call: Callable[[], Any], *errors: type[KirinError]) -> Any:
    """Make a call that has to end without a response, though the server never ends, and leave nothing behind."""
    with left_behind() as nothing, pytest.raises(errors or KirinNetworkError) as caught:
        call()
    nothing()
    # A process that stands still before it connects has no time left to: that says nothing.
    return lose(hook, call, *errors) if "No time is left" in str(caught.value) else caught.value


class TestEveryPhaseIsBounded:
    @pytest.mark.parametrize("phase", PHASES)
    def test_when_it_drips(self, raw_server, hook, payload, phase):
        kirin = hook(raw_server(dripping(*PHASES[phase])).url)
        for call in (lambda: kirin.get_task("one", patience=0), lambda: kirin.submit(payload)):
            error = lose(kirin, call)
            assert error.sent and re.search(TOO_LATE, str(error))

    @pytest.mark.parametrize("phase", [phase for phase in PHASES if not phase.startswith("in ")])
    def test_when_it_floods(self, raw_server, hook, phase):
        beginning, again = PHASES[phase]
        kirin = hook(raw_server(endless(beginning, again * 1000)).url)
        # Which limit is met first, that of time or that of bytes, depends on the machine.
        error = lose(kirin, lambda: kirin.get_task("one", patience=0), KirinNetworkError, KirinResponseError)
        assert error.sent if isinstance(error, KirinNetworkError) else "is longer than" in str(error)

    def test_a_tls_handshake(self, hook):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=drip_handshakes, args=(listening,), daemon=True).start()
            kirin = hook(f"https://127.0.0.1:{listening.getsockname()[1]}", verify=False)
            lose(kirin, lambda: kirin.get_task("one", patience=0))
            listening.shutdown(socket.SHUT_RDWR)

    def test_a_body_over_tls(self, authority, hook):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=drip_over_tls, args=(listening, authority.server), daemon=True).start()
            kirin = hook(f"https://127.0.0.1:{listening.getsockname()[1]}", verify=str(authority.bundle))
            assert lose(kirin, lambda: kirin.get_task("one", patience=0)).sent
            listening.shutdown(socket.SHUT_RDWR)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_proxy(self, raw_server, hook, scheme):
        proxy = raw_server(dripping(b"HTTP/1.1 200 OK\r\nX-Long: "))
        kirin = hook(f"{scheme}://gateway.invalid", proxies=proxy.url)
        lose(kirin, lambda: kirin.get_task("one", patience=0))
        assert len(proxy.requests) == 1

    def test_a_gateway_that_does_not_read(self, hook, payload):
        """The request is given up, so the rest of it must not arrive later: it may have been sent again by then."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            kirin = hook(f"http://127.0.0.1:{listening.getsockname()[1]}")
            assert lose(kirin, lambda: kirin.submit(payload)).sent
            accepted, _ = listening.accept()
            with accepted:
                accepted.settimeout(HANG)
                with pytest.raises(ConnectionResetError):
                    read_all(accepted)

    def test_a_response_that_urllib3_refuses(self, raw_server, hook, payload):
        kirin = hook(raw_server(WAYS["two content lengths"]).url)
        assert lose(kirin, lambda: kirin.submit(payload)).sent

    def test_several_in_a_row(self, raw_server, hook):
        server = raw_server(dripping(b"HTTP/1.1 200 OK\r\nX-Long: "))
        kirin = hook(server.url)
        with left_behind() as nothing:
            for _ in range(3):
                with pytest.raises(KirinNetworkError):
                    kirin.get_task("one", patience=0)
        nothing()

    def test_on_a_connection_that_was_kept_open(self, raw_server, hook):
        good = whole(TASK, headers={"Connection": "keep-alive"})

        def answer(connection: Any, server: RawServer) -> None:
            server.send(connection, good)
            connection.recv(65536)
            dripping(b"HTTP/1.1 200 OK\r\nX-Long: ")(connection, server)

        server = raw_server(answer)
        kirin = hook(server.url)
        with left_behind() as nothing:
            assert kirin.get_task("kirin-1").status == "completed"
            with pytest.raises(KirinNetworkError, match=TOO_LATE):
                kirin.get_task("kirin-1", patience=0)
        nothing()
        assert len(server.requests) == 1


def drip_handshakes(listening: socket.socket) -> None:
    """Begin each handshake with a record of 16 kB that comes byte by byte."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            try:
                connection.sendall(b"\x16\x03\x03\x40\x00")
                while not threading.Event().wait(0.05):
                    connection.sendall(b"\x02")
            except OSError:
                pass


def drip_over_tls(listening: socket.socket, context: ssl.SSLContext) -> None:
    try:
        connection, _ = listening.accept()
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not threading.Event().wait(0.05):
                secure.sendall(b" ")
    except OSError:
        pass


class TestADeadline:
    def test_a_deadline_that_is_met_changes_nothing(self, raw_server, hook):
        with left_behind() as nothing:
            kirin = hook(raw_server(replying(whole(TASK))).url)
            assert kirin.get_task("kirin-1").status == "completed"
        nothing()

    def test_of_an_inner_one_ends_with_it(self):
        left, right = socket.socketpair()
        with left, right, Deadline(60) as outer:
            with pytest.raises(DeadlineError):
                wait_for(left, Deadline(0.1))
            outer.check()

    def test_what_is_watched_too_late_is_shut_down_at_once(self):
        left, right = socket.socketpair()
        with left, right, pytest.raises(DeadlineError):
            wait_for(left, Deadline(0.05), late=True)

    def test_what_ends_the_process_is_not_replaced(self):
        left, right = socket.socketpair()
        with left, right, pytest.raises(KeyboardInterrupt):
            wait_for(left, Deadline(0.05), then=KeyboardInterrupt)

    def test_a_deadline_that_is_moved_ends_later(self):
        left, right = socket.socketpair()
        began = time.monotonic()
        with left, right, pytest.raises(DeadlineError):
            wait_for(left, Deadline(2), again=3)
        assert time.monotonic() - began > 2.4

    def test_a_deadline_that_is_paused_does_not_count(self):
        left, right = socket.socketpair()
        with left, right, Deadline(1) as deadline:
            deadline.watch(left, left.close)
            deadline.pause()
            threading.Event().wait(1.5)


def read_all(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def wait_for(
    sock: socket.socket,
    deadline: Deadline,
    *,
    late: bool = False,
    again: int = 0,
    then: type[BaseException] | None = None,
) -> None:
    """Wait for a byte that does not come, until a deadline ends the wait."""
    with deadline:
        while late and deadline.left > -0.1:
            threading.Event().wait(0.02)
        deadline.watch(sock, sock.close)
        for _ in range(again):
            threading.Event().wait(0.15)
            deadline.restart()
        assert sock.recv(1) == b"", "shut down"
        if then:
            raise then
