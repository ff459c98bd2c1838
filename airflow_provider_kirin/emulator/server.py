"""Build the aiohttp application and serve it on a socket, with its state in a directory."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
from aiohttp import web

from airflow_provider_kirin.emulator import api, catalog, cdn, control
from airflow_provider_kirin.emulator.callbacks import Callbacks
from airflow_provider_kirin.emulator.fault_plan import FaultPlan
from airflow_provider_kirin.emulator.generation import Generation
from airflow_provider_kirin.emulator.image_fetcher import Fetcher
from airflow_provider_kirin.emulator.images import ImageStore
from airflow_provider_kirin.emulator.middleware import middleware
from airflow_provider_kirin.emulator.services import SERVICES, Services
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store
from airflow_provider_kirin.emulator.video_cache import VideoCache

#: Enough for seven images of 10 MB in base64 ([E]).
MAX_BODY = 96 * 1024 * 1024
_SHUTDOWN_SECONDS = 1.0


def make_app(settings: Settings, store: Store, folder: Path) -> web.Application:
    """Return the application. Its services start and stop with it."""
    app = web.Application(middlewares=[middleware], client_max_size=MAX_BODY)
    router = app.router
    router.add_post("/model/v1/generation", api.submit)
    router.add_post("/model/v1/generation/precharge", api.precharge)
    # aiohttp's default pattern excludes braces, which an external task id may contain.
    router.add_get("/model/v1/generation/task/{ref:[^/]+}", api.look_up)
    router.add_get("/model/api/v1/user/balance", api.balance)
    router.add_get("/api/v1/user/balance", api.balance)
    router.add_get("/api/v1/skill/models", catalog.models)
    router.add_get("/api/v1/skill/models/{model}/spec", catalog.spec)
    router.add_get("/api/v1/skill/model-contracts/{model}", catalog.contract)
    router.add_get("/model/v1/models/skill/search", catalog.search)
    router.add_get("/model/v1/models/skill/{model}", catalog.skill)
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

    async def announce_stop(app: web.Application) -> None:
        app[SERVICES].stopping.set()

    app.cleanup_ctx.append(run_services)
    app.on_shutdown.append(announce_stop)
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


class StartupError(Exception):
    """The arguments are valid but cannot be used: port taken, directory not writable."""


async def serve(settings: Settings, stop_on: Callable[[asyncio.Event], None]) -> None:
    """Serve until the event that ``stop_on`` receives is set."""
    stop = asyncio.Event()
    stop_on(stop)
    with _folder(settings.state_dir) as folder, contextlib.closing(_open(folder)) as store:
        # aiohttp's own access log would print the query of signed links.
        runner = web.AppRunner(
            make_app(settings, store, folder), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handle_signals=False
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            try:
                await site.start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise StartupError(f"cannot listen on {settings.host}:{settings.port}: {reason}") from error
            print(f"Kirin emulator ready at {_address(settings.host, runner.addresses[0][1])}", flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _folder(state_dir: Path | None) -> Iterator[Path]:
    """Yield the state directory, locked: two emulators must not share it."""
    if state_dir is None:
        with tempfile.TemporaryDirectory(prefix="kirin-emulator-") as name:
            yield Path(name)
        return
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise StartupError(f"state directory {state_dir} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StartupError(f"state directory {state_dir} is in use by another emulator") from error
        yield state_dir


def _open(folder: Path) -> Store:
    try:
        for name in ("images", "videos"):
            (folder / name).mkdir(exist_ok=True)
        return Store(folder / "kirin.sqlite3")
    except (OSError, sqlite3.Error) as error:
        raise StartupError(f"state directory {folder} cannot be used: {error}") from error
