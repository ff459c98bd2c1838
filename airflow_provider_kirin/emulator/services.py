"""The services of one running emulator, for every request handler."""

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


@dataclass
class Journal:
    """Request counts and the last requests since the start or the last reset; never a key, a query string or a body."""

    submits: int = 0
    gets: int = 0
    downloads: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=1000))

    def count(self, method: str, path: str) -> None:
        """Count a request on arrival, whatever its outcome."""
        if path == "/model/v1/generation" and method == "POST":
            self.submits += 1
        elif path.startswith("/model/v1/generation/task/"):
            self.gets += 1
        elif path.startswith("/cdn/") and method == "GET":
            self.downloads += 1

    def clear(self) -> None:
        """Reset the counts and forget the requests."""
        self.submits = self.gets = self.downloads = 0
        self.requests.clear()


@dataclass(kw_only=True)
class Services:
    """The services, and the event that ends waiting handlers when the emulator stops."""

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
    """Return the services of the emulator that handles this request."""
    return request.app[SERVICES]
