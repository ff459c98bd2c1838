"""Kirin as the http provider's deferrable sensor needs it: a URL that is 404 until the generation is done.

Kirin has no such URL. It is made here, for that sensor: each request is passed on to the gateway as one poll.
"""

from __future__ import annotations

import argparse
import asyncio
import os

from aiohttp import ClientSession, web

READY = "Ready at "


async def serve(gateway: str, key: str) -> None:
    """Serve ``/ready/{id}`` until the process is ended, on a free port, which is printed.

    :param gateway: its URL
    :param key: its API key
    """
    async with ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:

        async def poll(request: web.Request) -> web.Response:
            async with http.get(f"{gateway}/model/v1/generation/task/{request.match_info['id']}") as response:
                is_done = (await response.json())["status"] == "completed"
            return web.Response(status=200 if is_done else 404)

        app = web.Application()
        app.router.add_get("/ready/{id}", poll)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(READY + f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gateway")
    asyncio.run(serve(parser.parse_args().gateway, os.environ["KIRIN_BENCH_KEY"]))
