"""The host of the videos. On the same port, but a stranger to the gateway: it knows no keys and wants none."""

from __future__ import annotations

import logging

from aiohttp import web

from airflow_provider_kirin.emulator.faults import FILE, apply_fault
from airflow_provider_kirin.emulator.generation import COMPLETED
from airflow_provider_kirin.emulator.ids import now_ms
from airflow_provider_kirin.emulator.services import services_of
from airflow_provider_kirin.emulator.signing import is_valid
from airflow_provider_kirin.emulator.video_cache import RenderError

log = logging.getLogger(__name__)


async def video(request: web.Request) -> web.StreamResponse:
    """GET or HEAD /cdn/{id}.mp4. Ranges, ETag and conditions are aiohttp's FileResponse's ([E]: real links unknown)."""

    async def answer() -> web.StreamResponse:
        return await _answer(request)

    return await apply_fault(request, "video", answer, request.path)


async def _answer(request: web.Request) -> web.StreamResponse:
    services, id_ = services_of(request), request.match_info["id"]
    if "Authorization" in request.headers:
        # A key that reaches the video host is a leak, and a mistake worth finding.
        return _text(400, "the video host must not be sent an Authorization header")
    if not is_valid(services.store.secret, id_, request.query.get("Expires", ""), request.query.get("Signature", "")):
        return _text(403, "the link's signature is wrong or it has expired")
    generation = services.store.by_id(id_)
    if generation is None or not generation.has_video or generation.status(now_ms()) != COMPLETED:
        return _text(404, "there is no such video")
    try:
        path = await services.video_cache.path(generation)
    except RenderError as error:
        log.error("video of %s: %s", id_, error)
        return _text(500, "the video could not be rendered")
    request[FILE] = path
    return web.FileResponse(path, headers={"Content-Type": "video/mp4"})


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n")
