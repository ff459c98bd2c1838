"""Carries out a fault on a request: real socket cuts, real waits, real wrong responses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from airflow_provider_kirin.emulator.errors import Refusal
from airflow_provider_kirin.emulator.fault_plan import Fault
from airflow_provider_kirin.emulator.services import services_of

Accept = Callable[[], Awaitable[web.StreamResponse]]
CUT, LAG, KIND, FILE = "kirin_cut", "kirin_lag", "kirin_fault", "kirin_file"
"""What handlers note on a request: that it was cut, a wanted lag, the fault it met, the file it is answered with."""


async def apply_fault(request: web.Request, on: str, accept: Accept, *subjects: str) -> web.StreamResponse:
    """Answer a request: with ``accept`` alone, or in the way of the fault that waits for such a request.

    ``subjects`` are what a fault's ``match`` may pick the request by: its path, its id, its external id.
    """
    fault = services_of(request).faults.next_fault(on, *subjects)
    if fault is None:
        return await accept()
    request[KIND] = fault.kind
    return await _HANDLERS[fault.kind](request, fault, accept, on, subjects)


async def _status(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    return _made_up(request, fault)


async def _accepted_status(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _response_of(request, accept)
    return _made_up(request, fault)


async def _cut_before(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    return cut(request)


async def _lose_response(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _response_of(request, accept)
    return cut(request)


async def _slow(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _or_stop(request, asyncio.sleep(fault.seconds))
    return await accept()


async def _lag(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    request[LAG] = fault.seconds
    return await accept()


async def _hang(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    async def client_left() -> None:
        # aiohttp tells a handler of a lost connection only by cancelling it, which would also stop a real submit.
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    await _or_stop(request, client_left())
    return cut(request)


async def _hold(
    request: web.Request, fault: Fault, accept: Accept, on: str, subjects: tuple[str, ...]
) -> web.StreamResponse:
    response = await _response_of(request, accept) if fault.after else None
    await _or_stop(request, services_of(request).faults.hold(on, subjects))
    if services_of(request).stopping.is_set():
        return cut(request)
    return await accept() if response is None else response


async def _garbage(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    body = "<html>not what you asked for</html>" if fault.body is None else fault.body
    asked_for = request.match_info.get("ref", "").encode()
    return web.Response(body=_encoded(body).replace(b"{ref}", asked_for), headers={"Content-Type": fault.content_type})


async def _cut_mid_response(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    response = await _response_of(request, accept)
    body = await _bytes_of(request, response)
    half = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    transport = request.transport
    # abort() drops what is not sent yet, and half a response is promised: wait for the kernel to take it.
    while transport and not transport.is_closing() and transport.get_write_buffer_size():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    cut(request)
    return half


_HANDLERS: dict[str, Callable[..., Awaitable[web.StreamResponse]]] = {
    "status": _status,
    "accepted_status": _accepted_status,
    "cut_before": _cut_before,
    "lose_response": _lose_response,
    "slow": _slow,
    "lag": _lag,
    "hang": _hang,
    "hold": _hold,
    "garbage": _garbage,
    "cut_mid_response": _cut_mid_response,
}


def cut(request: web.Request) -> web.Response:
    """Close the socket at once and without a byte. What is returned goes nowhere; aiohttp wants a response."""
    request[CUT] = True
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def refusal_response(request: web.Request, refusal: Refusal) -> web.Response:
    """A refusal as JSON, with the request's id where the gateway puts one ([V] section 9)."""
    body = dict(refusal.body)
    if isinstance(body.get("error"), dict):
        body["request_id"] = request["kirin_request_id"]
    return web.json_response(body, status=refusal.status, headers=refusal.headers)


async def _response_of(request: web.Request, accept: Accept) -> web.StreamResponse:
    """The response there would have been, even where it is a refusal."""
    try:
        return await accept()
    except Refusal as refusal:
        return refusal_response(request, refusal)


async def _or_stop(request: web.Request, waiting: Awaitable[None]) -> None:
    """Wait, but no longer than the emulator runs."""
    waiter = asyncio.ensure_future(waiting)
    stop = asyncio.ensure_future(services_of(request).stopping.wait())
    try:
        await asyncio.wait({waiter, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        stop.cancel()


def _made_up(request: web.Request, fault: Fault) -> web.Response:
    headers = {"Content-Type": fault.content_type}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    body = fault.body
    if body is None:
        message = f"the emulator was asked for HTTP {fault.status}"
        error = {"code": "EMULATED_FAULT", "message": message}
        body = {"error": error, "request_id": request["kirin_request_id"]}
    return web.Response(status=fault.status, body=_encoded(body), headers=headers)


def _encoded(body: object) -> bytes:
    text = body if isinstance(body, str) else json.dumps(body)
    return text.encode("utf-8", "replace")


async def _bytes_of(request: web.Request, response: web.StreamResponse) -> bytes:
    path: Path | None = request.get(FILE)
    if path is not None and isinstance(response, web.FileResponse):
        return await asyncio.to_thread(path.read_bytes)
    body = response.body if isinstance(response, web.Response) else b""
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
