"""Fetch images that were submitted as URLs after the submit, like the gateway when it starts a generation."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import aiohttp

from airflow_provider_kirin.emulator.directives import Failure
from airflow_provider_kirin.emulator.errors import ParameterError
from airflow_provider_kirin.emulator.generation import Frame, Generation, now_ms
from airflow_provider_kirin.emulator.images import MAX_BYTES, ImageStore, check_image
from airflow_provider_kirin.emulator.order import refusal_of
from airflow_provider_kirin.emulator.store import Store

log = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=5)
_MAX_CONCURRENT = 16


class Fetcher:
    """Runs one asyncio task for each generation with an image URL, with bounded concurrency."""

    def __init__(self, store: Store, image_store: ImageStore, http: aiohttp.ClientSession) -> None:
        self._store, self._image_store, self._http = store, image_store, http
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, generation: Generation) -> None:
        """Start to fetch this generation's images."""
        task = asyncio.create_task(self._fetch_and_store(generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop. Images that are not fetched yet are fetched after the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch_and_store(self, generation: Generation) -> None:
        async with self._slots:
            fetched = await self._with_images(generation)
        self._store.replace(replace(fetched, done_ms=max(fetched.done_ms, now_ms())))

    async def _with_images(self, generation: Generation) -> Generation:
        try:
            images = tuple([await self._stored(frame) for frame in generation.images])
        except ParameterError as invalid:
            error = refusal_of(generation.model, invalid).body["error"]
            failure = Failure(error["code"], error.get("error_message") or error["message"])
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            # Only the type of the error: its text may contain a signed URL.
            text = f"the image could not be fetched: {type(error).__name__}"
            code = refusal_of(generation.model, ParameterError("image", text, "format")).body["error"]["code"]
            failure = Failure(code, text)
            log.info("generation %s: image not fetched: %s", generation.id, type(error).__name__)
        else:
            return replace(generation, images=images)
        # A failure that the prompt asks for takes precedence: a test waits for it.
        return replace(generation, images=(), failure=generation.failure or failure)

    async def _stored(self, frame: Frame) -> Frame:
        if not frame.is_url:
            return frame
        data = await self._download(frame.ref)

        def check_and_keep() -> str:
            check_image(data, frame.name, any_ratio=frame.any_ratio)
            return self._image_store.keep(data)

        return replace(frame, ref=await asyncio.to_thread(check_and_keep))

    async def _download(self, url: str) -> bytes:
        async with self._http.get(url, timeout=_TIMEOUT, max_redirects=5) as response:
            response.raise_for_status()
            data = bytearray()
            async for chunk in response.content.iter_chunked(65_536):
                data += chunk
                if len(data) >= MAX_BYTES:
                    # check_image rejects this length; the rest need not be read.
                    break
            return bytes(data)
