"""The control plane under /emulator, and the front page that shows it: ledger, requests, faults. All [E]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.api import read_body
from airflow_provider_kirin.emulator.errors import platform
from airflow_provider_kirin.emulator.generation import FAILED, Generation, now_ms
from airflow_provider_kirin.emulator.responses import usd
from airflow_provider_kirin.emulator.services import services_of
from airflow_provider_kirin.emulator.submit import decode_json

_PAGE = Path(__file__).parent / "page.html"
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
        "media-src 'self' http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


def add_routes(router: web.UrlDispatcher) -> None:
    """Add the front page and the routes under /emulator."""
    router.add_get("/", front_page)
    router.add_get("/emulator/ledger", ledger)
    router.add_get("/emulator/requests", requests)
    router.add_post("/emulator/finish", finish)
    router.add_post("/emulator/reset", reset)
    router.add_get("/emulator/faults", show_faults)
    router.add_post("/emulator/faults", add_faults)
    router.add_delete("/emulator/faults", clear_faults)
    router.add_get("/emulator/held", held)
    router.add_post("/emulator/release", release)


async def front_page(request: web.Request) -> web.Response:
    """A page for a browser. It holds no data: its script asks for a key and sends it with each request."""
    return web.Response(text=_PAGE.read_text(encoding="utf-8"), content_type="text/html", headers=_PAGE_HEADERS)


async def ledger(request: web.Request) -> web.Response:
    """Every generation of every key: those that cost money, finished or not, and the refunded ones that failed."""
    services, now = services_of(request), now_ms()
    rows = [_row(generation, now) for generation in services.store.all()]
    paid = [row for row in rows if row["status"] != FAILED]
    failed = [row for row in rows if row["status"] == FAILED]
    journal = services.journal
    counts = {"submits": journal.submits, "gets": journal.gets, "downloads": journal.downloads}
    return web.json_response({"paid": paid, "failed": failed, **counts})


def _row(generation: Generation, now: int) -> dict[str, Any]:
    return {
        "id": generation.id,
        "external_task_id": generation.external_id,
        "model": generation.model,
        "cost": usd(generation.cost_cents(now)),
        "created_at": generation.created_ms,
        "status": generation.status(now),
    }


async def requests(request: web.Request) -> web.Response:
    """The last requests, oldest first, except those to the control plane."""
    return web.json_response({"requests": list(services_of(request).journal.requests)})


async def finish(request: web.Request) -> web.Response:
    """End the generations that run, however long they would have taken. Their callbacks follow."""
    services = services_of(request)
    finished = services.store.finish(now_ms())
    services.callbacks.wake()
    return web.json_response({"finished": finished})


async def reset(request: web.Request) -> web.Response:
    """Delete generations, callbacks, faults and counts; release held requests. The cached images and videos stay."""
    services = services_of(request)
    services.store.clear()
    services.journal.clear()
    services.faults.clear()
    services.faults.release()
    return web.json_response({"reset": True})


async def show_faults(request: web.Request) -> web.Response:
    """The pending faults."""
    return web.json_response({"faults": services_of(request).faults.as_json()})


async def add_faults(request: web.Request) -> web.Response:
    """Add faults after the pending ones."""
    plan = services_of(request).faults
    plan.add(await decode_json(await read_body(request)))
    return web.json_response({"faults": plan.as_json()})


async def clear_faults(request: web.Request) -> web.Response:
    """Remove all faults."""
    services_of(request).faults.clear()
    return web.json_response({"faults": []})


async def held(request: web.Request) -> web.Response:
    """The held requests."""
    return web.json_response({"held": [each.as_json() for each in services_of(request).faults.held.values()]})


async def release(request: web.Request) -> web.Response:
    """Release held requests: those in ``{"numbers": [...]}``, or all of them without a body."""
    numbers: list[int] | None = None
    if request.can_read_body:
        body = await decode_json(await read_body(request))
        numbers = body.get("numbers") if isinstance(body, dict) else None
        if not isinstance(numbers, list):
            raise platform(400, "INVALID_RELEASE", 'the body must be {"numbers": [...]}')
    return web.json_response({"released": services_of(request).faults.release(numbers)})
