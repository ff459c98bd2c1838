"""A time limit for a whole HTTP exchange. A socket's own timeout bounds one pause, not the sum of them."""

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

#: The watching thread looks this often whether the deadline was moved, as a fraction of its length.
_LOOKS = 10
#: Closing discards what was not sent: a submission must not arrive after it was given up.
_RESET = struct.pack("ii", 1, 0)


class DeadlineError(OSError):
    """An exchange took too long. Its connections were shut down."""


class _Current(threading.local):
    deadline: Deadline | None = None


_current = _Current()


def current_deadline() -> Deadline | None:
    """Return the deadline of what this thread does, if it has one."""
    return _current.deadline


class Deadline:
    """Bounds every phase of an exchange: TLS, sending, each interim response, header, chunk and trailer.

    The connections that a :class:`~airflow_provider_kirin.utils.session.IsolatedSession` opens or reuses inside of
    it are watched. When the time is up they are shut down, so that whatever blocks on one of them ends at once, and
    leaving the deadline raises. No thread and no socket outlives it. A failed exchange is reset: what the kernel has
    not sent by then is never sent. Only a DNS look-up cannot be interrupted: the system's resolver has its own limits.

    :param seconds: from entering, or from the last :meth:`restart`
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
        if self._has_shut_down:
            # One that was shut down may look whole to urllib3, which would keep it.
            self._close.close()
        has_failed = error is not None or self._has_shut_down
        for sock in self._sockets:
            with sock, suppress(OSError):
                if has_failed:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if error is None or isinstance(error, Exception):
            self.check()

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._ends_at - time.monotonic()

    def restart(self) -> None:
        """Begin to count anew."""
        self._ends_at = time.monotonic() + self._seconds

    def pause(self) -> None:
        """Stop counting until :meth:`restart`: the host is not to blame for what is done meanwhile."""
        self._ends_at = math.inf

    def check(self) -> None:
        """Raise if the exchange was cut off. A connection that is shut down looks like one that has ended.

        :raises DeadlineError: it was
        """
        if self._has_shut_down:
            raise DeadlineError(self._reason) from None

    def watch(self, sock: socket.socket, close: Callable[[], object]) -> None:
        """Shut a connection down when the time is up, whatever has become of the socket object by then.

        :param sock: connected, plain or TLS
        :param close: called afterwards if it was shut down
        """
        self._close.callback(close)
        # TLS takes the original over, and urllib3 may close it before the body is read; a duplicate stays valid.
        duplicate = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            self._sockets.append(duplicate)
            if self._is_over:
                self._shut_down()

    def _run(self) -> None:
        while not self._has_ended.wait(min(max(self.left, 0.0), self._seconds / _LOOKS)):
            if self.left <= 0:
                with self._lock:
                    self._is_over = True
                    self._shut_down()
                return

    def _shut_down(self) -> None:
        for sock in self._sockets:
            self._has_shut_down = True
            with suppress(OSError):  # the other side was faster
                sock.shutdown(socket.SHUT_RDWR)
