"""The emulator as a process, and its control plane."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import requests
from PIL import Image, ImageDraw

from tests.support.waiting import HANG, until

#: Long and odd, so that it is found wherever it leaks to.
KEY = "sk-integration-7f3a9c51d2e84b06-do-not-print"
READY = "Kirin emulator ready at "


class Emulator:
    """A running emulator.

    :param arguments: more of the command line
    """

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "airflow_provider_kirin.emulator", "--port", "0", "--api-key", KEY]
        self.process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(READY):
            self.stop()
            raise RuntimeError(f"the emulator did not start: {line!r}")
        self.url = line.removeprefix(READY).strip()
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {KEY}"

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """One request, its response decoded."""
        response = self._http.request(method, self.url + path, timeout=HANG, **options)
        assert response.status_code == 200, f"{method} {path}: {response.status_code} {response.text}"
        return response.json()

    def reset(self) -> None:
        """Forget everything but rendered videos."""
        self.call("POST", "/emulator/reset")

    def fault(self, **fault: Any) -> None:
        """Ask for trouble, see docs/reference/emulator.md: ``fault(on="get", kind="status", status=503, times=2)``."""
        self.call("POST", "/emulator/faults", json={"faults": [fault]})

    def ledger(self) -> dict[str, Any]:
        """What was submitted, paid and given back."""
        return dict(self.call("GET", "/emulator/ledger"))

    @property
    def submitted(self) -> int:
        """How many generations there are, whatever became of them."""
        ledger = self.ledger()
        return len(ledger["paid"]) + len(ledger["failed"])

    def requests(self, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """The requests that came in, oldest first: those of a method and with a text in their path."""
        seen = self.call("GET", "/emulator/requests")["requests"]
        return [one for one in seen if (method is None or one["method"] == method) and path in one["path"]]

    def until_asked(self, method: str, path: str = "", count: int = 1) -> None:
        """Wait until so many such requests were answered."""
        until(lambda: len(self.requests(method, path)) >= count, f"{count} x {method} {path}")


def picture(width: int, height: int, kind: str = "JPEG") -> bytes:
    """Draw an image that shows which way is up."""
    image = Image.new("RGB", (width, height), "darkred")
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height), fill="orange")
    draw.ellipse((width // 4, height // 8, width // 2, height // 2), fill="white")
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
