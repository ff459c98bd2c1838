"""What the gateway says of its models ([C] section 8: paths and names of fields; [E]: what no client reads)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.models import MODELS
from airflow_provider_kirin.emulator.schema import ObjectOf, shown

#: JSON Schema's words, and those of a spec.
_WORDS = {
    "enum": "enum",
    "default": "default",
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "maxItems": "max_items",
}


async def models(request: web.Request) -> web.Response:
    """GET /api/v1/skill/models: all of them on one page."""
    items = [{"id": name, "type": model.task, "provider": "kirin"} for name, model in MODELS.items()]
    return _enveloped({"items": items, "total": len(items), "page": 1, "page_size": len(items)})


async def contract(request: web.Request) -> web.Response:
    """GET /api/v1/skill/model-contracts/{model}: bare, as the CLI's tests have it."""
    name = request.match_info["model"]
    if name not in MODELS:
        return _unknown(name)
    model = MODELS[name]
    body = {
        "schema_version": "model-contract.v1",
        "model": name,
        "protocol": "generation",
        "body_mode": "generation_wrapper",
        "endpoints": {"create": _origin(request) + "/model/v1/generation"},
        "input_schema": ObjectOf(model.params, closed=model.strict).spec(),
    }
    return web.json_response(body)


async def spec(request: web.Request) -> web.Response:
    """GET /api/v1/skill/models/{model}/spec: a list of parameters, in the services' envelope."""
    name = request.match_info["model"]
    if name not in MODELS:
        return _unknown(name)
    parameters = [
        {"name": each, "type": param_type.spec()["type"], "required": param_type.required}
        | {word: param_type.spec()[ours] for ours, word in _WORDS.items() if ours in param_type.spec()}
        for each, param_type in MODELS[name].params.items()
    ]
    api = {"endpoint": _origin(request) + "/model/v1/generation", "method": "POST"}
    return _enveloped({"id": name, "parameters": parameters, "api": api})


def _origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def _enveloped(data: dict[str, Any]) -> web.Response:
    return web.json_response({"status": {"code": 200, "message": "success"}, "data": data})


def _unknown(name: str) -> web.Response:
    """[C] section 5: HTTP 200, and the code in the body."""
    status = {"code": 404, "message": f"model not found: {shown(name)}"}
    return web.json_response({"status": status, "data": None})
