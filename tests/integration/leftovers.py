"""What a piece of code has left behind in this process: threads and sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("kirin")}


def _connections() -> set[tuple[object, ...]]:
    """Return the connections that this process has opened, not those that its test servers have accepted."""
    found = psutil.Process().net_connections("tcp")
    served = {entry.laddr.port for entry in found if entry.status == psutil.CONN_LISTEN}
    return {(entry.laddr, entry.raddr) for entry in found if entry.raddr and entry.laddr.port not in served}


@contextmanager
def left_behind() -> Iterator[Callable[[], None]]:
    """Give a function that asserts, afterwards, that no thread of ours and no connection is there that was not."""
    before = _connections()

    def nothing() -> None:
        assert not _threads()
        left = _connections() - before
        assert not left, left

    yield nothing
