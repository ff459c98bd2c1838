"""A gateway that answers with what Airflow cannot encode fails its own task, and no other one of the triggerer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.client_proto import ResponseHandler

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_kirin.exceptions import KirinError, KirinResponseError
from airflow_provider_kirin.hooks.bounded_socket import MAX_READ, MAX_RECEIVED
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger
from tests.support.emulator import until
from tests.support.raw_server import RawServer, endless, phases, replying, whole
from tests.support.waiting import HANG

DONE: dict[str, Any] = {
    "id": "d1",
    "status": "completed",
    "output": [{"content": [{"type": "video", "url": "http://127.0.0.1/v.mp4"}]}],
}
#: Bodies that ended the triggerer, or held up its event loop, when they were let in.
HOSTILE = {
    "surrogate": {**DONE, "metadata": {"note": "\ud83d"}},
    "integer": {**DONE, "metadata": {"upload_at": 2**64}},
    "time": {**DONE, "created_at": 1e300},
    "nul": {**DONE, "model": "a\x00b", "metadata": {"\x00": "\x00"}},
    "class": {**DONE, "metadata": {"__classname__": "x", "__version__": 1}},
    "reason": {"id": "d1", "status": "failed", "error": {"code": "\ud83d", "message": "\ud83d\x00"}},
    "videos": {**DONE, "output": DONE["output"] * 400},
    "nested": {**DONE, "metadata": json.loads('{"a":' * 500 + "1" + "}" * 500)},
}
#: What may come for ever, in some phase of a response.
FLOODS = {name: flood for name, flood in phases("application/json", b"{}").items() if not name.startswith("in ")} | {
    "bytes in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")
}


@pytest.fixture
def triggerer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Airflow's own triggerer, over the tests' database."""
    log = (tmp_path / "triggerer.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow", "triggerer", "--skip-serve-logs"],
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"AIRFLOW__TRIGGERER__DEFAULT_CAPACITY": "100"},
    )
    yield process
    process.terminate()
    process.wait(HANG)
    log.seek(0)
    print(log.read())


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before 3.3 a worker always starts a sensor")
@pytest.mark.usefixtures("airflow_db")
def test_an_innocent_sensor_of_the_same_triggerer_keeps_waiting(dag, connect, raw_server, request):
    from airflow.models.taskinstance import TaskInstance
    from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from tests.support.triggerer import start

    later = datetime.now(UTC) + timedelta(seconds=30)
    with dag:
        for name, body in HOSTILE.items():
            conn_id = connect(raw_server(replying(whole(body))).url, conn_id=f"hostile_{name}")
            # The first one is called as `start` expects.
            task_id = "wait" if name == "surrogate" else name
            KirinTaskSensor(
                task_id=task_id,
                kirin_task_id="d1",
                kirin_conn_id=conn_id,
                start_from_trigger=True,
                end_from_trigger=False,
            )
        DateTimeSensorAsync(task_id="innocent", target_time=later, start_from_trigger=True)
    start(dag)
    process = request.getfixturevalue("triggerer")

    def states() -> dict[str, str]:
        with create_session() as session:
            rows = session.execute(select(TaskInstance.task_id, TaskInstance.state).filter_by(dag_id=dag.dag_id))
            return {task_id: str(getattr(state, "value", state)) for task_id, state in rows}

    # A task whose trigger has fired waits for a worker, which this test does not have.
    until(lambda: set(states().values()) == {"scheduled"} or process.poll() is not None, "all have fired")
    assert process.poll() is None
    with create_session() as session:
        resumed = session.scalars(select(TaskInstance).filter_by(dag_id=dag.dag_id)).all()
        assert {ti.task_id: ti.next_method for ti in resumed if ti.next_method == "__fail__"} == {}


class TestTheEventLoop:
    async def test_a_response_of_megabytes_is_not_read(self, connect, raw_server):
        server = raw_server(replying(whole({**DONE, "metadata": {"a": [1.5] * 1_000_000}})))
        with pytest.raises(KirinResponseError, match="262,144 bytes"):
            await KirinAsyncHook(connect(server.url)).get_task("d1")

    @pytest.mark.parametrize(
        "body",
        [
            {**DONE, "metadata": {"a": [["x" * 16]] * 1_500}},
            {**DONE, "metadata": {"a": "\\" * 120_000}},
            {**DONE, "metadata": {"a": ["\x00" * 9] * 3_000}},
        ],
        ids=["lists", "backslashes", "control characters"],
    )
    async def test_a_large_one_is_decoded_elsewhere(self, connect, raw_server, monkeypatch, body):
        threads = []
        to_thread = asyncio.to_thread

        async def recorded(function, *args):
            threads.append(function.__name__)
            return await to_thread(function, *args)

        monkeypatch.setattr(asyncio, "to_thread", recorded)
        kirin_task = await KirinAsyncHook(connect(raw_server(replying(whole(body))).url)).get_task("d1")
        assert kirin_task.metadata == {}
        assert "_without_key" in threads

    async def test_many_large_results_are_not_sent_through_it(self, connect, raw_server):
        link = {"content": [{"type": "video", "url": "http://127.0.0.1/" + "v" * 2_400}]}

        def answer(connection: socket.socket, server: RawServer) -> None:
            kirin_task_id = server.requests[-1].split()[1].decode().rpartition("/")[2]
            server.send(connection, whole({**DONE, "id": kirin_task_id, "output": [link] * 100}))

        now = time.time()
        trigger = KirinTaskTrigger(
            kirin_task_ids=[f"d{number}" for number in range(40)],
            kirin_conn_id=connect(raw_server(answer).url, requests_per_second=20),
            started_at=now,
            deadline=now + 60,
        )
        (event,) = [event async for event in trigger.run()]
        assert len(json.dumps(event.payload)) < 100_000

    @pytest.mark.parametrize("flood", FLOODS)
    async def test_a_flood_is_parsed_in_small_pieces_and_cut_off(self, connect, raw_server, monkeypatch, flood):
        sizes: list[int] = []
        parse = ResponseHandler.data_received

        def recorded(handler: ResponseHandler, data: bytes) -> None:
            sizes.append(len(data))
            parse(handler, data)

        monkeypatch.setattr(ResponseHandler, "data_received", recorded)
        beginning, again = FLOODS[flood]
        conn_id = connect(raw_server(endless(beginning, again * 1000)).url, timeout=5)
        with pytest.raises(KirinError):
            await KirinAsyncHook(conn_id, patience=0).get_task("d1")
        assert max(sizes) <= MAX_READ
        # aiohttp repeats a GET once if it has lost the connection.
        assert sum(sizes) <= 2 * MAX_RECEIVED


@pytest.mark.parametrize("spelling", [r"\u0073k-EMULATED", r"sk\u002dEMULATED"])
async def test_an_echoed_key_is_hidden_however_it_is_escaped(connect, raw_server, spelling):
    raw = f'{{"error": {{"message": "bad header: Bearer {spelling}", "code": "{spelling}"}}}}'
    headers = {"X-Request-Id": "sk%2DEMULATED"}
    server = raw_server(replying(whole(raw, status="401 Unauthorized", headers=headers)))
    with pytest.raises(KirinError) as caught:
        await KirinAsyncHook(connect(server.url, key="sk-EMULATED")).get_task("d1")
    assert "EMULATED" not in f"{caught.value} {vars(caught.value)}"
    assert "Bearer ***" in str(caught.value)
