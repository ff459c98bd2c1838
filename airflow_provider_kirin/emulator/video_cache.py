"""The rendered videos: each rendered when it is first requested, once for each set of images and settings."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path

from airflow_provider_kirin.emulator.generation import Generation
from airflow_provider_kirin.emulator.images import ImageStore

_ROOT = str(Path(__file__).resolve().parents[2])


class RenderError(Exception):
    """The renderer failed; the message is the last line of its output."""


class VideoCache:
    """A directory of MP4 files by digest. Thousands of generations of one image need one rendering."""

    def __init__(self, folder: Path, image_store: ImageStore) -> None:
        self._folder = folder
        self._image_store = image_store
        self._running: dict[str, asyncio.Task[None]] = {}
        # One at a time: a rendering already uses both cores of a small machine.
        self._slot = asyncio.Semaphore(1)
        folder.mkdir(parents=True, exist_ok=True)

    async def path(self, generation: Generation) -> Path:
        """Return the path of a generation's video, and render it first if necessary."""
        name = _digest(generation)
        out = self._folder / f"{name}.mp4"
        if not out.exists():
            task = self._running.get(name)
            if task is None:
                task = self._running[name] = asyncio.create_task(self._render(generation, out))
                task.add_done_callback(lambda _: self._running.pop(name, None))
            # Shielded: a client that disconnects must not stop a rendering that others wait for.
            await asyncio.shield(task)
        return out

    async def close(self) -> None:
        """Stop the renderings."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _render(self, generation: Generation, out: Path) -> None:
        job = {
            "images": [str(self._image_store.path(frame.ref)) for frame in generation.images],
            "card": generation.card,
            "aspect_ratio": generation.aspect_ratio,
            "short_side": generation.short_side,
            "fps": generation.fps,
            "seconds": generation.video_seconds,
            "has_sound": generation.has_sound,
            "watermark": generation.watermark,
            "out": str(out),
        }
        async with self._slot:
            await _run(json.dumps(job))


async def _run(job: str) -> None:
    """Run the renderer as a process: it ends by itself if this one is killed, and has its own GIL."""
    python_path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "airflow_provider_kirin.emulator.video_renderer",
        env={**os.environ, "PYTHONPATH": python_path},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate(job.encode())
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        raise RenderError(lines[-1] if lines else f"the renderer ended with {process.returncode}")


def _digest(generation: Generation) -> str:
    key = [
        [frame.ref for frame in generation.images],
        # The card is only drawn if there is no image.
        generation.card if not generation.images else "",
        generation.aspect_ratio,
        generation.short_side,
        generation.fps,
        generation.video_seconds,
        generation.has_sound,
        generation.watermark,
    ]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]
