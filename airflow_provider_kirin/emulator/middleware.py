"""The middleware around every handler: request id, API key, JSON errors, journal and access log."""

from __future__ import annotations

import hmac
import logging
import re
import time
import uuid

from aiohttp import web
from aiohttp.typedefs import Handler

from airflow_provider_kirin.emulator.api import OWNER
from airflow_provider_kirin.emulator.errors import Refusal, detail, platform
from airflow_provider_kirin.emulator.faults import CUT, KIND, refusal_response
from airflow_provider_kirin.emulator.services import services_of
from airflow_provider_kirin.emulator.submit import owner_of

log = logging.getLogger(__name__)
#: What needs no key: the video host, and what the CLIs read about models ([C] section 17).
_PUBLIC = ("/cdn/", "/api/v1/skill/")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Assign a request id, check the key, turn errors into JSON, record and log the request."""
    given = request.headers.get("X-Request-Id", "")
    # [V] section 1: the platform assigns a request id if the client sends none.
    request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    request["kirin_request_id"] = request_id
    journal, started, clock = services_of(request).journal, time.time(), time.perf_counter()
    journal.count(request.method, request.path)
    response = await _answer(request, handler)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    status = None if request.get(CUT) else response.status
    took = round((time.perf_counter() - clock) * 1000, 1)
    if not request.path.startswith("/emulator/"):
        entry = {
            "time": round(started, 3),
            "method": request.method,
            "path": request.path,
            "status": status,
            "ms": took,
            "authorization": "Authorization" in request.headers,
            "fault": request.get(KIND),
        }
        journal.requests.append(entry)
    if log.isEnabledFor(logging.INFO):
        log.info("%s %s %s %.1f ms %s", request.method, request.path, status or "cut", took, request_id)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    is_browser = request.path == "/" and "text/html" in request.headers.get("Accept", "")
    try:
        if not (request.path.startswith(_PUBLIC) or is_browser):
            request[OWNER] = _owner(request)
        return await handler(request)
    except Refusal as refusal:
        return refusal_response(request, refusal)
    except web.HTTPException as error:
        # aiohttp's own 404, 405 and 413, which it would send as plain text.
        kept = {name: value for name, value in error.headers.items() if name == "Allow"}
        text = "Not Found" if error.status == 404 else error.reason
        return refusal_response(request, Refusal(error.status, detail(error.status, text).body, kept))
    except Exception:
        log.exception("%s %s", request.method, request.path)
        # [V] section 9: the gateway's response to its own errors.
        return refusal_response(request, detail(500, "Runtime execution failed"))


def _owner(request: web.Request) -> str:
    """Return the owner of the request's key, or raise 401 ([V] section 9, both shapes)."""
    header = request.headers.get("Authorization")
    if header is None:
        raise Refusal(401, {"error": "Missing Token"})
    scheme, _, key = header.partition(" ")
    given = key.strip().encode("utf-8", "surrogateescape")
    known = [each for each in services_of(request).settings.api_keys if hmac.compare_digest(each.encode(), given)]
    if scheme.lower() != "bearer" or not known:
        raise platform(401, "UNAUTHORIZED", "invalid token")
    return owner_of(known[0])
