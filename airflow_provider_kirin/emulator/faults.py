"""Apply a fault to a request: real closed sockets, real waits, real wrong responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from airflow_provider_kirin.emulator.errors import Refusal, too_many_at_once
from airflow_provider_kirin.emulator.fault_plan import Fault, encode_body
from airflow_provider_kirin.emulator.services import services_of

Accept = Callable[[], Awaitable[web.StreamResponse]]
#: Keys of a request: whether it was cut, its lag, what is added to its prompt's directives, the fault that was applied,
#: the file of its response.
CUT, LAG, DIRECTIVE, KIND, FILE = "kirin_cut", "kirin_lag", "kirin_directive", "kirin_fault", "kirin_file"


async def apply_fault(request: web.Request, on: str, accept: Accept, *subjects: str) -> web.StreamResponse:
    """Respond with ``accept``, or as the pending fault for this request says.

    ``subjects`` are what a fault's ``match`` is compared with: the request's path, id and external id.
    """
    fault = services_of(request).faults.next_fault(on, *subjects)
    if fault is None:
        return await accept()
    request[KIND] = fault.kind
    return await _HANDLERS[fault.kind](request, fault, accept, on, subjects)


async def _status(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    return _fault_response(request, fault)


async def _accepted_status(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _response_of(request, accept)
    return _fault_response(request, fault)


async def _cut_before(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    return cut(request)


async def _lose_response(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _response_of(request, accept)
    return cut(request)


async def _slow(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    await _wait_or_stop(request, asyncio.sleep(fault.seconds))
    return await accept()


async def _lag(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    request[LAG] = fault.seconds
    return await accept()


async def _full(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    raise too_many_at_once()


async def _directive(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    request[DIRECTIVE] = fault.directive
    return await accept()


async def _hang(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    async def client_gone() -> None:
        # aiohttp reports a lost connection to a handler only by cancelling it, which would also stop a real submit.
        while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    await _wait_or_stop(request, client_gone())
    return cut(request)


async def _hold(
    request: web.Request, fault: Fault, accept: Accept, on: str, subjects: tuple[str, ...]
) -> web.StreamResponse:
    response = await _response_of(request, accept) if fault.after else None
    await _wait_or_stop(request, services_of(request).faults.hold(on, subjects))
    if services_of(request).stopping.is_set():
        return cut(request)
    return await accept() if response is None else response


async def _garbage(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    body = "<html>not what you asked for</html>" if fault.body is None else fault.body
    ref = request.match_info.get("ref", "").encode()
    return web.Response(body=encode_body(body).replace(b"{ref}", ref), headers={"Content-Type": fault.content_type})


async def _cut_mid_response(request: web.Request, fault: Fault, accept: Accept, *_: object) -> web.StreamResponse:
    response = await _response_of(request, accept)
    body = await _bytes_of(request, response)
    half = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    transport = request.transport
    # abort() drops what is not sent yet, and half a response is promised: wait until the kernel has it.
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
    "full": _full,
    "directive": _directive,
    "hang": _hang,
    "hold": _hold,
    "garbage": _garbage,
    "cut_mid_response": _cut_mid_response,
}


def cut(request: web.Request) -> web.Response:
    """Close the socket at once without sending anything. aiohttp requires a response; this one is never sent."""
    request[CUT] = True
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def refusal_response(request: web.Request, refusal: Refusal) -> web.Response:
    """Return a refusal as JSON, with the request id where the gateway has one ([V] section 9)."""
    body = dict(refusal.body)
    if isinstance(body.get("error"), dict):
        body["request_id"] = request["kirin_request_id"]
    return web.json_response(body, status=refusal.status, headers=refusal.headers)


async def _response_of(request: web.Request, accept: Accept) -> web.StreamResponse:
    """Return the response without the fault, even if it is a refusal."""
    try:
        return await accept()
    except Refusal as refusal:
        return refusal_response(request, refusal)


async def _wait_or_stop(request: web.Request, waiting: Awaitable[None]) -> None:
    """Wait, but only as long as the emulator runs."""
    waiter = asyncio.ensure_future(waiting)
    stop = asyncio.ensure_future(services_of(request).stopping.wait())
    try:
        await asyncio.wait({waiter, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        stop.cancel()


def _fault_response(request: web.Request, fault: Fault) -> web.Response:
    headers = {"Content-Type": fault.content_type}
    if fault.retry_after is not None:
        headers["Retry-After"] = f"{fault.retry_after:g}"
    body = fault.body
    if body is None:
        message = f"the emulator was asked for HTTP {fault.status}"
        error = {"code": "EMULATED_FAULT", "message": message}
        body = {"error": error, "request_id": request["kirin_request_id"]}
    return web.Response(status=fault.status, body=encode_body(body), headers=headers)


async def _bytes_of(request: web.Request, response: web.StreamResponse) -> bytes:
    path: Path | None = request.get(FILE)
    if path is not None and isinstance(response, web.FileResponse):
        return await asyncio.to_thread(path.read_bytes)
    body = response.body if isinstance(response, web.Response) else b""
    return bytes(body) if isinstance(body, bytes | bytearray) else b""
