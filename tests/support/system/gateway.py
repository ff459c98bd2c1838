"""An emulator that is killed and started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import requests

from tests.support.emulator import Emulator
from tests.support.system.processes import free_port
from tests.support.waiting import HANG, until


class Gateway:
    """An emulator that can be killed and started again, on the same port and with the same tasks.

    :param folder: keeps its tasks
    :param arguments: more of its command line
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self._arguments = ("--port", str(self.port), "--state-dir", str(folder), *arguments)
        self.emulator = Emulator(*self._arguments)
        self.url = self.emulator.url

    def start(self) -> None:
        """Start it again."""
        self.emulator = Emulator(*self._arguments)

    def kill(self) -> None:
        """SIGKILL."""
        self.emulator.kill()

    def stop(self) -> None:
        """End it."""
        self.emulator.stop()

    def fault(self, on: str, kind: str, **more: Any) -> None:
        """Inject a fault; see docs/reference/emulator.md."""
        self.emulator.fault(on=on, kind=kind, **more)

    def calm(self) -> None:
        """Forget the faults and let go what is held."""
        self.emulator.call("DELETE", "/emulator/faults")
        self.release()

    def release(self) -> None:
        """Let go what is held."""
        self.emulator.call("POST", "/emulator/release")

    def finish(self) -> None:
        """End what is being generated."""
        self.emulator.finish()

    def held(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait until this many requests are held, and return them."""

        def look() -> list[dict[str, Any]]:
            held = self.emulator.call("GET", "/emulator/held")["held"]
            return list(held) if len(held) >= count else []

        return until(look, f"{count} requests are held")

    def asked(self, method: str, path: str = "", **like: Any) -> int:
        """Return how many such requests were answered."""
        seen = self.emulator.requests(method, path)
        return sum(all(one[name] == value for name, value in like.items()) for one in seen)

    def generations(self) -> dict[str, dict[str, Any]]:
        """Return every generation, paid or given back, by id."""
        ledger = self.emulator.ledger()
        return {one["id"]: one for one in [*ledger["paid"], *ledger["failed"]]}

    def video(self, kirin_task_id: str) -> bytes:
        """Return the video of a generation."""
        url = self.emulator.video_url(kirin_task_id)
        with requests.Session() as http:
            http.trust_env = False
            return http.get(url, timeout=HANG).content
