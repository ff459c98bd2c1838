"""Puts the parts together: one aiohttp application on one folder of state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

from airflow_provider_kirin.emulator import api, cdn, control, discovery
from airflow_provider_kirin.emulator.callbacks import Callbacks
from airflow_provider_kirin.emulator.fault_plan import FaultPlan
from airflow_provider_kirin.emulator.generation import Generation
from airflow_provider_kirin.emulator.image_fetcher import Fetcher
from airflow_provider_kirin.emulator.image_store import ImageStore
from airflow_provider_kirin.emulator.middleware import middleware
from airflow_provider_kirin.emulator.services import SERVICES, Services
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store
from airflow_provider_kirin.emulator.video_cache import VideoCache

MAX_BODY = 96 * 1024 * 1024
"""Seven images of 10 MB in base64, and the rest of a request ([E])."""


def make_app(settings: Settings, store: Store, folder: Path) -> web.Application:
    """The application; its parts live as long as it runs."""
    app = web.Application(middlewares=[middleware], client_max_size=MAX_BODY)
    router = app.router
    router.add_post("/model/v1/generation", api.submit)
    router.add_post("/model/v1/generation/precharge", api.precharge)
    # The pattern: aiohttp's own takes no braces, which an external task id may hold.
    router.add_get("/model/v1/generation/task/{ref:[^/]+}", api.look_up)
    router.add_get("/model/api/v1/user/balance", api.balance)
    router.add_get("/api/v1/user/balance", api.balance)
    router.add_get("/api/v1/skill/models", discovery.models)
    router.add_get("/api/v1/skill/models/{model}/spec", discovery.spec)
    router.add_get("/api/v1/skill/model-contracts/{model}", discovery.contract)
    router.add_get("/cdn/{id}.mp4", cdn.video)
    control.add_routes(router)

    async def run_services(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            services = app[SERVICES] = _make_services(settings, store, folder, http)
            for generation in store.waiting():
                services.fetcher.start(generation)
            services.callbacks.start()
            yield
            await services.callbacks.close()
            await services.fetcher.close()
            await services.video_cache.close()

    async def tell_waiting(app: web.Application) -> None:
        app[SERVICES].stopping.set()

    app.cleanup_ctx.append(run_services)
    app.on_shutdown.append(tell_waiting)
    return app


def _make_services(settings: Settings, store: Store, folder: Path, http: aiohttp.ClientSession) -> Services:
    image_store = ImageStore(folder / "images")
    faults = FaultPlan()

    def callback_video_url(generation: Generation) -> str:
        return api.video_url(services, generation, settings.public_url or generation.origin)

    services = Services(
        settings=settings,
        store=store,
        image_store=image_store,
        video_cache=VideoCache(folder / "videos", image_store),
        callbacks=Callbacks(store, http, faults, style=settings.callback_style, video_url=callback_video_url),
        fetcher=Fetcher(store, image_store, http),
        faults=faults,
    )
    return services
