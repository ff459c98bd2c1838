"""``kirin models``: the models that this provider knows, and the parameters of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from airflow_provider_kirin.api.models import load_schema, model_names


def list_models() -> list[dict[str, str]]:
    """Return a row for each model."""
    return [
        {"model": name, "makes": str(load_schema(name)["x-task"]), "required": _required(load_schema(name))}
        for name in model_names()
    ]


def list_parameters(model: str) -> list[dict[str, str]]:
    """Return a row for each parameter of a model.

    :param model: the model's id
    :raises KirinPayloadError: there is no such model
    """
    schema = load_schema(model)
    required = schema.get("required", ())
    return [
        {
            "parameter": name,
            "type": " or ".join(_types(rules)),
            "required": "yes" if name in required else "",
            "default": _json(rules["default"]) if "default" in rules else "",
            "limits": ", ".join(_limits(rules)),
        }
        for name, rules in schema["properties"].items()
        if name != "model"
    ]


def _required(schema: dict[str, Any]) -> str:
    """Return what every payload needs: parameters, or one of several."""
    names = [name for name in schema.get("required", ()) if name != "model"]
    for rule in schema.get("allOf", ()):
        if choices := rule.get("anyOf"):
            names.append(" or ".join(choice["required"][0] for choice in choices))
    return ", ".join(names)


def _types(rules: dict[str, Any]) -> list[str]:
    found = rules.get("type") or sorted({_JSON_TYPES[type(value)] for value in rules.get("enum", ())})
    return [found] if isinstance(found, str) else list(found)


_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}
#: Keyword of JSON Schema -> how it reads.
_LIMITS = {"minimum": "at least {}", "maximum": "at most {}", "maxLength": "at most {} characters"}


def _limits(rules: dict[str, Any]) -> Iterator[str]:
    if "enum" in rules:
        yield "one of " + " ".join(map(_json, rules["enum"]))
    for keyword, text in _LIMITS.items():
        if keyword in rules:
            yield text.format(_json(rules[keyword]))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
