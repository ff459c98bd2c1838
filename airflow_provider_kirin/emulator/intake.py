"""From a body to an accepted generation: judged in a thread, then accepted in one step that nothing can interrupt."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

from airflow_provider_kirin.emulator.directives import read_directives
from airflow_provider_kirin.emulator.errors import insufficient_balance, platform, too_many_at_once
from airflow_provider_kirin.emulator.generation import Generation
from airflow_provider_kirin.emulator.ids import new_id, now_ms
from airflow_provider_kirin.emulator.parts import Parts
from airflow_provider_kirin.emulator.pictures import Pictures
from airflow_provider_kirin.emulator.prices import CENTS
from airflow_provider_kirin.emulator.validation import Order, Source, read_order

_BIG = 65_536


async def decode_json(raw: bytes) -> Any:
    """The JSON in a body; NaN, Infinity, broken text and endless nesting are refused with 400."""
    return await asyncio.to_thread(_decode, raw) if len(raw) > _BIG else _decode(raw)


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise platform(400, "INVALID_JSON", "the body is not valid JSON") from error


def _no_constant(name: str) -> Any:
    raise ValueError(name)


async def judge(body: Any, header_model: str | None) -> Order:
    """The order in a body; the work on images is done in a worker thread."""
    return await asyncio.to_thread(read_order, body, header_model)


async def accept(
    parts: Parts, body: Any, header_model: str | None, *, owner: str, origin: str, lag: float
) -> tuple[Generation, bool]:
    """Accept a generation, or raise the refusal. Also says whether it is a new one.

    From the look for duplicates to the row in the store there is no await: of two equal submits, one is first.
    """
    order = await judge(body, header_model)
    image = await _kept(parts.pictures, order.image)
    tail = await _kept(parts.pictures, order.image_tail)
    known = _known(parts, owner, order.external_id)
    if known is not None:
        return known, False
    now = now_ms()
    cents = CENTS[order.mode, order.video_seconds]
    _check_limits(parts, owner, cents, now)
    generation = _generation(parts, order, image, tail, owner=owner, origin=origin, now=now, lag=lag)
    parts.store.add(generation)
    parts.callbacks.expect(generation)
    if generation.waits_for_images:
        parts.fetcher.start(generation)
    return generation, True


async def _kept(pictures: Pictures, source: Source | None) -> str | None:
    return await asyncio.to_thread(pictures.keep, source) if isinstance(source, bytes) else source


def _known(parts: Parts, owner: str, external_id: str | None) -> Generation | None:
    """What the policy says about an external id that was used before (section 15: the gateway's answer is unknown)."""
    policy = parts.settings.duplicates
    if external_id is None or policy == "bill":
        return None
    known = parts.store.by_external_id(owner, external_id)
    if known is not None and policy == "reject":
        raise platform(409, "EXTERNAL_TASK_ID_EXISTS", "external_task_id was used before")
    return known


def _check_limits(parts: Parts, owner: str, cents: int, now: int) -> None:
    limit, balance = parts.settings.max_concurrent, parts.settings.balance_cents
    if balance is not None and parts.store.spent_cents(owner, now) + cents > balance:
        raise insufficient_balance()
    if limit is not None and parts.store.running(owner, now) >= limit:
        raise too_many_at_once()


def _generation(
    parts: Parts, order: Order, image: str | None, tail: str | None, *, owner: str, origin: str, now: int, lag: float
) -> Generation:
    wishes = read_directives(order.prompt)
    seconds = parts.settings.draw_seconds() if wishes.seconds is None else wishes.seconds
    return Generation(
        id=new_id(),
        owner=owner,
        external_id=order.external_id,
        model=order.model,
        image=image,
        image_tail=tail,
        mode=order.mode,
        video_seconds=order.video_seconds,
        watermark=order.watermark,
        created_ms=now,
        done_ms=now + round(seconds * 1000),
        visible_ms=now + round(lag * 1000),
        cents=CENTS[order.mode, order.video_seconds],
        failure=wishes.failure,
        no_video=wishes.no_video,
        odd_status=wishes.status,
        callback_urls=order.callback_urls,
        origin=origin,
    )


def owner_of(key: str) -> str:
    """Whose generations: a digest, so that no key is ever on disk."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:16]
