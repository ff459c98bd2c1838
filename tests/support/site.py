"""A real API server with the Kirin pages, and the emulator."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from tests.support.browser import api_server
from tests.support.emulator import KEY, Emulator, picture
from tests.support.raw_server import RawServer
from tests.support.system.processes import free_port
from tests.support.waiting import HANG

#: What `store()` writes, as a process of its own: Airflow's settings are read once, at import.
STORE = "import pickle, sys; from benchmarks.gallery import store; store(pickle.load(sys.stdin.buffer))"


class Site:
    """An API server with generations of every kind.

    :param home: an empty folder
    :param stack: ends what is started
    :param settings: of Airflow, as environment variables
    """

    def __init__(self, home: Path, stack: ExitStack, **settings: str) -> None:
        self.emulator = Emulator("--seconds", "0")
        stack.callback(self.emulator.stop)
        self.hanging = RawServer(lambda _, server: server.stopping.wait() and None)
        stack.callback(self.hanging.stop)
        self.videos = home / "videos"
        self.videos.mkdir()
        url = f"http://127.0.0.1:{free_port()}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "_AIRFLOW"))}
        self.env |= {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__KIRIN__MEDIA_ROOTS": str(self.videos),
            "AIRFLOW_CONN_KIRIN_DEFAULT": json.dumps(
                {"conn_type": "kirin", "host": self.emulator.url, "password": KEY}
            ),
            "AIRFLOW_CONN_HANGING": json.dumps({"conn_type": "kirin", "host": self.hanging.url, "password": KEY}),
        } | settings
        airflow = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(airflow, env=self.env, check=True, stdout=subprocess.DEVNULL, timeout=HANG)
        self.url = stack.enter_context(api_server(url, home / "api-server.log", self.env))

    def store(self, *samples: Any) -> None:
        """Write generations to the database."""
        self.run(STORE, pickle.dumps(samples))

    def run(self, code: str, given: bytes = b"") -> None:
        """Run Python code with this Airflow's settings."""
        subprocess.run([sys.executable, "-c", code], env=self.env, input=given, check=True, timeout=HANG)

    def submit(self, seconds: float) -> str:
        """Start a generation at the emulator."""
        image = base64.b64encode(picture(320, 320)).decode()
        return self.emulator.submitted_id(image=image, prompt=f"A disc [[seconds:{seconds}]]")

    def save_video(self, kirin_task_id: str) -> Path:
        """Download a finished video."""
        path = self.videos / f"{kirin_task_id}.mp4"
        path.write_bytes(requests.get(self.emulator.video_url(kirin_task_id), timeout=HANG).content)
        return path
