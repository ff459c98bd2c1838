"""Callbacks over real sockets: the emulator calls an API server in a process of its own, and so do strangers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import requests

from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator
from airflow_provider_kirin.plugins.callback_inbox import RETRY_DELAYS
from tests.support.callbacks import Deferred, path_of
from tests.support.emulator import KEY
from tests.support.waiting import HANG, until

pytestmark = pytest.mark.usefixtures("conn_id")
FLOOD = 10_000


class Server:
    """Airflow's API server."""

    def __init__(self, log: Path) -> None:
        self._log = log
        command = [sys.executable, "-m", "uvicorn", "airflow.api_fastapi.main:app", "--host", "127.0.0.1"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--timeout-keep-alive", "600"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ,
            )
        self.url = until(self._address, "the API server listens")

    def _address(self) -> str:
        assert self.process.poll() is None, self.said()[-3000:]
        _, found, rest = self.said().partition("Uvicorn running on ")
        return rest.split()[0] if found else ""

    def said(self) -> str:
        """Return its log."""
        return self._log.read_text(errors="replace")


@pytest.fixture
def conn_id(connect: Any, emulator: Any) -> str:
    return connect(emulator.url, timeout=300, callback_base_url="http://127.0.0.1:9")


@pytest.fixture
def server(conn_id: str, airflow_db: Any, tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "api-server.log")
    yield running
    running.process.kill()
    running.process.wait()


@pytest.fixture
def deferred(dag: Any) -> Deferred:
    with dag:
        KirinGenerateVideoOperator(task_id="generate", payload={"image": "https://h.example/a.png", "prompt": "x"})
    return Deferred(dag)


@pytest.fixture
def submit(conn_id: str, image_file: str, deferred: Deferred, server: Server) -> Callable[..., str]:
    """Submit a generation with a callback, and defer the task; returns the callback URL."""

    def start(prompt: str = "x") -> str:
        url = server.url + path_of(deferred.token("generate", "own-1"), KEY)
        payload = {"image": image_file, "prompt": prompt, "external_task_id": "own-1", "callback_url": url}
        kirin_task = KirinHook().submit(payload)
        deferred.defer("generate", [kirin_task.id], external_task_id="own-1", result_shape="one")
        return url

    return start


def test_the_gateway_s_callback_ends_the_task_and_no_log_has_its_token(submit, deferred, server, logged, emulator):
    def knows_the_key() -> bool:
        """A lookup that takes too long while the server still imports leaves all tokens rejected for a while."""
        statuses = [
            requests.post(server.url + path_of(deferred.token("generate", "unknown"), key), timeout=HANG).status_code
            for key in ("wrong", KEY)
        ]
        return statuses == [403, 202]

    until(knows_the_key, "the server has looked up the key")
    url = submit("[[seconds:600]]")
    emulator.finish()
    until(lambda: deferred.ti("generate").state == "success", "the task has ended")
    assert deferred.xcoms("generate")["return_value"]["videos"]
    # One submission; the lookups are the server's. Two at best; a callback that comes early is looked up again.
    method, *lookups = [one["method"] for one in emulator.requests()]
    assert method == "POST" and set(lookups) == {"GET"}
    requests.get(url, timeout=HANG)
    token = url.partition("=")[2]
    said = until(lambda: server.said() if "GET" in server.said() else "", "the access log is written")
    assert "/kirin-callback/generation" in said
    assert token[:20] not in said + logged()


def test_a_flood_changes_nothing_and_stops_no_genuine_callback(submit, deferred, server, emulator):
    url = submit("[[seconds:600]]")
    genuine = urlsplit(url)
    slow = [socket.create_connection((genuine.hostname, genuine.port)) for _ in range(50)]
    for one in slow:
        # A body that never comes.
        head = f"POST {genuine.path}?{genuine.query} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        one.sendall(head.encode())
    asked = len(emulator.requests("GET"))
    forged = [path_of(deferred.token("generate", "own-1", kirin_conn_id=f"c{n}"), "wrong") for n in range(FLOOD)]
    statuses, health = asyncio.run(_flood(server.url, forged))
    for one in slow:
        one.close()
    assert sum(statuses.values()) == FLOOD and set(statuses) <= {202, 403, 503}
    assert {answer for answer, _ in health} == {200}
    print(json.dumps({"statuses": statuses, "slowest health": max(seconds for _, seconds in health)}))
    assert deferred.ti("generate").state == "deferred"
    # The first one came before the key was known, so it did not have to wait for its body.
    assert len(emulator.requests("GET")) - asked <= 1 + len(RETRY_DELAYS)


async def _flood(url: str, paths: list[str]) -> tuple[Counter[int], list[tuple[int, float]]]:
    statuses: Counter[int] = Counter()
    health: list[tuple[int, float]] = []
    todo = iter(paths)

    async def attack(http: aiohttp.ClientSession) -> None:
        for path in todo:
            async with http.post(url + path) as answer:
                statuses[answer.status] += 1

    async def look(http: aiohttp.ClientSession) -> None:
        while True:
            began = time.monotonic()
            async with http.get(url + "/api/v2/monitor/health") as answer:
                await answer.read()
                health.append((answer.status, time.monotonic() - began))
            await asyncio.sleep(0.2)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(HANG)) as http:
        looking = asyncio.create_task(look(http))
        await asyncio.gather(*(attack(http) for _ in range(40)))
        looking.cancel()
    return statuses, health
