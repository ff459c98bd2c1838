"""Process several rows concurrently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from airflow_provider_kirin.exceptions import KirinError

Item = TypeVar("Item")
Result = TypeVar("Result")


def as_completed(
    do: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    may_start: Callable[[int], bool] = lambda running: True,
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what a function returned for it, as soon as it has.

    :param do: called with each item, in a thread
    :param items: read only as far as they are started
    :param threads: how many at a time
    :param may_start: is given how many are running, and returns whether to start another one
    """
    ahead = iter(items)
    running: dict[Future[Result], Item] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="kirin-batch") as pool:
        while True:
            while len(running) < threads and may_start(len(running)):
                try:
                    item = next(ahead)
                except StopIteration:
                    break
                running[pool.submit(do, item)] = item
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def or_error(do: Callable[[Item], Result]) -> Callable[[Item], Result | KirinError]:
    """Return a function that does the same, and returns a :class:`.KirinError` instead of raising it."""

    def attempt(item: Item) -> Result | KirinError:
        try:
            return do(item)
        except KirinError as error:
            return error

    return attempt
