"""One aiohttp session for all that wait in one event loop with one connection."""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_kirin.api.pace import Pace
from airflow_provider_kirin.hooks.connection import KirinConnection, missing_connection, read_connection
from airflow_provider_kirin.hooks.http import check_bundle, verify_with

if TYPE_CHECKING:
    import aiohttp

#: Sockets to the gateway that one process keeps: thousands of waits need few, a look takes milliseconds.
MOST_SOCKETS = 32
#: Who joins later than this reads the connection anew, since its key may have been changed. Seconds.
LONGEST_USE = 300.0


class SharedSession:
    """A session that opens when the first one joins and closes when the last one leaves.

    :param kirin_conn_id: the connection
    """

    # Per event loop: a session must not outlive its loop, and tests have many loops.
    _open: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedSession]]] = WeakKeyDictionary()

    connection: KirinConnection
    session: aiohttp.ClientSession

    def __init__(self, kirin_conn_id: str) -> None:
        self._conn_id = kirin_conn_id
        self.pace = Pace()
        self._users = 0
        self._opened_at = time.monotonic()
        self._ready: asyncio.Task[None] | None = None

    @classmethod
    async def join(cls, kirin_conn_id: str) -> SharedSession:
        """Return the session of this loop and connection, opened if need be; :meth:`leave` it afterwards.

        :param kirin_conn_id: the connection
        :raises KirinConfigError: where the connection cannot be used
        """
        by_conn = cls._open.setdefault(asyncio.get_running_loop(), {})
        if kirin_conn_id in by_conn and by_conn[kirin_conn_id]._opened_at + LONGEST_USE < time.monotonic():
            by_conn[kirin_conn_id].retire()
        shared = by_conn.setdefault(kirin_conn_id, cls(kirin_conn_id))
        shared._users += 1
        try:
            if shared._ready is None:
                shared._ready = asyncio.create_task(shared._start())
            # Shielded: who is cancelled while it opens must not take the others along.
            await asyncio.shield(shared._ready)
        except BaseException:
            await shared.leave()
            raise
        return shared

    def retire(self) -> None:
        """Let nobody join any more: who comes next reads the connection anew. Who is here may stay."""
        by_conn = self._open.get(asyncio.get_running_loop(), {})
        if by_conn.get(self._conn_id) is self:
            del by_conn[self._conn_id]

    async def leave(self) -> None:
        """Give the session back; the last one closes it."""
        self._users -= 1
        if self._users:
            return
        self.retire()
        if self._ready is not None:
            await asyncio.wait([self._ready])
            if self._ready.exception() is None:
                await self.session.close()

    async def _start(self) -> None:
        # The import takes 0.2 s and the look-up of a connection may block: neither may stop the loop.
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
        try:
            conn = await get_async_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise missing_connection(self._conn_id, error) from None
        self.connection = read_connection(conn, await get_async_extra_dejson(conn))
        tls = await asyncio.to_thread(check_bundle, verify_with(self.connection))
        seconds = self.connection.timeout
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MOST_SOCKETS, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=2 * seconds, sock_connect=seconds, sock_read=seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
