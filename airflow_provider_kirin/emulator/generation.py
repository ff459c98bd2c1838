"""One accepted generation. Its status is a pure function of the clock, so that ten thousand of them need no timers."""

from __future__ import annotations

import base64
import itertools
import os
import time
import zlib
from dataclasses import dataclass

from airflow_provider_kirin.emulator.directives import Failure

IN_PROGRESS, COMPLETED, FAILED = "in_progress", "completed", "failed"
_MACHINE = os.urandom(5)
_COUNTER = itertools.count(int.from_bytes(os.urandom(2), "big"))


def new_id() -> str:
    """Return a 20-character id like xid's ([V] section 2: samples only): time, machine and process, counter."""
    raw = int(time.time()).to_bytes(4, "big") + _MACHINE + (next(_COUNTER) & 0xFFFFFF).to_bytes(3, "big")
    return base64.b32hexencode(raw).decode("ascii").rstrip("=").lower()


def now_ms() -> int:
    """Return wall-clock milliseconds. Status is derived from them, so that a restart changes nothing."""
    return time.time_ns() // 1_000_000


def job_id(id_: str, created_ms: int) -> str:
    """Return the upstream's id of a video: digits only, and unlike the gateway's id ([K] section 13)."""
    return f"8{zlib.crc32(id_.encode()):010d}{created_ms % 10**7:07d}"


@dataclass(frozen=True)
class Frame:
    """An image shown in the video. ``ref`` is a URL that is still to be fetched, or the digest of a stored image."""

    name: str
    ref: str
    any_ratio: bool

    @property
    def is_url(self) -> bool:
        """Whether the image is still to be fetched."""
        return self.ref.startswith(("http:", "https:"))


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A generation as it was accepted. Times are wall-clock milliseconds."""

    id: str
    owner: str
    external_id: str | None
    model: str
    job_id: str
    images: tuple[Frame, ...]
    card: str
    aspect_ratio: str | None
    short_side: int
    fps: int
    video_seconds: int
    has_sound: bool
    watermark: bool
    created_ms: int
    done_ms: int
    visible_ms: int
    cents: int
    failure: Failure | None
    no_video: bool
    odd_status: str | None
    odd_duration: str | None
    callback_urls: tuple[str, ...]
    origin: str

    @property
    def waits_for_images(self) -> bool:
        """Whether an image is still to be fetched."""
        return any(frame.is_url for frame in self.images)

    def status(self, now: int) -> str:
        """Return the real status at a time."""
        if now < self.done_ms or self.waits_for_images:
            return IN_PROGRESS
        return FAILED if self.failure else COMPLETED

    def progress(self, now: int) -> float:
        """Return the progress at a time; less than 1 while it runs."""
        span = max(1, self.done_ms - self.created_ms)
        return round(min(0.99, max(0.0, (now - self.created_ms) / span)), 2)

    def cost_cents(self, now: int) -> int:
        """Return what it takes from the balance: its price from the start, nothing once it has failed ([E])."""
        return 0 if self.status(now) == FAILED else self.cents

    @property
    def has_video(self) -> bool:
        """Whether it ends with a video."""
        return self.failure is None and not self.no_video
