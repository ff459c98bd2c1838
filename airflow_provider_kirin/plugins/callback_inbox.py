"""A bounded queue of callbacks: each generation is in it once at most, and nothing is held while its turn comes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from airflow_provider_kirin.api.callback_token import CallbackToken

log = logging.getLogger(__name__)

#: Callbacks whose turn has not come, in one API server process.
MAX_WAITING = 1000
#: The same with those that are held, because there will be more to do a little later.
MAX_HELD = 10_000
#: Callbacks that are handled at the same time.
HANDLERS = 4
#: Seconds between two lookups of the same generation, however often it is called back.
COOLDOWN = 1.0
#: Seconds before each further lookup, if the first finds that the callback came before its time.
RETRY_DELAYS = (1.0, 3.0, 9.0)


@dataclass(frozen=True)
class Handled:
    """What became of a callback.

    :param result: one word, for the metric
    :param again: whether a further lookup may find more
    :param wait: seconds until there is certainly more to do; None if that is not known
    :param keep: seconds since its arrival after which it is forgotten all the same
    """

    result: str
    again: bool = False
    wait: float | None = None
    keep: float = math.inf


@dataclass
class _Entry:
    token: CallbackToken
    #: When it arrived, by the clock of the event loop.
    since: float
    attempt: int = 0
    is_queued: bool = True
    #: Whether another callback arrived meanwhile.
    has_news: bool = False
    was_held: bool = False


class Inbox:
    """The callbacks of one API server process.

    :param handle: does what a callback asks for
    :param count: counts a result
    """

    def __init__(self, handle: Callable[[CallbackToken], Awaitable[Handled]], count: Callable[[str], None]) -> None:
        self._handle = handle
        self._count = count
        self._entries: dict[CallbackToken, _Entry] = {}
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue()

    def offer(self, token: CallbackToken) -> bool:
        """Take a callback, and return whether there was room for it.

        :param token: a genuine one
        """
        entry = self._entries.get(token)
        if entry is None:
            if self._queue.qsize() >= MAX_WAITING or len(self._entries) >= MAX_HELD:
                return False
            self._entries[token] = entry = _Entry(token, asyncio.get_running_loop().time())
            self._queue.put_nowait(entry)
        elif not entry.is_queued:
            # The generation may have changed since the last lookup.
            entry.has_news = True
        return True

    async def run(self) -> None:
        """Handle callbacks until it is cancelled."""
        async with asyncio.TaskGroup() as handlers:
            for _ in range(HANDLERS):
                handlers.create_task(self._run_one())

    async def _run_one(self) -> None:
        while True:
            entry = await self._queue.get()
            entry.is_queued = False
            try:
                handled = await self._handle(entry.token)
            except Exception:
                # It is only a hint: the wait keeps polling.
                log.exception("A Kirin callback could not be handled.")
                handled = Handled("error", again=True)
            is_held = handled.result == "held"
            if not (is_held and entry.was_held):
                self._count(handled.result)
            entry.was_held = is_held
            asyncio.get_running_loop().call_later(self._pause(entry, handled), self._settle, entry, handled)

    def _pause(self, entry: _Entry, handled: Handled) -> float:
        if handled.wait is not None:
            return handled.wait
        if handled.again and entry.attempt < len(RETRY_DELAYS):
            return RETRY_DELAYS[entry.attempt]
        return COOLDOWN

    def _settle(self, entry: _Entry, handled: Handled) -> None:
        """Queue a callback again, or forget it."""
        is_early = handled.again and entry.attempt < len(RETRY_DELAYS)
        is_held = handled.wait is not None and asyncio.get_running_loop().time() - entry.since < handled.keep
        if not (entry.has_news or is_early or is_held):
            del self._entries[entry.token]
            return
        entry.attempt = 0 if entry.has_news else entry.attempt + (handled.wait is None)
        entry.has_news, entry.is_queued = False, True
        self._queue.put_nowait(entry)
