"""The line of tasks that wait for a place in one account, in one triggerer.

All triggers of a triggerer share a process and an event loop, so those that watch generations can wake those that
wait for a place. The line is lost with the process and each triggerer has its own: who is next comes from the triggers'
arguments, and what one line does not see is found out by asking again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from airflow_provider_kirin.api.capacity import CapacityLine, Reason, Waiter
from airflow_provider_kirin.connection import KirinConnection


@dataclass
class Watch:
    """A generation that is being watched.

    :param has_ended: whether it was seen to end; set it before the watch is over
    """

    has_ended: bool = False


class AccountLine:
    """Wakes the waiters of one account when :class:`.CapacityLine` decides so."""

    # Per event loop: futures and timers must not outlive their loop, and tests have many loops.
    _lines: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Self]]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._line = CapacityLine()
        self._woken: dict[str, asyncio.Future[Reason]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, connection: KirinConnection) -> Self:
        """Return the line of a connection's account on this event loop.

        :param connection: the connection; those with the same host and key share a line
        """
        return cls._lines.setdefault(asyncio.get_running_loop(), {}).setdefault(connection.account, cls())

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Watch a generation: if it ends, a place is free."""
        watch = Watch()
        self._line.watch()
        try:
            yield watch
        finally:
            self._line.unwatch(ended_at=time.time() if watch.has_ended else None)
            if watch.has_ended:
                self._update()

    @contextmanager
    def join(self, waiter: Waiter) -> Iterator[asyncio.Future[Reason]]:
        """Wait in the line, and leave it at the end.

        :param waiter: the waiter
        :return: done when it is the waiter's turn, with the reason
        """
        woken: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self._woken[waiter.key] = woken
        self._line.join(waiter, time.time())
        self._update()
        try:
            yield woken
        finally:
            self._line.leave(waiter.key)
            del self._woken[waiter.key]
            self._update()

    def has_waiters(self) -> bool:
        """Return whether a task waits for a place here."""
        return bool(self._woken)

    def position_of(self, waiter: Waiter) -> tuple[int, int]:
        """Return a waiter's position, 1 for the next, and how many wait here.

        :param waiter: the waiter
        """
        return self._line.position_of(waiter.key)

    def _update(self) -> None:
        """Wake the waiters that are due, and run again when the next one may be."""
        for waiter, reason in self._line.due(now := time.time()):
            self._woken[waiter.key].set_result(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (check := self._line.next_check(now)) is not None:
            self._timer = asyncio.get_running_loop().call_later(max(check - now, 0.0), self._update)
