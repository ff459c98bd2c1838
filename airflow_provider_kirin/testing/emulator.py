"""The emulator as a process, and its control by a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from airflow_provider_kirin.api.requests import base_url
from airflow_provider_kirin.exceptions import KirinConfigError

if TYPE_CHECKING:
    import pytest

#: The key that the emulator of the fixtures accepts. It opens nothing else.
API_KEY = "emulator-key"
_READY = "Kirin emulator ready at "
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")


class EmulatorProcess:
    """A running emulator on a free port of 127.0.0.1.

    :param arguments: further command-line arguments
    :param api_key: the key that it accepts
    :param stderr: where its log goes; ``subprocess.PIPE`` to get it from :meth:`stop`
    """

    #: Seconds after which an emulator that hangs is given up.
    patience = 60.0

    def __init__(self, *arguments: str, api_key: str = API_KEY, stderr: int | None = None) -> None:
        # -P: no module of the tests' folder takes the place of one of the emulator's.
        command = [sys.executable, "-P", "-m", "airflow_provider_kirin.emulator", "--port", "0", "--api-key", api_key]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        self.api_key = api_key
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"Bearer {api_key}"
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(_READY):
            _, log = self.stop()
            raise RuntimeError(f"The Kirin emulator did not start. {log or 'The reason is on stderr.'}")
        self.url = line.removeprefix(_READY).strip()

    def stop(self) -> tuple[int, str | None]:
        """End it; return its exit code, and its log if it was piped."""
        self.http.close()
        self.process.terminate()
        try:
            _, log = self.process.communicate(timeout=self.patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            _, log = self.process.communicate()
        return self.process.returncode, log

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send one request and return its response.

        :param method: the HTTP method
        :param path: the path below the base URL
        :param options: further arguments of ``requests.request``
        """
        return self.http.request(method, self.url + path, **{"timeout": self.patience, **options})

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send one request that has to succeed, and return its decoded response; see :meth:`request`."""
        response = self.request(method, path, **options)
        if response.status_code != 200:
            raise ValueError(f"{method} {path}: HTTP {response.status_code} {response.text}")
        return response.json()

    def finish(self) -> None:
        """End all running generations."""
        self.call("POST", "/emulator/finish")

    def reset(self) -> None:
        """Forget everything but rendered videos."""
        self.call("POST", "/emulator/reset")

    def fault(self, **fault: Any) -> None:
        """Plan a fault: ``fault(on="get", kind="status", status=503)``; docs/reference/emulator.md lists them."""
        self.call("POST", "/emulator/faults", json={"faults": [fault]})


class KirinEmulator:
    """The emulator of one test, as the fixture ``kirin_emulator`` gives it.

    ``times`` is the number of requests that are affected; -1 for all that follow.
    """

    def __init__(self, process: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self._process = process
        self._monkeypatch = monkeypatch

    @property
    def url(self) -> str:
        """The base URL, such as ``http://127.0.0.1:40123``."""
        return self._process.url

    @property
    def api_key(self) -> str:
        """The key that it accepts."""
        return self._process.api_key

    def connect(self, conn_id: str = "kirin_default", **extra: Any) -> str:
        """Point an Airflow connection at the emulator until the test ends.

        :param conn_id: the connection id; the connection need not exist
        :param extra: the connection's extra
        :return: the connection id
        """
        # A busy machine takes a while to render the first video.
        extra = {"timeout": 300, **extra}
        connection = {"conn_type": "kirin", "host": self.url, "password": self.api_key, "extra": extra}
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        direct = ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1"]))
        for name in ("no_proxy", "NO_PROXY"):
            self._monkeypatch.setenv(name, direct)
        return conn_id

    @property
    def ledger(self) -> dict[str, Any]:
        """What was submitted: ``paid``, ``failed`` (given back), and how many ``submits``, ``gets``, ``downloads``."""
        return dict(self._process.call("GET", "/emulator/ledger"))

    def fail(self, code: str = "8002005098", *, times: int = 1) -> None:
        """Make the next generation fail. It costs nothing.

        :param code: Kirin's error code
        :param times: how many generations
        """
        self.fault(on="submit", kind="directive", directive=f"[[fail:{code}]]", times=times)

    def respond(self, status: int, *, on: str = "submit", times: int = 1, retry_after: float | None = None) -> None:
        """Answer the next request with an HTTP error. A submission answered like that is not accepted.

        :param status: such as 503
        :param on: ``submit``, ``get`` (polls and lookups), ``video`` (downloads), ``price`` or ``any``
        :param times: how many requests
        :param retry_after: the seconds of the header ``Retry-After``
        """
        self.fault(on=on, kind="status", status=status, times=times, retry_after=retry_after)

    def lose_reply(self, *, times: int = 1) -> None:
        """Lose the response to the next submission: the generation is accepted, and paid.

        :param times: how many submissions
        """
        self.fault(on="submit", kind="lose_response", times=times)

    def fill_account(self, *, times: int = 1) -> None:
        """Reject the next submission, as a full account does.

        :param times: how many submissions
        """
        self.fault(on="submit", kind="full", times=times)

    def finish(self) -> None:
        """End all running generations, such as one with ``[[seconds:600]]``."""
        self._process.finish()

    def fault(self, **fault: Any) -> None:
        """Plan any fault that docs/reference/emulator.md lists: ``fault(on="get", kind="garbage", body="<html>")``."""
        self._process.fault(**fault)

    def reset(self) -> None:
        """Forget generations, faults and counts, as at the start of each test."""
        self._process.reset()


def refuse_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a Kirin connection to another machine raise an error that is not retryable, until the test ends.

    :param monkeypatch: the fixture of the test
    """

    def local_base_url(*args: Any, **kwargs: Any) -> str:
        url = base_url(*args, **kwargs)
        if urlsplit(url).hostname not in _THIS_MACHINE:
            raise KirinConfigError(
                f"A Kirin connection points to {url}, where a test would cost money. Point it at the emulator with "
                "kirin_emulator.connect(conn_id)."
            )
        return url

    monkeypatch.setattr("airflow_provider_kirin.connection.base_url", local_base_url)
