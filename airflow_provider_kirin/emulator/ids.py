"""Ids that look like the gateway's."""

from __future__ import annotations

import base64
import itertools
import os
import time
import zlib

_MACHINE = os.urandom(5)
_COUNTER = itertools.count(int.from_bytes(os.urandom(2), "big"))


def new_id() -> str:
    """A 20-character id in the manner of xid ([V] section 2: samples only): time, machine and process, counter."""
    raw = int(time.time()).to_bytes(4, "big") + _MACHINE + (next(_COUNTER) & 0xFFFFFF).to_bytes(3, "big")
    return base64.b32hexencode(raw).decode("ascii").rstrip("=").lower()


def now_ms() -> int:
    """Wall-clock milliseconds: task state is derived from them, so that a restart changes nothing."""
    return time.time_ns() // 1_000_000


def job_id(id_: str, created_ms: int) -> str:
    """The upstream's id of a clip: digits only, and not to be guessed from the gateway's id ([K] section 13)."""
    return f"8{zlib.crc32(id_.encode()):010d}{created_ms % 10**7:07d}"
