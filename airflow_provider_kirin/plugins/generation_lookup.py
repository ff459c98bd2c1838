"""Ask the gateway on behalf of open pages, so that a gateway that hangs costs the API server next to nothing.

The API server also answers the heartbeats of all workers. So a look-up is a coroutine: it holds no thread and no
database session, there are few at a time, each is bounded in time, and pages of the same generation share one.
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

#: Look-ups at a time in one API server process.
MAX_LOOKUPS = 4
#: Seconds that a page may take, waiting for one of these included.
TIMEOUT = 5.0
#: Seconds for which a response serves other pages.
CACHE_SECONDS = 3.0
#: Look-ups that are kept, those that have not ended included.
CACHE_SIZE = 200

LookUp = Callable[[str, str], Awaitable["KirinTask"]]


async def look_up_once(kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
    """Ask the gateway for a generation, with no retry.

    :param kirin_conn_id: the connection
    :param kirin_task_id: the generation
    :raises KirinError: it could not be looked up
    """
    if not _load.cache_info().currsize:
        await asyncio.to_thread(_load)
    return await KirinAsyncHook(kirin_conn_id, patience=0).get_task(kirin_task_id)


@cache
def _load() -> None:
    """Import what a look-up needs, Airflow's part of it included. On the event loop it would stop the API server."""
    import_module("airflow_provider_kirin.hooks.shared_session")
    with suppress(Exception):
        # Whatever comes of it: afterwards Airflow has loaded its secrets backends.
        KirinAsyncHook.get_connection(DEFAULT_CONN_ID)


class GenerationLookup:
    """Looks up generations for the pages of one event loop.

    :param look_up: asks the gateway
    """

    def __init__(self, look_up: LookUp = look_up_once) -> None:
        self._look_up = look_up
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)
        self._tasks: dict[tuple[str, str], asyncio.Task[KirinTask | KirinError]] = {}

    async def get(self, kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
        """Return a generation as it was at most :data:`CACHE_SECONDS` ago.

        :param kirin_conn_id: the connection
        :param kirin_task_id: the generation
        :raises KirinUnavailableError: no answer within :data:`TIMEOUT` seconds
        :raises KirinError: it could not be looked up
        """
        key = (kirin_conn_id, kirin_task_id)
        if key not in self._tasks:
            while len(self._tasks) >= CACHE_SIZE:
                # The oldest. Pages that wait for it still get its outcome.
                del self._tasks[next(iter(self._tasks))]
            self._tasks[key] = asyncio.create_task(self._bounded(*key))
        # Shielded: a page that is closed must not take the look-up from the others.
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
    """Return the error for a gateway that hangs."""
    return KirinUnavailableError(f"The gateway did not answer within {TIMEOUT:g} s.")
