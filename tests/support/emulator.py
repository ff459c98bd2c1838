"""The emulator as a process, and its control plane."""

from __future__ import annotations

import io
from typing import Any

import requests
from PIL import Image, ImageDraw

from airflow_provider_kirin.testing.emulator import EmulatorProcess
from tests.support.waiting import HANG, until

#: Long and odd, so that it is found wherever it leaks to.
KEY = "sk-integration-7f3a9c51d2e84b06-do-not-print"


class Emulator(EmulatorProcess):
    """A running emulator, and what our own tests ask of it.

    :param arguments: more of the command line
    :param api_key: the key that it accepts
    :param port: 0 for a free one
    :param stderr: where its log goes; ``subprocess.PIPE`` to read it from :meth:`stop`
    """

    patience = HANG

    def __init__(self, *arguments: str, api_key: str = KEY, port: int = 0, stderr: int | None = None) -> None:
        super().__init__("--port", str(port), *arguments, api_key=api_key, stderr=stderr)

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self.http.close()
        self.process.kill()
        self.process.communicate()

    def submit(self, **params: Any) -> requests.Response:
        """POST a generation."""
        body = {"model": "kirin_v1_6_i2v", "input": [{"params": params}]}
        return self.request("POST", "/model/v1/generation", json=body)

    def submitted_id(self, **params: Any) -> str:
        """Submit a generation and return its id."""
        response = self.submit(**params)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def task(self, kirin_task_id: str) -> dict[str, Any]:
        """Return the task object."""
        return dict(self.call("GET", f"/model/v1/generation/task/{kirin_task_id}"))

    def ended(self, kirin_task_id: str) -> dict[str, Any]:
        """Return the task object, once it has ended."""
        return until(
            lambda: task if (task := self.task(kirin_task_id))["status"] in ("completed", "failed") else None,
            f"{kirin_task_id} ends",
            pause=0.02,
        )

    def video_url(self, kirin_task_id: str) -> str:
        """Return the link to the video of a completed generation."""
        return str(self.ended(kirin_task_id)["output"][0]["content"][0]["url"])

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
        """Wait until this many such requests were answered."""
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
