"""The host of the videos. On the same port, but a stranger to the gateway: it knows no keys and wants none."""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time

from aiohttp import web

from airflow_provider_kirin.emulator.faults import FILE, apply_fault
from airflow_provider_kirin.emulator.generation import COMPLETED, now_ms
from airflow_provider_kirin.emulator.services import services_of
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


def signed_path(secret: bytes, id_: str, ttl: float) -> str:
    """A fresh path with query for the video of a generation."""
    expires = math.ceil(time.time() + ttl)
    return f"/cdn/{id_}.mp4?Expires={expires}&Signature={_signature(secret, id_, str(expires))}"


def is_valid(secret: bytes, id_: str, expires: str, signature: str) -> bool:
    """Whether a link was made here for this video and has not expired."""
    right = hmac.compare_digest(_signature(secret, id_, expires).encode(), signature.encode("utf-8", "replace"))
    return right and time.time() < int(expires)


def _signature(secret: bytes, id_: str, expires: str) -> str:
    message = f"{id_}\n{expires}".encode("utf-8", "replace")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:40]
