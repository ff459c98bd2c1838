"""Convert what a user or a template wrote to what the API expects: types, defaults, JSON-serializable values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.payload.paths import (
    MAX_DEPTH,
    MAX_VALUES,
    FieldPath,
    format_path,
    is_larger_than,
    leaves,
)
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

_SURROGATE = re.compile("[\ud800-\udfff]")


def as_mapping(payload: Any, model: str) -> dict[str, Any]:
    """Return a payload as a new dict.

    :param payload: a mapping of parameters, or a JSON string, which is what a template renders to
    :param model: the model's id, for messages
    :raises KirinPayloadError: it is something else, too large, or nested too deeply
    """
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except (ValueError, RecursionError):
            raise KirinPayloadError([_not_a_mapping(payload)], model=model) from None
    if not isinstance(payload, Mapping) or not all(isinstance(name, str) for name in payload):
        raise KirinPayloadError([_not_a_mapping(payload)], model=model)
    if is_larger_than(MAX_VALUES, payload):
        rule = f"must not have more than {MAX_VALUES:,} values"
        problem = Problem("payload", "(not shown)", rule, "No Kirin model takes that many: pass only its parameters")
        raise KirinPayloadError([problem], model=model)
    for path, _ in leaves(payload):
        if len(path) > MAX_DEPTH:
            rule = f"must not be nested more than {MAX_DEPTH} levels deep"
            problem = Problem(format_path(path[:1])[:80], "(not shown)", rule, "No Kirin model needs that: flatten it")
            raise KirinPayloadError([problem], model=model)
    return dict(payload)


def _not_a_mapping(payload: Any) -> Problem:
    return Problem(
        field="payload",
        value=short_repr(payload),
        rule="must be a mapping of the model's parameters",
        remedy='Pass a dict such as {"image": ..., "prompt": ...}',
    )


def normalize(given: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Drop None values, convert strings that a template rendered, and fill in the defaults.

    Defaults are sent explicitly, so that a step's cost does not change when the gateway's defaults do. Defaults under
    ``x-default`` are the gateway's own and are not sent.

    :param given: the payload
    :param schema: the model's JSON Schema
    """
    properties = schema.get("properties", {})
    normal = {name: _convert(value, properties.get(name, {})) for name, value in given.items() if value is not None}
    if "external_task_id" in normal:
        normal["external_task_id"] = normal_id(normal["external_task_id"])
    for name, rules in properties.items():
        if "default" in rules:
            normal.setdefault(name, rules["default"])
    return normal


def normal_id(value: Any) -> Any:
    """Return an external task id as it is sent; anything that cannot be one unchanged.

    :param value: the user's value
    """
    text = _convert(value, {"type": "string"})
    # The lookup strips the id: a line break left by a template would make it differ from the one that was sent.
    return text.strip() if isinstance(text, str) else text


def _convert(value: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(value, int) and value.bit_length() > 1024:
        # It does not fit a float and, beyond 4,300 digits, cannot be printed: jsonschema could not report the problem.
        return math.inf
    json_type = rules.get("type")
    if isinstance(value, str) and json_type in ("object", "array", "number", "integer", "boolean"):
        value = _from_text(value, json_type)
    if isinstance(value, Mapping):
        children = rules.get("properties", {})
        return {_as_name(name): _convert(item, children.get(name, {})) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(item, rules.get("items", {})) for item in value]
    if isinstance(value, str) and value.strip() in rules.get("enum", ()):
        # A cell of a table: "5 ".
        return value.strip()
    is_text = json_type == "string" and "x-image" not in rules
    if _is_number(value) and (is_text or str(value) in rules.get("enum", ())):
        # Native rendering turns strings that look like numbers into numbers: an order number, "5" seconds.
        return str(value)
    if json_type == "number" and isinstance(value, Decimal) and not value.is_snan():
        return float(value)
    return value


def _is_number(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _as_name(name: Any) -> Any:
    """Return a mapping's key as JSON would write it: JSON keys are strings."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _from_text(text: str, json_type: str) -> Any:
    """Convert a rendered template to the given JSON type; return it unchanged if that fails."""
    if json_type == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        if json_type == "number":
            return float(text)
        if json_type == "integer":
            return int(text)
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict if json_type == "object" else list):
        return text
    return text if any(len(path) > MAX_DEPTH for path, _ in leaves(found)) else found


def find_unserializable(params: Mapping[str, Any], *, skip: Callable[[Any], bool] | None = None) -> list[Problem]:
    """Return a problem for each value that is not JSON serializable.

    :param params: the parameters to send, with images already encoded as strings
    :param skip: returns whether a value cannot be checked yet (a template)
    """
    return [
        Problem(format_path(path)[:80], short_repr(value), "is not JSON serializable", _remedy(value))
        for path, value in leaves(params)
        if not (_is_json_serializable(path, value) or (skip and skip(value)))
    ]


def _is_json_serializable(path: FieldPath, value: Any) -> bool:
    # The keys of a mapping may be of any type, whatever the annotation says.
    if any(type(part) not in (str, int) for part in path):
        return False
    if isinstance(value, str):
        # A lone surrogate (half of an emoji in a truncated string) cannot be encoded as UTF-8.
        return value.isascii() or not _SURROGATE.search(value)
    return value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _remedy(value: Any) -> str:
    if isinstance(value, str):
        return "The string was cut in the middle of a character: remove the incomplete one"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "Put images into a field that takes images; pass anything else as a string"
    return "Use a string, a finite number, true, false, a list or a mapping with string keys"
