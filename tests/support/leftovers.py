"""What a piece of code has left behind: threads, sockets, and what an error shows."""

from __future__ import annotations

import threading
import traceback
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


def everything_shown(error: BaseException) -> str:
    """Return all that a log or a UI may show of an error."""
    return "\n".join([str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)])
