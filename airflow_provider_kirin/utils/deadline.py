"""A time limit for a whole HTTP exchange. A socket timeout bounds a single read or write, not their sum."""

from __future__ import annotations

import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType

#: How often the watching thread checks whether the deadline was moved, per length of the deadline.
_CHECKS = 10
#: SO_LINGER value that makes close() discard unsent data: an abandoned submission must not arrive later.
_RESET = struct.pack("ii", 1, 0)


class DeadlineError(OSError):
    """The exchange took too long, and its connections were shut down."""


class _Current(threading.local):
    deadline: Deadline | None = None


_current = _Current()


def current_deadline() -> Deadline | None:
    """Return the deadline that applies to this thread, if any."""
    return _current.deadline


class Deadline:
    """Bounds every phase of an exchange: TLS, sending, each interim response, header, chunk and trailer.

    Inside the context, the connections that a :class:`~airflow_provider_kirin.utils.session.IsolatedSession` opens or
    reuses are watched. At the deadline they are shut down, so that any call that blocks on them returns at once, and
    leaving the context raises. No thread or socket outlives it. A failed exchange is reset, so that data still in the
    kernel is never sent. Only a DNS lookup cannot be interrupted; the system's resolver has its own limits.

    :param seconds: from entering the context, or from the last :meth:`restart`
    :param reason: the message of the error
    """

    def __init__(self, seconds: float, reason: str | None = None) -> None:
        self._seconds = seconds
        self._reason = reason or f"not complete within {seconds:.0f} s"
        self._ends_at = math.inf
        self._outer: Deadline | None = None
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._close = ExitStack()
        self._is_over = self._has_shut_down = False
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kirin-deadline", daemon=True)

    def __enter__(self) -> Deadline:
        self.restart()
        self._thread.start()
        self._outer, _current.deadline = _current.deadline, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.deadline = self._outer
        self._has_ended.set()
        self._thread.join()
        has_failed = error is not None or self._has_shut_down
        if has_failed:
            # urllib3 may keep a connection that was shut down in its pool, and leave a response open whose headers it
            # refuses.
            self._close.close()
        for sock in self._sockets:
            with sock, suppress(OSError):
                if has_failed:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if error is None or isinstance(error, Exception):
            self.check()

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._ends_at - time.monotonic()

    def restart(self) -> None:
        """Start counting again from the full length."""
        self._ends_at = time.monotonic() + self._seconds

    def pause(self) -> None:
        """Stop counting until :meth:`restart`, for work that does not depend on the host."""
        self._ends_at = math.inf

    def check(self) -> None:
        """Raise if the deadline has passed. A connection that was shut down looks like a response that has ended.

        :raises DeadlineError: if the connections were shut down
        """
        if self._has_shut_down:
            raise DeadlineError(self._reason) from None

    def watch(self, sock: socket.socket, close: Callable[[], object]) -> None:
        """Shut a connection down at the deadline, even if its socket object has been replaced by then.

        :param sock: a connected socket, plain or TLS
        :param close: called on exit if the exchange has failed
        """
        self.close_on_failure(close)
        # TLS takes over the original, and urllib3 may close it before the body is read; a duplicate stays valid.
        duplicate = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            self._sockets.append(duplicate)
            if self._is_over:
                self._shut_down()

    def close_on_failure(self, close: Callable[[], object]) -> None:
        """Close something on exit if the exchange has failed.

        :param close: closes it; may be called again
        """
        self._close.callback(close)

    def _run(self) -> None:
        while not self._has_ended.wait(min(max(self.left, 0.0), self._seconds / _CHECKS)):
            if self.left <= 0:
                with self._lock:
                    self._is_over = True
                    self._shut_down()
                return

    def _shut_down(self) -> None:
        for sock in self._sockets:
            self._has_shut_down = True
            with suppress(OSError):  # the peer has closed it already
                sock.shutdown(socket.SHUT_RDWR)
