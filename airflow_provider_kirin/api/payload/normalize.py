"""From what a user or a template wrote to what the API wants: types, defaults, JSON that JSON can say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.payload.paths import (
    MAX_DEPTH,
    MOST_VALUES,
    FieldPath,
    format_path,
    is_larger_than,
    leaves,
)
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

_SURROGATE = re.compile("[\ud800-\udfff]")


def as_mapping(payload: Any, model: str) -> dict[str, Any]:
    """Return a payload as a dict of its own.

    :param payload: a mapping of parameters, or JSON text, which is what a template renders to
    :param model: the model's id, for the message
    :raises KirinPayloadError: for anything else, and for what is nested beyond all measure
    """
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except (ValueError, RecursionError):
            raise KirinPayloadError([_not_a_mapping(payload)], model=model) from None
    if not isinstance(payload, Mapping) or not all(isinstance(name, str) for name in payload):
        raise KirinPayloadError([_not_a_mapping(payload)], model=model)
    if is_larger_than(MOST_VALUES, payload):
        rule = f"holds more than {MOST_VALUES:,} values"
        problem = Problem("payload", "(not shown)", rule, "No Kirin model wants that: give the model's parameters only")
        raise KirinPayloadError([problem], model=model)
    for path, _ in leaves(payload):
        if len(path) > MAX_DEPTH:
            rule = f"is nested more than {MAX_DEPTH} levels deep"
            problem = Problem(format_path(path[:1])[:80], "(not shown)", rule, "No Kirin model wants that: flatten it")
            raise KirinPayloadError([problem], model=model)
    return dict(payload)


def _not_a_mapping(payload: Any) -> Problem:
    return Problem(
        field="payload",
        value=short_repr(payload),
        rule="must be a mapping of the model's parameters",
        remedy='Give a dict such as {"image": ..., "prompt": ...}',
    )


def normalize(given: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Drop what is None, convert what a template can only say as text, fill in the defaults.

    The defaults are sent, not left to the gateway: what a step costs must not change when the gateway's do. Those under
    ``x-default`` are the gateway's own and are not sent.

    :param given: the payload
    :param schema: the model's JSON Schema
    """
    properties = schema.get("properties", {})
    normal = {name: _convert(value, properties.get(name, {})) for name, value in given.items() if value is not None}
    if isinstance(normal.get("external_task_id"), str):
        # It is looked up as it is sent: a line break that a template left behind would part the two.
        normal["external_task_id"] = normal["external_task_id"].strip()
    for name, rules in properties.items():
        if "default" in rules:
            normal.setdefault(name, rules["default"])
    return normal


def _convert(value: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(value, int) and value.bit_length() > 1024:
        # Neither a float nor, beyond 4,300 digits, printable: jsonschema could not even say what is wrong.
        return math.inf
    json_type = rules.get("type")
    if isinstance(value, str) and json_type in ("object", "array", "number", "integer", "boolean"):
        value = _from_text(value, json_type)
    if isinstance(value, Mapping):
        children = rules.get("properties", {})
        return {_as_name(name): _convert(item, children.get(name, {})) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(item, rules.get("items", {})) for item in value]
    is_text = json_type == "string" and "x-image" not in rules
    if _is_number(value) and (is_text or str(value) in rules.get("enum", ())):
        # Native rendering makes numbers of strings that look like some: an order number, "5" seconds.
        return str(value)
    if json_type == "number" and isinstance(value, Decimal) and not value.is_snan():
        return float(value)
    return value


def _is_number(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    return type(value) is int or (isinstance(value, float) and math.isfinite(value))


def _as_name(name: Any) -> Any:
    """Return a mapping's key as JSON would write it, which knows only texts."""
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else name


def _from_text(text: str, json_type: str) -> Any:
    """Read a rendered template as what it stands for; what cannot be read so stays as it is."""
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


def find_unserializable(params: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each value that JSON has no word for.

    :param params: what is to be sent, images as text already
    """
    return [
        Problem(format_path(path)[:80], short_repr(value), "is not JSON serializable", _remedy(value))
        for path, value in leaves(params)
        if not _is_json_serializable(path, value)
    ]


def _is_json_serializable(path: FieldPath, value: Any) -> bool:
    # What stands among the keys of a mapping is typed as a name, and may be anything.
    if any(type(part) not in (str, int) for part in path):
        return False
    if isinstance(value, str):
        # Half of an emoji, as a text that was cut has it, is no text in UTF-8.
        return value.isascii() or not _SURROGATE.search(value)
    return value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _remedy(value: Any) -> str:
    if isinstance(value, str):
        return "Give text without half characters: this one was cut in the middle of one"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "An image belongs into a field that takes images; anything else is text"
    return "Give a text, a finite number, true, false, a list or a mapping with texts as names"
