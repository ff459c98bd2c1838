"""A gateway in a process of its own that costs the benchmark next to nothing: no state, no checks, no prices.

The state of a generation follows from its id alone, so that any number of them can run. It implements Kirin's protocol,
and as much of two others as the peers' own triggers need: a URL that is 404 until the generation is done
(`HttpSensorTrigger`), and OpenAI's batches (`OpenAIBatchTrigger`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from aiohttp import web

_READY = "Benchmark gateway ready at "
#: A response that a client has to skip: it waits for the one that follows.
_INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
#: How an MP4 begins: our download takes nothing else for a video.
_BEGINNING = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
#: The largest video that `/video/{bytes}` serves; the file behind it is sparse.
_MAX_VIDEO = 4 << 30


def running_ids(count: int, seconds: float) -> list[str]:
    """Return the ids of generations that begin now.

    :param count: how many
    :param seconds: how long each of them takes
    """
    now = time.time()
    return [f"bench-{number}-{int(now * 1000)}-{int(seconds * 1000)}" for number in range(count)]


def progress_of(kirin_task_id: str) -> float:
    """Return the share of its time that has passed of a generation; 1 or more means that it is done.

    :param kirin_task_id: one of :func:`running_ids`
    """
    *_, began, takes = kirin_task_id.split("-")
    return (time.time() * 1000 - int(began)) / int(takes)


def kirin_task(kirin_task_id: str) -> dict[str, Any]:
    """Return Kirin's response about a generation."""
    done = progress_of(kirin_task_id)
    task: dict[str, Any] = {"id": kirin_task_id, "created_at": int(time.time()), "model": "kirin_v1_6_i2v"}
    if done < 1:
        return task | {"status": "in_progress", "progress": round(done, 2)}
    video = {"type": "video", "url": "https://cdn.example.com/video.mp4", "duration": 5, "jobId": "1"}
    return task | {"status": "completed", "output": [{"content": [video]}], "usage": {"cost": "0.28", "discount": 1}}


def batch(batch_id: str) -> dict[str, Any]:
    """Return OpenAI's response about a batch."""
    fixed = {"object": "batch", "endpoint": "/v1/responses", "input_file_id": "f", "completion_window": "24h"}
    status = "in_progress" if progress_of(batch_id) < 1 else "completed"
    return fixed | {"id": batch_id, "created_at": int(time.time()), "status": status}


def hostile_bodies() -> list[bytes]:
    """Return status responses that cost a client much, each in another way. None of them ends a wait."""
    values = (
        "[" + "[]," * 80_000 + "1]",
        "[" + "[]," * 1_900 + "1]",
        "[" + "1," * 100_000 + "1]",
        '"' + "\\\\" * 60_000 + '"',
        "[" + '"\\u0000\\ud83d",' * 15_000 + "1]",
        "[" + "9" * 4_000 + ("," + "9" * 4_000) * 50 + "]",
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        # More than is read.
        "[" + "1.5," * 1_000_000 + "1]",
    )
    start = '{"id": "hostile", "status": "in_progress", "metadata": {"a": '
    return [f"{start}{value}}}}}".encode() for value in values]


class Gateway:
    """Answers, and counts.

    :param video: a file of at least the size of the largest video that is asked for
    """

    def __init__(self, video: Path) -> None:
        self._video = video
        self._counts: Counter[str] = Counter()
        self._hostile = itertools.cycle(hostile_bodies())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        kind, _, last = request.path.rpartition("/")
        self._counts[kind] += 1
        match kind:
            case "/model/v1/generation/task":
                return _json(kirin_task(last))
            case "/hostile/model/v1/generation/task":
                if request.transport is not None:
                    request.transport.write(_INTERIM * 2_000)
                return web.Response(body=next(self._hostile), content_type="application/json")
            case "/ready":
                return web.Response(status=200 if progress_of(last) >= 1 else 404)
            case "/openai/v1/batches":
                return _json(batch(last))
            case "/model/v1":
                async for _ in request.content.iter_any():
                    pass
                return _json(kirin_task(running_ids(1, 60)[0]))
            case "/video":
                with self._video.open("r+b") as file:
                    file.write(_BEGINNING)
                    file.truncate(int(last))
                return web.FileResponse(self._video, headers={"Content-Type": "video/mp4"})
            case "/counts":
                return _json({"requests": self._counts, "cpu_seconds": time.process_time()})
        return web.Response(status=400)


def _json(value: Any) -> web.Response:
    return web.Response(body=json.dumps(value).encode(), content_type="application/json")


async def serve() -> None:
    """Serve until standard input ends, on a free port, which is printed."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as video:
        server = web.Server(Gateway(Path(video.name)).handle, access_log=None)
        runner = web.ServerRunner(server)
        await runner.setup()
        # Ten thousand clients may connect at the same time.
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        print(_READY + f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        # The parent process holds the other end, so this one does not outlive it, however it ends.
        await asyncio.to_thread(sys.stdin.read)


class RunningGateway:
    """A gateway that :func:`gateway` started.

    :param url: where it listens
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def counts(self, kind: str) -> tuple[int, float]:
        """Return how often it was asked, and its CPU seconds so far.

        :param kind: the path without its last part, such as ``/ready``
        """
        with urlopen(f"{self.url}/counts/") as response:
            counts = json.load(response)
        return counts["requests"].get(kind, 0), counts["cpu_seconds"]


@contextmanager
def gateway() -> Iterator[RunningGateway]:
    """Start a gateway in a process of its own, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gateway"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(_READY):
            raise RuntimeError(f"The gateway did not start: {line!r}")
        yield RunningGateway(line.removeprefix(_READY).strip())
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve())
