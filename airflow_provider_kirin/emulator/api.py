"""The gateway's HTTP API: submit, lookup, price and balance ([V] sections 2 to 4, [C] sections 8 and 11)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.cdn import signed_path
from airflow_provider_kirin.emulator.directives import read_directives
from airflow_provider_kirin.emulator.errors import Refusal, detail, platform
from airflow_provider_kirin.emulator.faults import DIRECTIVE, LAG, apply_fault
from airflow_provider_kirin.emulator.generation import IN_PROGRESS, Generation, now_ms
from airflow_provider_kirin.emulator.order import external_id_hint
from airflow_provider_kirin.emulator.responses import created_response, enveloped, price_response, task_object, usd
from airflow_provider_kirin.emulator.services import Services, services_of
from airflow_provider_kirin.emulator.submit import accept, decode_json, validate_order

OWNER = "kirin_owner"


async def submit(request: web.Request) -> web.StreamResponse:
    """POST /model/v1/generation. Not idempotent, like the original ([C] section 2)."""
    raw = await read_body(request)
    body: Any = None
    problem: Refusal | None = None
    try:
        body = await decode_json(raw)
    except Refusal as refusal:
        # Raised later: a fault that is planned for this request comes before validation.
        problem = refusal

    async def answer() -> web.StreamResponse:
        if problem is not None:
            raise problem
        services, model, origin = services_of(request), request.headers.get("X-Model"), origin_of(request)
        lag, directive = request.get(LAG, 0.0), request.get(DIRECTIVE, "")
        generation, is_new = await accept(
            services, body, model, owner=request[OWNER], origin=origin, lag=lag, directive=directive
        )
        # A new one is in progress even if --seconds 0 ends it at once.
        status = IN_PROGRESS if is_new else generation.status(now_ms())
        return web.json_response(created_response(generation, status))

    return await apply_fault(request, "submit", answer, request.path, external_id_hint(body))


async def look_up(request: web.Request) -> web.StreamResponse:
    """GET /model/v1/generation/task/{id or external_task_id} ([V] section 3; by external id [I] section 15)."""
    services, ref = services_of(request), request.match_info["ref"]
    found = _find(services, request[OWNER], ref)

    async def answer() -> web.StreamResponse:
        generation = found or _find(services, request[OWNER], ref)
        now = now_ms()
        if generation is None or now < generation.visible_ms:
            raise detail(404, "Request not found")
        # Read again: a slow or held response shows the state at the time it is sent.
        generation = services.store.by_id(generation.id) or generation
        url = video_url(services, generation, origin_of(request))
        return web.json_response(task_object(generation, now, url))

    subjects = (found.id, found.external_id or "") if found else ()
    return await apply_fault(request, "get", answer, request.path, *subjects)


def _find(services: Services, owner: str, ref: str) -> Generation | None:
    generation = services.store.by_id(ref)
    if generation is not None and generation.owner == owner:
        return generation
    return services.store.by_external_id(owner, ref) if services.settings.external_lookup else None


async def precharge(request: web.Request) -> web.StreamResponse:
    """POST /model/v1/generation/precharge: the price of a submit; reserves nothing ([C] section 11)."""
    body = await decode_json(await read_body(request))

    async def answer() -> web.StreamResponse:
        order = await validate_order(body, request.headers.get("X-Model"))
        return web.json_response(price_response(order, read_directives(order.prompt)))

    return await apply_fault(request, "price", answer, request.path, external_id_hint(body))


async def balance(request: web.Request) -> web.Response:
    """GET .../api/v1/user/balance ([C] section 8: the path; [E]: the body, in the accounts' envelope)."""
    services = services_of(request)
    start = services.settings.balance_cents
    left = None if start is None else usd(start - services.store.spent_cents(request[OWNER], now_ms()))
    return enveloped({"balance": left, "currency": "USD", "unlimited": start is None})


async def read_body(request: web.Request) -> bytes:
    """Return the bytes of a JSON request. Other content types are rejected: curl sends a form by default."""
    if request.content_type != "application/json":
        raise platform(415, "UNSUPPORTED_MEDIA_TYPE", "send Content-Type: application/json")
    return await request.read()


def origin_of(request: web.Request) -> str:
    """Return the base of links: the public URL, or the host under which the client reached this emulator."""
    return services_of(request).settings.public_url or f"{request.scheme}://{request.host}"


def video_url(services: Services, generation: Generation, origin: str) -> str:
    """Return a freshly signed link to the video."""
    return origin + signed_path(services.store.secret, generation.id, services.settings.url_ttl)
