"""Runs the application on a socket and a folder, and gives both back at the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from aiohttp import web

from airflow_provider_kirin.emulator.app import make_app
from airflow_provider_kirin.emulator.settings import Settings
from airflow_provider_kirin.emulator.store import Store

_GOODBYE_SECONDS = 1.0


class Unusable(Exception):
    """The arguments are fine but the machine does not let them be used: port taken, folder not writable."""


async def serve(settings: Settings, stop_on: Callable[[asyncio.Event], None]) -> None:
    """Serve until the event that ``stop_on`` is handed is set."""
    stop = asyncio.Event()
    stop_on(stop)
    with _folder(settings.state_dir) as folder, contextlib.closing(_open(folder)) as store:
        # access_log=None: aiohttp's own log would print the query of signed links.
        runner = web.AppRunner(
            make_app(settings, store, folder), access_log=None, shutdown_timeout=_GOODBYE_SECONDS, handle_signals=False
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host, settings.port)
            try:
                await site.start()
            except OSError as error:
                reason = error.strerror or str(error)
                raise Unusable(f"cannot listen on {settings.host}:{settings.port}: {reason}") from error
            print(f"Kirin emulator ready at {_address(settings.host, runner.addresses[0][1])}", flush=True)
            await stop.wait()
        finally:
            await runner.cleanup()


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _folder(state_dir: Path | None) -> Iterator[Path]:
    """The folder of state, locked: two emulators on one folder would answer for each other's generations."""
    if state_dir is None:
        with tempfile.TemporaryDirectory(prefix="kirin-emulator-") as name:
            yield Path(name)
        return
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        lock = (state_dir / "lock").open("w")
    except OSError as error:
        raise Unusable(f"state directory {state_dir} cannot be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Unusable(f"state directory {state_dir} is in use by another emulator") from error
        yield state_dir


def _open(folder: Path) -> Store:
    try:
        for name in ("images", "videos"):
            (folder / name).mkdir(exist_ok=True)
        return Store(folder / "kirin.sqlite3")
    except (OSError, sqlite3.Error) as error:
        raise Unusable(f"state directory {folder} cannot be used: {error}") from error
