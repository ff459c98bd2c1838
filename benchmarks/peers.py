"""The ways of waiting that are measured side by side: how each is set up, and started once.

Each peer is its authors' own code, with the connection that Airflow would hand it, from the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

#: An hour: nothing that is measured ends by itself.
_LONG = 3600.0

#: Starts one wait; what it returns ends with the wait.
Start = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True)
class Peer:
    """One way of waiting.

    :param title: what the tables call it
    :param counted: the path at the gateway that its polls go to
    :param prepare: imports its code, sets its connection, and returns what starts one wait
    :param most_waits: more than this is out of its reach
    :param why_not_more: the reason
    """

    title: str
    counted: str
    prepare: Callable[[str, float], Start]
    most_waits: int | None = None
    why_not_more: str = ""


def _connect(name: str, **fields: Any) -> None:
    os.environ[f"AIRFLOW_CONN_{name}"] = json.dumps(fields)


async def _run(trigger: Any) -> Any:
    """Do what the triggerer does with a trigger."""
    async for event in trigger.run():
        return event


def kirin(url: str, interval: float) -> Start:
    """Prepare our own trigger."""
    from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger

    _connect("KIRIN_DEFAULT", conn_type="kirin", host=url, password="sk-benchmark")
    now = time.time()

    def start(kirin_task_id: str) -> Awaitable[Any]:
        trigger = KirinTaskTrigger(
            kirin_task_ids=[kirin_task_id],
            kirin_conn_id="kirin_default",
            started_at=now,
            deadline=now + _LONG,
            poll_interval=interval,
        )
        return _run(trigger)

    return start


def http_sensor(url: str, interval: float) -> Start:
    """Prepare the http provider's sensor trigger, which waits for a URL that is not there yet."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    _connect("HTTP_DEFAULT", conn_type="http", host=url)
    return lambda kirin_task_id: _run(HttpSensorTrigger(endpoint=f"ready/{kirin_task_id}", poke_interval=interval))


def openai_batch(url: str, interval: float) -> Start:
    """Prepare the openai provider's batch trigger, which calls a synchronous client in the event loop."""
    from airflow.providers.openai.triggers.openai import OpenAIBatchTrigger

    _connect("OPENAI_DEFAULT", conn_type="openai", host=f"{url}/openai/v1", password="sk-benchmark")
    return lambda kirin_task_id: _run(OpenAIBatchTrigger("openai_default", kirin_task_id, interval, timeout=_LONG))


def official_sdk(url: str, interval: float) -> Start:
    """Prepare the gateway's official client: one thread for each wait, one client for all."""
    import seaart_sdk as sdk

    client = sdk.new(sdk.ClientConfig(api_key="sk-benchmark", base_url=url))
    options = (sdk.with_poll_interval(interval), sdk.with_poll_timeout(_LONG))

    async def start(kirin_task_id: str) -> None:
        threading.Thread(target=client.modal.wait, args=(kirin_task_id, *options), daemon=True).start()
        await asyncio.sleep(_LONG)

    return start


def bare(url: str, interval: float) -> Start:
    """Prepare the least that waits: one aiohttp session, and for each wait a loop of GET, JSON, sleep."""
    import aiohttp

    sessions: list[aiohttp.ClientSession] = []

    async def start(kirin_task_id: str) -> None:
        if not sessions:
            sessions.append(aiohttp.ClientSession(url, headers={"Authorization": "Bearer sk-benchmark"}))
        while True:
            async with sessions[0].get(f"/model/v1/generation/task/{kirin_task_id}") as response:
                if (await response.json())["status"] == "completed":
                    return
            await asyncio.sleep(interval)

    return start


def hostile(url: str, interval: float) -> Start:
    """Prepare our own trigger, for a gateway whose responses cost as much as they can."""
    return kirin(f"{url}/hostile", interval)


#: Measured by itself: what it costs compares with nothing.
HOSTILE = Peer("KirinTaskTrigger, hostile responses", "/hostile/model/v1/generation/task", hostile)

PEERS: dict[str, Peer] = {
    "kirin": Peer("KirinTaskTrigger", "/model/v1/generation/task", kirin),
    "bare": Peer("aiohttp, bare", "/model/v1/generation/task", bare),
    "http": Peer("HttpSensorTrigger", "/ready", http_sensor),
    "openai": Peer(
        "OpenAIBatchTrigger", "/openai/v1/batches", openai_batch, 1000, "each trigger builds an HTTP client of its own"
    ),
    "sdk": Peer("seaart-sdk, a thread each", "/model/v1/generation/task", official_sdk, 1000, "a thread for each wait"),
}
