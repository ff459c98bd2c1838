"""What one running emulator is made of; every handler finds its parts here."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.callbacks import Callbacks
from airflow_provider_kirin.emulator.fault_plan import FaultPlan
from airflow_provider_kirin.emulator.image_fetcher import Fetcher
from airflow_provider_kirin.emulator.images import ImageStore
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store
from airflow_provider_kirin.emulator.video_cache import VideoCache

LENGTH = 1000


@dataclass
class Journal:
    """Counts since the start or the last reset; in memory, so a restart begins at nothing."""

    submits: int = 0
    gets: int = 0
    downloads: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LENGTH))

    def count(self, method: str, path: str) -> None:
        """Count a request that has arrived, whatever becomes of it."""
        if path == "/model/v1/generation" and method == "POST":
            self.submits += 1
        elif path.startswith("/model/v1/generation/task/"):
            self.gets += 1
        elif path.startswith("/cdn/") and method == "GET":
            self.downloads += 1

    def clear(self) -> None:
        """Start again at nothing."""
        self.submits = self.gets = self.downloads = 0
        self.requests.clear()


@dataclass(kw_only=True)
class Services:
    """The parts, and the event that tells waiting handlers that the emulator stops."""

    settings: Settings
    store: Store
    image_store: ImageStore
    video_cache: VideoCache
    callbacks: Callbacks
    fetcher: Fetcher
    faults: FaultPlan
    journal: Journal = field(default_factory=Journal)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


SERVICES = web.AppKey("kirin_services", Services)


def services_of(request: web.Request) -> Services:
    """The parts of the emulator that serves this request."""
    return request.app[SERVICES]
