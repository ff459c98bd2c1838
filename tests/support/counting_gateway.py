"""A gateway in a thread that counts sockets, for what the emulator cannot show: TLS, and how connections are kept."""

from __future__ import annotations

import asyncio
import ssl
import threading

from aiohttp import web

from tests.support.waiting import HANG


class CountingGateway:
    """Every generation is in progress until it was polled ``in_progress`` times. Reachable at 127.0.0.1 only.

    :param in_progress: how many polls find it in progress
    :param tls: serves https with it
    """

    def __init__(self, *, in_progress: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.in_progress = in_progress
        self.asked: dict[str, int] = {}
        self.authorizations: set[str | None] = set()
        self._transports: set[asyncio.BaseTransport] = set()
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(HANG), "the gateway did not start"

    @property
    def sockets(self) -> int:
        """How many sockets brought requests so far."""
        return len(self._transports)

    @property
    def open_sockets(self) -> int:
        """How many of them are open."""
        return sum(not transport.is_closing() for transport in list(self._transports))

    def stop(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(HANG)
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/model/v1/generation/task/{id}", self._task)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _task(self, request: web.Request) -> web.Response:
        one = request.match_info["id"]
        if request.transport is not None:
            self._transports.add(request.transport)
        self.asked[one] = self.asked.get(one, 0) + 1
        self.authorizations.add(request.headers.get("Authorization"))
        if self.asked[one] <= self.in_progress:
            return web.json_response({"id": one, "status": "in_progress"})
        output = [{"content": [{"type": "video", "url": f"https://videos.test/{one}.mp4?sig=secret"}]}]
        return web.json_response({"id": one, "status": "completed", "output": output})
