"""``python -m airflow_provider_kirin.emulator``: arguments, one ready line, a clean end."""

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
    """Serve until stopped. 0 after SIGTERM or SIGINT, 2 if the arguments cannot be used."""
    settings = read_arguments(argv)
    for module, wanted in (("aiohttp", "aiohttp"), ("PIL", "Pillow"), ("av", "av")):
        if importlib.util.find_spec(module) is None:
            return _unusable(f"{wanted} is missing: pip install 'airflow-provider-kirin[emulator]'")
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if settings.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    # Imported here, so that a missing dependency is one line and not a traceback.
    from airflow_provider_kirin.emulator.server import Unusable, serve

    try:
        asyncio.run(serve(settings, _stop_signals))
    except Unusable as error:
        return _unusable(str(error))
    return 0


def _stop_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)


def _unusable(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
