"""Pauses between polls, lookups and retries. A test can shorten them: see :mod:`airflow_provider_kirin.testing`.

Waiting for a rate limit (``requests_per_second``) is not a pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Limit:
    seconds: float
    wanted: list[float] = field(default_factory=list)


_limit: _Limit | None = None


def pause(seconds: float) -> None:
    """Sleep.

    :param seconds: the length of the pause
    """
    time.sleep(pause_length(seconds))


async def pause_async(seconds: float) -> None:
    """Sleep in an event loop.

    :param seconds: the length of the pause
    """
    await asyncio.sleep(pause_length(seconds))


def pause_length(seconds: float) -> float:
    """Return the length of a pause that is slept elsewhere.

    :param seconds: its length unless a test shortens it
    """
    if _limit is None:
        return seconds
    _limit.wanted.append(seconds)
    return min(seconds, _limit.seconds)


def likely_length(seconds: float) -> float:
    """Return the length of a pause without recording it: it is asked for again and again, and may not be slept.

    :param seconds: its length unless a test shortens it
    """
    return seconds if _limit is None else min(seconds, _limit.seconds)


@contextmanager
def limited_pauses(seconds: float) -> Iterator[list[float]]:
    """Let no pause of this process last longer; give the list of how long each would have been.

    :param seconds: the longest pause
    """
    global _limit
    before, _limit = _limit, _Limit(seconds)
    try:
        yield _limit.wanted
    finally:
        _limit = before
