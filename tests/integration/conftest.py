"""An Airflow of the tests' own, a running emulator, and servers that misbehave. Nothing here leaves 127.0.0.1.

The environment is prepared when this file is imported, which is before any test module imports Airflow: its
configuration is read once, at import.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.authority import Authority, make_authority
from tests.support.counting_gateway import CountingGateway
from tests.support.emulator import KEY, Emulator, picture
from tests.support.raw_server import RawServer
from tests.support.waiting import HANG

if TYPE_CHECKING:
    from airflow.sdk import DAG

_THEIRS = ("AIRFLOW_", "_AIRFLOW_", "KIRIN_", "NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def _own_airflow_home() -> Path:
    """Point Airflow to an empty home. The machine's own configuration, connections and proxies do not count."""
    for name in list(os.environ):
        if name.startswith(_THEIRS) or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            del os.environ[name]
    home = Path(tempfile.mkdtemp(prefix="kirin-integration-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    (home / "dags").mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # A test that wants another try says so; tests/unit/test_retry_defaults.py has our own default.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return home


if "airflow.configuration" in sys.modules:
    raise pytest.UsageError("Airflow was imported before tests/integration/conftest.py could give it a home.")
HOME = _own_airflow_home()


@pytest.fixture(scope="session")
def airflow_db() -> Path:
    """A migrated database; the path of AIRFLOW_HOME."""
    migrated = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=HANG,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stdout[-3000:]
    return HOME


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[Emulator]:
    """One process for all tests. A generation ends at once, unless its prompt says ``[[seconds:N]]``."""
    emulator = Emulator("--seconds", "0")
    yield emulator
    emulator.stop()


@pytest.fixture
def emulator(running_emulator: Emulator) -> Emulator:
    """The running emulator: no generations, no faults, no requests yet."""
    running_emulator.reset()
    return running_emulator


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Return everything that was logged or printed since the last call, on any way."""

    def take() -> str:
        captured, records = capfd.readouterr(), caplog.text
        caplog.clear()
        return "".join([captured.out, captured.err, records])

    return take


@pytest.fixture
def run(airflow_db: Path, logged: Callable[[], str]) -> Callable[..., Any]:
    """Run a DAG: ``run(dag)`` returns a :class:`tests.support.dag_runs.Run`."""
    from tests.support.dag_runs import run_dag

    return lambda dag, **options: run_dag(dag, logged, **options)


@pytest.fixture
def dag(request: pytest.FixtureRequest) -> DAG:
    """An empty DAG, named after the test."""
    from airflow.sdk import DAG

    name = "".join(char if char.isalnum() else "_" for char in request.node.name)[:150]
    return DAG(name, schedule=None, start_date=datetime(2026, 1, 1))


Connect = Callable[..., str]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Define a connection: ``connect(host, key=..., conn_id=..., **extra)``; returns its id."""

    def define(host: str, *, key: str | None = KEY, conn_id: str = "kirin_default", **extra: Any) -> str:
        connection = {"conn_type": "kirin", "host": host, "password": key, "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))
        return conn_id

    return define


@pytest.fixture
def conn_id(connect: Connect, emulator: Emulator) -> str:
    """The default connection, to the emulator; patient, since the first download waits for a video to be rendered."""
    return connect(emulator.url, timeout=300)


@pytest.fixture
def submit(conn_id: str, image_file: str) -> Iterator[Callable[..., str]]:
    """Submit a generation without Airflow, and return its id."""
    from airflow_provider_kirin.hooks.kirin import KirinHook

    hook = KirinHook(conn_id)

    def start(prompt: str = "A prompt.", **params: Any) -> str:
        return hook.submit({"image": image_file, "prompt": prompt, **params}).id

    yield start
    hook.close()


@pytest.fixture
def raw_server() -> Iterator[Callable[..., RawServer]]:
    """Start servers that answer each request with a function of the test's own; all end with the test."""
    started: list[RawServer] = []

    def start(answer: Callable[..., None]) -> RawServer:
        started.append(RawServer(answer))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def counting_gateway() -> Iterator[Callable[..., CountingGateway]]:
    """Start gateways that count their sockets; all end with the test."""
    started: list[CountingGateway] = []

    def start(**options: Any) -> CountingGateway:
        started.append(CountingGateway(**options))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture(scope="session")
def s3_keys() -> dict[str, str]:
    """What the S3 server takes for credentials, as boto3 calls them."""
    return {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server. One for all tests: Airflow keeps the store that it made for a connection id."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def s3(s3_server: str, s3_keys: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 with one empty bucket, ``videos``, and the Airflow connection ``studio`` that leads there."""
    import boto3

    connection = {
        "conn_type": "aws",
        "login": s3_keys["aws_access_key_id"],
        "password": s3_keys["aws_secret_access_key"],
        "extra": {"endpoint_url": s3_server, "region_name": s3_keys["region_name"]},
    }
    monkeypatch.setenv("AIRFLOW_CONN_STUDIO", json.dumps(connection))
    client = boto3.client("s3", endpoint_url=s3_server, **s3_keys)
    client.create_bucket(Bucket="videos")
    yield client
    requests.post(f"{s3_server}/moto-api/reset", timeout=HANG)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that is not trusted."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def image_bytes() -> bytes:
    """A small square JPEG: its video is rendered quickly."""
    return picture(320, 320)


@pytest.fixture(scope="session")
def image_file(image_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same as a file."""
    path = tmp_path_factory.mktemp("images") / "picture.jpg"
    path.write_bytes(image_bytes)
    return str(path)
