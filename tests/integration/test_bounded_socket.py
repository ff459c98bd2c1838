"""A socket for aiohttp receives little at a time, and not much between two requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest

from airflow_provider_kirin.exceptions import KirinNetworkError
from airflow_provider_kirin.hooks.bounded_socket import MAX_READ, MAX_RECEIVED, BoundedSocket
from airflow_provider_kirin.hooks.kirin import KirinAsyncHook
from tests.support.waiting import HANG


@pytest.fixture
def pair() -> Iterator[tuple[BoundedSocket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", listening.getsockname())
        with BoundedSocket.create(address) as ours:
            ours.connect(listening.getsockname())
            with listening.accept()[0] as theirs:
                yield ours, theirs


def test_it_receives_little_at_a_time(pair: tuple[BoundedSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"x" * 4 * MAX_READ)
    assert len(ours.recv(256 * 1024)) <= MAX_READ
    assert len(ours.recv(10)) == 10
    assert 0 < ours.recv_into(bytearray(256 * 1024)) <= MAX_READ


@pytest.mark.parametrize("resume", ["send", "sendmsg", None])
def test_it_receives_not_much_between_two_requests(
    pair: tuple[BoundedSocket, socket.socket], resume: str | None
) -> None:
    ours, theirs = pair
    calls = {"send": lambda: ours.send(b"GET"), "sendmsg": lambda: ours.sendmsg([b"GET"]), None: lambda: None}

    def receive(size: int) -> None:
        theirs.sendall(b"x" * size)
        while size:
            size -= ours.recv_into(bytearray(size))

    receive(MAX_RECEIVED // 2)
    calls[resume]()
    receive(MAX_RECEIVED // 2)
    theirs.sendall(b"x")
    if resume:
        assert ours.recv(1) == b"x"
    else:
        with pytest.raises(ConnectionAbortedError, match="524,288 bytes"):
            ours.recv(1)


async def test_a_flood_over_tls_is_cut_off(authority, connect):
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0, ssl=authority.server)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        hook = KirinAsyncHook(connect(url, timeout=HANG, verify=str(authority.bundle)), patience=0)
        with pytest.raises(KirinNetworkError, match="more than 524,288 bytes"):
            await hook.get_task("d1")
