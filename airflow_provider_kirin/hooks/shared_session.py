"""One HTTP session, rate limiter and circuit breaker, shared by all waits on one event loop with one connection."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_kirin.api.circuit_breaker import CircuitBreaker
from airflow_provider_kirin.api.rate_limiter import RateLimiter
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS, await_with_retries, fixed_delays
from airflow_provider_kirin.compat import get_async_extra_dejson
from airflow_provider_kirin.connection import KirinConnection, missing_connection, read_connection
from airflow_provider_kirin.exceptions import (
    KirinConfigError,
    KirinError,
    KirinRateLimitError,
    KirinUnavailableError,
)
from airflow_provider_kirin.hooks.bounded_socket import BoundedSocket
from airflow_provider_kirin.hooks.transport import check_bundle, proxy_for, verify_with

if TYPE_CHECKING:
    import aiohttp

#: Concurrent calls, and so sockets, of one process: thousands of waits need few, because a poll takes milliseconds.
MAX_CONNECTIONS = 32
#: Seconds after which another user looks a connection up anew, rather than join a lookup that has not ended.
MAX_LOOKUP_SECONDS = 60.0
#: Seconds after which a new user has the connection read again, because its key may have changed.
CONNECTION_TTL = 300.0
#: Seconds that the last poll of a wait may be queued beyond its deadline.
GRACE = 30.0
#: Seconds between checks by the waiter at the head of the queue.
_POLL_SECONDS = 1.0


class SharedSession:
    """A session that opens for its first user and closes after its last one.

    :param kirin_conn_id: the connection
    """

    # Per event loop: a session must not outlive its loop, and tests have many loops.
    _open: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedSession]]] = WeakKeyDictionary()

    connection: KirinConnection
    session: aiohttp.ClientSession
    proxy: str | None
    rate_limiter: RateLimiter

    def __init__(self, kirin_conn_id: str) -> None:
        self._conn_id = kirin_conn_id
        self.circuit_breaker = CircuitBreaker()
        # Both are fair: first come, first served. Only the waiter at the head of the line checks the clock, so that
        # ten thousand others wait without polling, and a change of the rate limit takes effect at once.
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._head_of_line = asyncio.Lock()
        self._users = 0
        self._read_at = time.monotonic()
        self._starting: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[KirinConnection] | None = None

    @classmethod
    async def acquire(cls, kirin_conn_id: str, *, reread: bool = False, patience: float | None = None) -> SharedSession:
        """Return the session of this loop and connection, opening it if necessary; :meth:`release` it afterwards.

        :param kirin_conn_id: the connection
        :param reread: whether to read the connection again, however recently it was read
        :param patience: seconds for which the first user looks up a connection again that is not found; None for as
            long as that makes sense
        :raises KirinConfigError: the connection cannot be used
        """
        while True:
            by_conn = cls._open.setdefault(asyncio.get_running_loop(), {})
            if (hanging := by_conn.get(kirin_conn_id)) and hanging._hangs():
                hanging._retire()
            shared = by_conn.setdefault(kirin_conn_id, cls(kirin_conn_id))
            shared._users += 1
            try:
                await shared._started(patience)
                if await shared._is_up_to_date(reread):
                    return shared
            except BaseException:
                await shared.release()
                raise
            shared._retire()
            await shared.release()
            # The new session is up to date. A secrets backend that issues a key per lookup would loop forever.
            reread = False

    async def release(self) -> None:
        """Release the session; its last user closes it."""
        self._users -= 1
        if self._users:
            return
        if self._is_starting:
            # The lookup of the connection may hang, and must not be cancelled: in a triggerer its response would be
            # taken for that of the next request. Its user does not wait for it, and the next one joins it.
            return
        self._retire()
        # Shielded: a second cancellation must not leave it open.
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        if self._starting is not None and not self._starting.cancelled() and self._starting.exception() is None:
            await self.session.close()

    @asynccontextmanager
    async def slot(self, patience: float | None) -> AsyncIterator[None]:
        """Wait until a call may be made, hold one of the connections for it, and learn from how the call ends.

        :param patience: seconds to wait at most, None for as long as it takes; a long queue is granted
            :data:`GRACE` more, an outage is not
        :raises KirinUnavailableError: the time is up
        """
        # Counted as a user: while it is queued, its hook may move on to a session with a new key.
        self._users += 1
        try:
            await self._acquire_slot(patience)
            try:
                yield
                self._learn(None)
            except KirinError as error:
                self._learn(error)
                raise
            finally:
                self._slots.release()
        finally:
            await self.release()

    async def _acquire_slot(self, patience: float | None) -> None:
        give_up_at = float("inf") if patience is None else time.monotonic() + patience
        try:
            async with asyncio.timeout(None if patience is None else patience + GRACE):
                await self._slots.acquire()
                try:
                    await self._wait_for_slot(give_up_at)
                except BaseException:
                    self._slots.release()
                    raise
        except TimeoutError:
            why = self.circuit_breaker.last_error or "other calls that share its requests_per_second come first"
            raise KirinUnavailableError(f"The gateway could not be asked within {patience:.0f} s: {why}") from None

    def _learn(self, error: KirinError | None) -> None:
        """Update the rate limiter and the circuit breaker with the result of a call."""
        now = time.monotonic()
        if isinstance(error, KirinRateLimitError):
            self.rate_limiter.on_rate_limited(now, error.retry_after)
        if self.circuit_breaker.record_result(error, now):
            self.rate_limiter.slow_start(now)

    async def _wait_for_slot(self, give_up_at: float) -> None:
        async with self._head_of_line:
            while delay := self._delay_until_allowed(now := time.monotonic()):
                if now + delay > give_up_at + (GRACE if self.circuit_breaker.last_error is None else 0.0):
                    raise TimeoutError
                await asyncio.sleep(min(delay, _POLL_SECONDS))

    def _delay_until_allowed(self, now: float) -> float:
        # The rate limiter first: an unused token costs less than a probe that is not sent.
        return self.rate_limiter.acquire(now) or self.circuit_breaker.acquire(now)

    def _retire(self) -> None:
        """Accept no new users; current ones keep the session."""
        by_conn = self._open.get(asyncio.get_running_loop(), {})
        if by_conn.get(self._conn_id) is self:
            del by_conn[self._conn_id]

    @property
    def _is_starting(self) -> bool:
        return self._starting is not None and not self._starting.done()

    def _hangs(self) -> bool:
        """Return whether the lookup of the connection takes so long that it may never end."""
        return self._is_starting and time.monotonic() > self._read_at + MAX_LOOKUP_SECONDS

    async def _started(self, patience: float | None) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(patience))
            # Its users may all be gone when it fails.
            self._starting.add_done_callback(lambda starting: starting.cancelled() or starting.exception())
        # Shielded: cancelling one user while the session opens must not affect the others.
        await asyncio.shield(self._starting)

    async def _start(self, patience: float | None) -> None:
        try:
            self.session = await self._make_session(patience)
        finally:
            if not self._users:
                self._retire()
        if not self._users:
            await self.session.close()

    async def _make_session(self, patience: float | None) -> aiohttp.ClientSession:
        # The import takes 0.2 s and looking up a connection may block: neither must stop the event loop.
        aiohttp = await asyncio.to_thread(importlib.import_module, "aiohttp")
        schedule = zip(LOOKUP_RETRY_DELAYS, accumulate(LOOKUP_RETRY_DELAYS), strict=True)
        delays = [delay for delay, end in schedule if patience is None or end <= patience]
        # Airflow reports "not found" also if a secrets backend is down, and then all waits here would fail together.
        self.connection = await await_with_retries(self._read, fixed_delays(delays))
        self.proxy = proxy_for(self.connection)
        self.rate_limiter = RateLimiter(self.connection.requests_per_second)
        tls = await asyncio.to_thread(check_bundle, verify_with(self.connection))
        seconds = self.connection.timeout
        return aiohttp.ClientSession(  # type: ignore[no-any-return]
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=tls, socket_factory=BoundedSocket.create),
            timeout=aiohttp.ClientTimeout(total=2 * seconds, sock_connect=seconds, sock_read=seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            # As the sync hook, whose http.client allows as much: a long policy in a header is no reason to fail.
            max_field_size=65536,
            trust_env=False,
        )

    async def _is_up_to_date(self, reread: bool) -> bool:
        """Return whether the connection is unchanged; concurrent calls share one lookup."""
        if not reread and time.monotonic() < self._read_at + CONNECTION_TTL:
            return True
        if self._rereading is None or self._rereading.done():
            self._rereading = asyncio.create_task(self._read())
        try:
            return await asyncio.shield(self._rereading) == self.connection
        except KirinConfigError as error:
            if not error.retryable:
                raise
            # The connection cannot be looked up, or was deleted: keep using what works.
            return True

    async def _read(self) -> KirinConnection:
        try:
            return await look_up_connection(self._conn_id)
        except AirflowNotFoundException as error:
            raise missing_connection(self._conn_id, error) from None
        finally:
            self._read_at = time.monotonic()


async def look_up_connection(kirin_conn_id: str) -> KirinConnection:
    """Look up a connection, and parse it.

    :param kirin_conn_id: the connection
    :raises AirflowNotFoundException: Airflow does not find it, or could not ask its secrets backend
    :raises KirinConfigError: it cannot be used
    """
    conn = await get_async_connection(kirin_conn_id)
    return read_connection(conn, await get_async_extra_dejson(conn))
