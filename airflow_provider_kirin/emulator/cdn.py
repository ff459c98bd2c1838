"""The video host: signed links that expire, as at a CDN. It has the gateway's port, but needs and accepts no API key.

The real gateway's scheme of links is unknown: all [E].
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import time
from functools import partial

from aiohttp import web

from airflow_provider_kirin.emulator.faults import FILE, apply_fault
from airflow_provider_kirin.emulator.generation import COMPLETED, now_ms
from airflow_provider_kirin.emulator.services import services_of
from airflow_provider_kirin.emulator.video_cache import RenderError

log = logging.getLogger(__name__)


async def video(request: web.Request) -> web.StreamResponse:
    """GET or HEAD /cdn/{id}.mp4. Ranges, ETag and conditional requests are handled by aiohttp's FileResponse."""
    return await apply_fault(request, "video", partial(_send_video, request), request.path)


async def _send_video(request: web.Request) -> web.StreamResponse:
    services, id_ = services_of(request), request.match_info["id"]
    if "Authorization" in request.headers:
        # A key that is sent to the video host has leaked.
        return _text(400, "the video host must not be sent an Authorization header")
    if not is_valid(services.store.secret, id_, request.query.get("Expires", ""), request.query.get("Signature", "")):
        return _text(403, "the signature is invalid or the link has expired")
    generation = services.store.by_id(id_)
    if generation is None or not generation.has_video or generation.status(now_ms()) != COMPLETED:
        return _text(404, "no such video")
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
    """Return a freshly signed path and query for the video of a generation."""
    expires = math.ceil(time.time() + ttl)
    return f"/cdn/{id_}.mp4?Expires={expires}&Signature={_signature(secret, id_, str(expires))}"


def is_valid(secret: bytes, id_: str, expires: str, signature: str) -> bool:
    """Return whether a link was signed here for this video and has not expired."""
    matches = hmac.compare_digest(_signature(secret, id_, expires).encode(), signature.encode("utf-8", "replace"))
    return matches and time.time() < int(expires)


def _signature(secret: bytes, id_: str, expires: str) -> str:
    message = f"{id_}\n{expires}".encode("utf-8", "replace")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:40]
