"""``python -m airflow_provider_kirin.emulator``: parse arguments, print one ready line, shut down cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
import sys
from collections.abc import Sequence

from airflow_provider_kirin.emulator.settings import PROGRAM, read_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stopped. Return 0 after SIGTERM or SIGINT, 2 if the emulator cannot start."""
    settings = read_arguments(argv)
    for module, package in (("aiohttp", "aiohttp"), ("PIL", "Pillow"), ("av", "av")):
        if importlib.util.find_spec(module) is None:
            return _fail(f"{package} is missing: pip install 'airflow-provider-kirin[emulator]'")
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if settings.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # Imported here, so that a missing dependency gives one line instead of a traceback.
    from airflow_provider_kirin.emulator.server import StartupError, serve

    try:
        asyncio.run(serve(settings, _stop_signals))
    except StartupError as error:
        return _fail(str(error))
    return 0


def _stop_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)


def _fail(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
