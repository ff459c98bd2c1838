"""Look up generations for open pages, so that a gateway that hangs costs the API server next to nothing.

The API server also answers the heartbeats of all workers. So a lookup is a coroutine: it holds neither a thread nor a
database session, concurrency and time are bounded, and pages of the same generation share one lookup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from airflow_provider_kirin.exceptions import KirinError, KirinUnavailableError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.hooks.kirin_async import KirinAsyncHook

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask

#: Concurrent lookups in one API server process.
MAX_LOOKUPS = 4
#: Seconds that a page may take, including the wait for a free slot.
TIMEOUT = 5.0
#: Seconds for which a response is reused for other pages.
CACHE_SECONDS = 3.0
#: Lookups that are kept, including those in progress.
CACHE_SIZE = 200

LookUp = Callable[[str, str], Awaitable["KirinTask"]]


async def look_up_once(kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
    """Look up a generation, without a retry.

    :raises KirinError: it could not be looked up
    """
    await load_hooks()
    return await KirinAsyncHook(kirin_conn_id, patience=0).get_task(kirin_task_id)


async def load_hooks() -> None:
    """Import what a lookup needs, once, and not on the event loop."""
    if not _load.cache_info().currsize:
        await asyncio.to_thread(_load)


@cache
def _load() -> None:
    """Import what a lookup needs, including Airflow's part. On the event loop this would block the API server."""
    import_module("airflow_provider_kirin.hooks.shared_session")
    with suppress(Exception):
        # The result does not matter: afterwards Airflow has loaded its secrets backends.
        KirinAsyncHook.get_connection(DEFAULT_CONN_ID)


class GenerationLookup:
    """Looks up generations for the pages of one event loop.

    :param look_up: looks up one generation by connection id and Kirin task id
    """

    def __init__(self, look_up: LookUp = look_up_once) -> None:
        self._look_up = look_up
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)
        self._tasks: dict[tuple[str, str], asyncio.Task[KirinTask | KirinError]] = {}

    async def get(self, kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
        """Return a generation as it was at most :data:`CACHE_SECONDS` ago.

        :raises KirinUnavailableError: no response within :data:`TIMEOUT` seconds
        :raises KirinError: it could not be looked up
        """
        key = (kirin_conn_id, kirin_task_id)
        if key not in self._tasks:
            while len(self._tasks) >= CACHE_SIZE:
                # Evict the oldest. Pages that wait for it still get its outcome.
                del self._tasks[next(iter(self._tasks))]
            self._tasks[key] = asyncio.create_task(self._bounded(*key))
        # Shielded: closing one page must not cancel the lookup for the others.
        outcome = await asyncio.shield(self._tasks[key])
        if isinstance(outcome, KirinError):
            raise outcome
        return outcome

    async def _bounded(self, kirin_conn_id: str, kirin_task_id: str) -> KirinTask | KirinError:
        try:
            async with asyncio.timeout(TIMEOUT), self._slots:
                return await self._look_up(kirin_conn_id, kirin_task_id)
        except TimeoutError:
            return no_answer()
        except KirinError as error:
            return error
        finally:
            asyncio.get_running_loop().call_later(CACHE_SECONDS, self._tasks.pop, (kirin_conn_id, kirin_task_id), None)


def no_answer() -> KirinUnavailableError:
    """Return the error for a gateway that hangs, or a secrets backend that has its connection."""
    return KirinUnavailableError(f"The gateway, or Airflow's secrets backend, did not answer within {TIMEOUT:g} s.")
