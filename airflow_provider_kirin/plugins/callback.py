"""The receiver of Kirin's callbacks: authentication and limits.

The address is open to everyone. So a request is authenticated by the token in its URL before its body is read, without
I/O; a genuine one goes into a bounded queue, and the response reveals only that it arrived. No thread and no database
session is held for a request, or while another system is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response

from airflow_provider_kirin.api.callback_body import reports_progress
from airflow_provider_kirin.api.callback_token import MAX_TOKEN, TOKEN_PARAMETER, parse_unverified, signing_key
from airflow_provider_kirin.exceptions import KirinConfigError
from airflow_provider_kirin.metrics import report_callbacks
from airflow_provider_kirin.plugins.callback_handler import CallbackHandler
from airflow_provider_kirin.plugins.callback_inbox import Inbox
from airflow_provider_kirin.plugins.callback_keys import SigningKeys, Verdict
from airflow_provider_kirin.plugins.generation_lookup import load_hooks, look_up_once

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from airflow_provider_kirin.api.callback_token import CallbackToken

log = logging.getLogger(__name__)

#: Bytes of a callback's body. The largest known one has some thousand.
MAX_BODY = 64 * 1024
#: Seconds that a body may take.
BODY_TIMEOUT = 10.0
#: Callbacks that wait for the lookup of their connection; and those whose bodies are received before that.
MAX_UNVERIFIED = 50
#: Seconds between two lookups of connections that did not prove a token genuine.
FORGERY_PAUSE = 0.2
#: Seconds between two reports of what was counted.
REPORT_INTERVAL = 10.0


class TokenOutOfUrl:
    """Takes the token out of the URL before anything can log it: access logs write the query when the response begins.

    :param app: the application
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            # Airflow's and uvicorn's loggers read the same mapping.
            query, scope["query_string"] = scope["query_string"], b""
            scope["kirin_token"] = _token(query)
        await self._app(scope, receive, send)


def _token(query: bytes) -> str:
    if len(query) > MAX_TOKEN + len(TOKEN_PARAMETER) + 1:
        return ""
    with suppress(ValueError):
        return parse_qs(query.decode("ascii"), max_num_fields=1).get(TOKEN_PARAMETER, [""])[0]
    return ""


class Receiver:
    """The receiver of one API server process."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._handler = CallbackHandler(look_up_once)
        self._inbox = Inbox(self._handler.handle, self.count)
        self._keys = SigningKeys(_look_up_key)
        self._unverified: asyncio.Queue[tuple[str, CallbackToken]] = asyncio.Queue(MAX_UNVERIFIED)
        self._receiving = asyncio.Semaphore(MAX_UNVERIFIED)

    async def run(self) -> None:
        """Work until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._inbox.run())
                tasks.create_task(self._verify_unknown())
                tasks.create_task(self._report())
        finally:
            self._handler.close()

    def count(self, result: str) -> None:
        """Count a result, for the next report."""
        self._counts[result] += 1

    async def receive(self, request: Request) -> int:
        """Take a callback, and return the status of the response.

        :param request: a POST
        """
        token = request.scope["kirin_token"]
        claims = parse_unverified(token) if token else None
        verdict = Verdict.FORGED if claims is None else self._keys.verify(token, claims)
        if claims is None or verdict is Verdict.FORGED:
            self.count("rejected")
            return 403
        is_unknown = verdict is Verdict.UNKNOWN
        if is_unknown and (self._receiving.locked() or self._unverified.full()):
            self.count("dropped")
            return 503
        async with self._receiving if is_unknown else nullcontext():
            body = await _read(request)
        if body is None:
            self.count("rejected")
            return 413
        # Progress needs no action, whoever reports it.
        if reports_progress(body):
            self.count("progress")
            return 202
        has_room = self._offer_unknown(token, claims) if is_unknown else self._offer(claims)
        return 202 if has_room else 503

    def _offer_unknown(self, token: str, claims: CallbackToken) -> bool:
        if self._unverified.full():
            self.count("dropped")
            return False
        self._unverified.put_nowait((token, claims))
        return True

    def _offer(self, claims: CallbackToken) -> bool:
        has_room = self._inbox.offer(claims)
        if not has_room:
            self.count("dropped")
        return has_room

    async def _verify_unknown(self) -> None:
        """Look up the connections of unknown tokens: one at a time, with a pause after each forged one."""
        while True:
            token, claims = await self._unverified.get()
            verdict, is_new = self._keys.verify(token, claims), False
            if verdict is Verdict.UNKNOWN:
                # Not within the time limit of the lookup: on a busy machine the first import alone may take longer.
                with suppress(Exception):
                    await load_hooks()
                await self._keys.refresh(claims.kirin_conn_id)
                verdict, is_new = self._keys.verify(token, claims), True
            if verdict is Verdict.GENUINE:
                self._offer(claims)
                continue
            self.count("rejected")
            if is_new:
                await asyncio.sleep(FORGERY_PAUSE)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL)
            counts, self._counts = self._counts, Counter()
            try:
                # The first metric of a process resolves the address of the metrics server.
                await asyncio.to_thread(report_callbacks, counts)
            except Exception:
                log.exception("The metric kirin.callbacks could not be sent.")


async def _look_up_key(kirin_conn_id: str) -> bytes:
    from airflow_provider_kirin.hooks.shared_session import look_up_connection

    connection = await look_up_connection(kirin_conn_id)
    if not connection.callback_base_url:
        # It signs no tokens. Above all, it may be of another type, and its password may be public.
        raise KirinConfigError("it has no extra callback_base_url")
    return signing_key(connection.api_key)


async def _read(request: Request) -> bytes | None:
    """Return the body; None if it is too long or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return None
    except TimeoutError:
        return None
    return bytes(body)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.receiver = Receiver()
    running = asyncio.create_task(app.state.receiver.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


app = FastAPI(title="Kirin callbacks", openapi_url=None, lifespan=_lifespan)
app.add_middleware(TokenOutOfUrl)


@app.post("/generation")
async def generation(request: Request) -> Response:
    """Take a callback of the gateway."""
    return Response(status_code=await request.app.state.receiver.receive(request))
