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
from airflow_provider_kirin.emulator.image_store import Pictures
from airflow_provider_kirin.emulator.middleware import front
from airflow_provider_kirin.emulator.services import PARTS, Parts
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store
from airflow_provider_kirin.emulator.video_cache import Videos

MAX_BODY = 96 * 1024 * 1024
"""Seven images of 10 MB in base64, and the rest of a request ([E])."""


def make_app(settings: Settings, store: Store, folder: Path) -> web.Application:
    """The application; its parts live as long as it runs."""
    app = web.Application(middlewares=[front], client_max_size=MAX_BODY)
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

    async def run_parts(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            parts = app[PARTS] = _make_parts(settings, store, folder, http)
            for generation in store.waiting():
                parts.fetcher.start(generation)
            parts.callbacks.start()
            yield
            await parts.callbacks.close()
            await parts.fetcher.close()
            await parts.videos.close()

    async def tell_waiting(app: web.Application) -> None:
        app[PARTS].stopping.set()

    app.cleanup_ctx.append(run_parts)
    app.on_shutdown.append(tell_waiting)
    return app


def _make_parts(settings: Settings, store: Store, folder: Path, http: aiohttp.ClientSession) -> Parts:
    pictures = Pictures(folder / "images")
    faults = FaultPlan()

    def callback_video_url(generation: Generation) -> str:
        return api.video_url(parts, generation, settings.public_url or generation.origin)

    parts = Parts(
        settings=settings,
        store=store,
        pictures=pictures,
        videos=Videos(folder / "videos", pictures),
        callbacks=Callbacks(store, http, faults, style=settings.callback_style, video_url=callback_video_url),
        fetcher=Fetcher(store, pictures, http),
        faults=faults,
    )
    return parts
