"""What one running emulator is made of; every handler finds its parts here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from airflow_provider_kirin.emulator.callbacks import Callbacks
from airflow_provider_kirin.emulator.fault_plan import FaultPlan
from airflow_provider_kirin.emulator.image_fetcher import Fetcher
from airflow_provider_kirin.emulator.image_store import ImageStore
from airflow_provider_kirin.emulator.journal import Journal
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store
from airflow_provider_kirin.emulator.video_cache import VideoCache


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
