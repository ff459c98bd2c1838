"""Wait for what happens in another process. The limits are for hangs: a slow or busy machine must not meet them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: Seconds after which something hangs. Ten times what it takes on a busy machine; pytest's own limit is longer.
HANG = 600.0
T = TypeVar("T")


def until(look: Callable[[], T | None], what: str, seconds: float = HANG, pause: float = 0.1) -> T:
    """Look until something true is seen, and return it.

    :param look: what may be seen
    :param what: it stands for, for the error
    :param seconds: for which to look
    :param pause: seconds between looks
    """
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
    return seen
