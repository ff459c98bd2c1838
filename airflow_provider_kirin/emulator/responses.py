"""JSON bodies: the response to a submit, the price preview, the task object, Kling's callback, and the envelope."""

from __future__ import annotations

import hashlib
from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.directives import Directives
from airflow_provider_kirin.emulator.generation import COMPLETED, FAILED, IN_PROGRESS, Generation, now_ms
from airflow_provider_kirin.emulator.order import Order


def created_response(generation: Generation, status: str) -> dict[str, Any]:
    """Return the response to a submit ([V] section 2); ``created_at`` in milliseconds, as on the older page."""
    return {
        "id": generation.id,
        "created_at": generation.created_ms,
        "status": status,
        "model": generation.model,
    }


def price_response(order: Order, directives: Directives) -> dict[str, Any]:
    """Return the price of a submit, or a cache miss, which is HTTP 200 too ([C] section 11)."""
    price_key = f"{order.model}/{order.mode}/{order.video_seconds}/{order.has_sound}"
    known = {
        "hash": "v1:" + hashlib.sha256(price_key.encode()).hexdigest(),
        "model": order.model,
        "original_model": order.model,
    }
    if directives.price == "miss":
        return {"status": "failed", "data": {"cost": None, **known, "reason": "COST_CACHE_MISS"}}
    data = {
        "billing_model": "per_request",
        "cost": usd(order.cents),
        "currency": "credit" if directives.price == "credit" else "USD",
        "discount": 1,
        **known,
        "sample_count": 1,
        "updated_at": now_ms(),
    }
    return {"status": "success", "data": data}


def task_object(generation: Generation, now: int, video_url: str) -> dict[str, Any]:
    """Return the response to a lookup ([V] section 4), without the external id: no page or client shows it there."""
    status = generation.status(now)
    task: dict[str, Any] = {
        "id": generation.id,
        "status": status,
        "model": generation.model,
        "created_at": generation.created_ms,
        "metadata": {"in_queue_at": generation.created_ms},
    }
    if status == IN_PROGRESS:
        task["status"] = generation.odd_status or status
        task["progress"] = generation.progress(now)
        return task
    task["metadata"]["completed_at"] = generation.done_ms
    if status == FAILED:
        assert generation.failure is not None
        task["error"] = generation.failure.as_json()
        # [C] section 4: the usage of a failed task may have "" as its cost; a directive asks for a real one.
        cost = usd(generation.cents) if generation.failure.shape == "charged" else ""
        task["usage"] = {"cost": cost, "discount": 1}
        return task
    task["metadata"]["upload_at"] = generation.done_ms
    task["output"] = [{"content": [_content(generation, video_url)]}] if generation.has_video else []
    task["usage"] = {"cost": usd(generation.cents), "discount": 1}
    return task


def _content(generation: Generation, video_url: str) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "video", "url": video_url, "jobId": generation.job_id}
    # A number in the documentation, a string in both CLIs ([V], [C] section 4); a directive asks for the other shapes.
    shapes = {"string": {"duration": str(generation.video_seconds)}, "empty": {"duration": ""}, "absent": {}}
    return content | shapes.get(generation.odd_duration or "", {"duration": generation.video_seconds})


def kling_callback(generation: Generation, now: int, video_url: str, status: str) -> dict[str, Any]:
    """Return a callback as Kling documents it ([K] section 13), for gateways that pass the URL on to Kling."""
    kling_status = {IN_PROGRESS: "processing", COMPLETED: "succeed", FAILED: "failed"}
    info: dict[str, Any] = {"external_task_id": generation.external_id} if generation.external_id else {}
    body: dict[str, Any] = {
        "task_id": generation.job_id,
        "task_status": kling_status[status],
        "task_status_msg": "",
        "task_info": info,
        "created_at": generation.created_ms,
        "updated_at": now,
    }
    if status == FAILED and generation.failure:
        body["task_status_msg"] = generation.failure.message
    if status == COMPLETED:
        video = {"id": generation.job_id, "url": video_url, "duration": str(generation.video_seconds)}
        body["task_result"] = {"videos": [video] if generation.has_video else []}
        body["final_unit_deduction"] = usd(generation.cents)
    return body


def usd(cents: int) -> str:
    """Return cents as the decimal string that the API uses for USD ([V] section 4: usage.cost)."""
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return f"{sign}{cents // 100}.{cents % 100:02d}"


def enveloped(data: dict[str, Any] | None, code: int = 200, message: str = "success") -> web.Response:
    """Return a response of the account and model services: HTTP 200, with the status in the body ([C] section 5)."""
    return web.json_response({"status": {"code": code, "message": message}, "data": data})
