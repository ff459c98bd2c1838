"""Threads of the pages' own.

The API server belongs to everybody: it answers the heartbeats of all workers, by default with 40 threads and 15
connections to the database. Many requests at once that take a thread, then a connection, then a thread again wait for
each other until it stands still. So nothing of ours takes one of these threads, and few of ours wait for a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import HTTPException

from airflow_provider_kirin.plugins.generation_lookup import TIMEOUT

T = TypeVar("T")

#: Threads that wait for the same: a bucket may hang.
MAX_THREADS = 4


class Threads:
    """A few threads in which requests wait for something that blocks.

    :param awaited: what they wait for, as the beginning of a sentence
    """

    def __init__(self, awaited: str) -> None:
        self._awaited = awaited
        self._executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="kirin-pages")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that blocks, for no longer than a page may take.

        :raises HTTPException: it takes too long
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        except TimeoutError as error:
            raise HTTPException(504, f"{self._awaited} did not answer within {TIMEOUT:g} s.") from error

    def close(self) -> None:
        """End them, except those that hang."""
        self._executor.shutdown(wait=False, cancel_futures=True)
