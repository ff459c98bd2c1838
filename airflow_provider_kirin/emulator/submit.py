"""Turn a request body into a generation: validate it in a thread, then accept it in one uninterruptible step."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

from airflow_provider_kirin.emulator.directives import Directives, read_directives
from airflow_provider_kirin.emulator.errors import insufficient_balance, invalid, platform, too_many_at_once
from airflow_provider_kirin.emulator.generation import COMPLETED, Frame, Generation, job_id, new_id, now_ms
from airflow_provider_kirin.emulator.images import ImageStore
from airflow_provider_kirin.emulator.order import Order, read_order
from airflow_provider_kirin.emulator.schema import Source
from airflow_provider_kirin.emulator.services import Services

_DECODE_INLINE_BYTES = 65_536
_MAX_EXTENDED_SECONDS = 180


async def decode_json(raw: bytes) -> Any:
    """Return the decoded JSON. NaN, Infinity, invalid UTF-8 and excessive nesting are rejected with 400."""
    return await asyncio.to_thread(_decode, raw) if len(raw) > _DECODE_INLINE_BYTES else _decode(raw)


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise platform(400, "INVALID_JSON", "the body is not valid JSON") from error


def _no_constant(name: str) -> Any:
    raise ValueError(name)


async def validate_order(body: Any, header_model: str | None) -> Order:
    """Return the order in a body. Images are decoded in a worker thread."""
    return await asyncio.to_thread(read_order, body, header_model)


async def accept(
    services: Services, body: Any, header_model: str | None, *, owner: str, origin: str, lag: float, directive: str
) -> tuple[Generation, bool]:
    """Accept a generation, or raise the refusal. Return it, and whether it is new.

    There is no await between the check for duplicates and the row in the store: of two equal submits, one is first.
    """
    order = await validate_order(body, header_model)
    frames = tuple(
        [Frame(each.name, await _stored(services.image_store, each.source), each.any_ratio) for each in order.images]
    )
    existing = _existing(services, owner, order.external_id)
    if existing is not None:
        return existing, False
    now = now_ms()
    _check_limits(services, owner, order.cents, now)
    directives = read_directives(f"{order.prompt or ''} {directive}")
    generation = _generation(services, order, frames, directives, owner=owner, origin=origin, now=now, lag=lag)
    if order.extends is not None:
        generation = _extended(services, generation, order.extends)
    services.store.add(generation)
    services.callbacks.schedule(generation)
    if generation.waits_for_images:
        services.fetcher.start(generation)
    return generation, True


async def _stored(image_store: ImageStore, source: Source) -> str:
    return await asyncio.to_thread(image_store.keep, source) if isinstance(source, bytes) else source


def _existing(services: Services, owner: str, external_id: str | None) -> Generation | None:
    """Apply the policy for an external id that already exists (section 15: the gateway's response is unknown)."""
    policy = services.settings.duplicates
    if external_id is None or policy == "bill":
        return None
    existing = services.store.by_external_id(owner, external_id)
    if existing is not None and policy == "reject":
        raise platform(409, "EXTERNAL_TASK_ID_EXISTS", "this external_task_id already exists")
    return existing


def _check_limits(services: Services, owner: str, cents: int, now: int) -> None:
    limit, balance = services.settings.max_concurrent, services.settings.balance_cents
    if balance is not None and services.store.spent_cents(owner, now) + cents > balance:
        raise insufficient_balance()
    if limit is not None and services.store.running(owner, now) >= limit:
        raise too_many_at_once()


def _generation(
    services: Services,
    order: Order,
    frames: tuple[Frame, ...],
    directives: Directives,
    *,
    owner: str,
    origin: str,
    now: int,
    lag: float,
) -> Generation:
    seconds = services.settings.random_duration() if directives.seconds is None else directives.seconds
    id_ = new_id()
    return Generation(
        id=id_,
        owner=owner,
        external_id=order.external_id,
        model=order.model,
        job_id=job_id(id_, now),
        images=frames,
        card=order.card,
        aspect_ratio=order.aspect_ratio,
        short_side=order.short_side,
        fps=order.fps,
        video_seconds=order.video_seconds,
        has_sound=order.has_sound,
        watermark=order.watermark,
        created_ms=now,
        done_ms=now + round(seconds * 1000),
        visible_ms=now + round(lag * 1000),
        cents=order.cents,
        failure=directives.failure,
        no_video=directives.no_video,
        odd_status=directives.status,
        odd_duration=directives.duration,
        callback_urls=order.callback_urls,
        origin=origin,
    )


def _extended(services: Services, generation: Generation, video_id: str) -> Generation:
    """Return the generation as an extension of an earlier video; [K]: of v1 models, up to 3 minutes in total."""
    clip = services.store.by_job_id(generation.owner, video_id)
    if clip is None or clip.status(generation.created_ms) != COMPLETED or not clip.has_video:
        raise invalid("video_id", "no such video; must be the job id of a completed generation")
    if not clip.model.startswith(("kirin_v1_", "kirin_duration_")) or clip.video_seconds > _MAX_EXTENDED_SECONDS:
        raise invalid("video_id", "only videos of v1 models can be extended, up to 3 minutes")
    return replace(
        generation,
        images=clip.images,
        card=clip.card,
        aspect_ratio=clip.aspect_ratio,
        short_side=clip.short_side,
        fps=clip.fps,
        video_seconds=clip.video_seconds + generation.video_seconds,
    )


def owner_of(key: str) -> str:
    """Return the owner that a key stands for: a digest, so that no key is ever on disk."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
