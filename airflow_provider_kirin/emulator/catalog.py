"""What the gateway says about its models ([C] sections 8 and 17: paths and field names; [E]: what no client reads)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from airflow_provider_kirin.emulator.api import origin_of
from airflow_provider_kirin.emulator.errors import detail, platform
from airflow_provider_kirin.emulator.models import EXTENSION, I2V, MODELS, MULTI, OMNI, T2V
from airflow_provider_kirin.emulator.responses import enveloped
from airflow_provider_kirin.emulator.schema import ObjectOf, ParamType, shown

_CREATE, _TASK = "/model/v1/generation", "/model/v1/generation/task/{task_id}"
_PROVIDER = "kirin"
_LIMIT, _MAX_LIMIT = 20, 100
#: What a model takes, by its task.
_INPUTS = {
    I2V: ("image", "text"),
    T2V: ("text",),
    MULTI: ("image", "text"),
    OMNI: ("image", "text", "video"),
    EXTENSION: ("video", "text"),
}
#: JSON Schema's keywords, and their names in a spec.
_SPEC_NAMES = {
    "enum": "enum",
    "default": "default",
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "maxItems": "max_items",
}


async def models(request: web.Request) -> web.Response:
    """GET /api/v1/skill/models: a page of the models, of a ``type`` or with ``keywords``. It needs no key."""
    page, size = _number(request, "page", 1), min(_number(request, "page_size", _LIMIT), _MAX_LIMIT)
    found = _matching(request.query.get("keywords", ""), type=request.query.get("type", ""))
    data = {
        "models": found[(page - 1) * size : page * size],
        "total": len(found),
        "page": page,
        "page_size": size,
        "total_pages": -(-len(found) // size),
    }
    return enveloped(data)


async def search(request: web.Request) -> web.Response:
    """GET /model/v1/models/skill/search: the same models, as the SDKs ask for them."""
    limit = min(_number(request, "limit", _LIMIT), _MAX_LIMIT)
    text, filters = request.query.get("q", ""), {name: request.query.get(name, "") for name in _FILTERS}
    found = _matching(text, **filters)
    body = {"hits": found[:limit], "query": text, "limit": limit, "offset": 0, "processingTimeMs": 0}
    return web.json_response({**body, "estimatedTotalHits": len(found)})


async def skill(request: web.Request) -> web.Response:
    """GET /model/v1/models/skill/{model}: the parameters as Markdown."""
    name = request.match_info["model"]
    if name not in MODELS:
        raise detail(404, f"App not found: {shown(name)}")
    lines = [f"# {name}", "", f"POST {origin_of(request)}{_CREATE}", ""]
    for parameter in _parameters(MODELS[name].params):
        facts = {"type": parameter["type"], "required": parameter["required"], **parameter.get("constraints", {})}
        lines.append(f"- `{parameter['name']}`: " + ", ".join(f"{key} {json.dumps(facts[key])}" for key in facts))
    return web.Response(text="\n".join([*lines, ""]), content_type="text/markdown", charset="utf-8")


async def contract(request: web.Request) -> web.Response:
    """GET /api/v1/skill/model-contracts/{model}: the parameters as JSON Schema. It needs no key."""
    name = request.match_info["model"]
    if name not in MODELS:
        return _unknown_model(name)
    model = MODELS[name]
    data = {
        "schema_version": "model-contract.v1",
        "revision": "emulator-1",
        "model_id": name,
        "display_name": name,
        "family": _PROVIDER,
        "kind": model.task,
        "protocol": "generation",
        "body_mode": "generation_wrapper",
        "endpoints": {"submit": {"method": "POST", "path": _CREATE}, "status": {"method": "GET", "path": _TASK}},
        "input_schema": ObjectOf(model.params, closed=model.strict).spec(),
    }
    return enveloped(data)


async def spec(request: web.Request) -> web.Response:
    """GET /api/v1/skill/models/{model}/spec: the parameters as a list. It needs no key."""
    name = request.match_info["model"]
    if name not in MODELS:
        return _unknown_model(name)
    data = {
        "model_id": name,
        "name": name,
        "vendor": _PROVIDER,
        "type": MODELS[name].task,
        "api": {"endpoint": origin_of(request) + _CREATE, "method": "POST", "headers": {}},
        "parameters": _parameters(MODELS[name].params),
    }
    return enveloped(data)


def _entry(name: str) -> dict[str, Any]:
    task = MODELS[name].task
    return {
        "id": name,
        "name": name,
        "type": task,
        "provider": _PROVIDER,
        "description": "",
        "input_modalities": list(_INPUTS.get(task, ())),
        "output_modalities": ["video"],
    }


#: The filters of a search.
_FILTERS = ("type", "provider", "input", "output")


def _matching(words: str, **filters: str) -> list[dict[str, Any]]:
    """Return the models with all of the words in their name, and with all of the filters that are not empty."""
    found = []
    for entry in map(_entry, MODELS):
        facts = {
            "type": [entry["type"]],
            "provider": [entry["provider"]],
            "input": entry["input_modalities"],
            "output": entry["output_modalities"],
        }
        named = all(word in entry["name"] for word in words.lower().split())
        if named and all(value in facts[name] for name, value in filters.items() if value):
            found.append(entry)
    return found


def _parameters(params: Mapping[str, ParamType], above: str = "") -> list[dict[str, Any]]:
    parameters = []
    for name, param_type in params.items():
        schema = param_type.spec()
        facts = {spec_name: schema[keyword] for keyword, spec_name in _SPEC_NAMES.items() if keyword in schema}
        parameter = {"name": name, "path": above + name, "type": schema["type"], "required": param_type.required}
        if facts:
            parameter["constraints"] = facts
        if isinstance(param_type, ObjectOf):
            parameter["children"] = _parameters(param_type.fields, f"{above}{name}.")
        parameters.append(parameter)
    return parameters


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    if text and (not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1):
        raise platform(400, "INVALID_PARAMETER", f"{name}: must be an integer above 0")
    return int(text or default)


def _unknown_model(name: str) -> web.Response:
    """Return a 404 as [C] section 5 has it: HTTP 200 with the code in the body."""
    return enveloped(None, 404, f"model not found: {shown(name)}")
