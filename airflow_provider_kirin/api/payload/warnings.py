"""Warnings about a valid payload: parameters that were not checked, and a default that costs more than expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kirin.api.redaction import short_repr

#: How well a schema's model is documented (``x-confidence``).
DOCUMENTED, PARTLY, UNKNOWN = "documented", "partly", "unknown"


def find_warnings(model: str, given: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[str, ...]:
    """Return warnings for the log; none if everything was checked and set explicitly.

    :param model: the model's id
    :param given: the user's payload, without the defaults
    :param schema: the model's JSON Schema, or the permissive one of a model without a schema
    """
    lines = [_unchecked(model, given, schema), _expensive_default(model, given, schema)]
    return tuple(line for line in lines if line)


def _unchecked(model: str, given: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    confidence = schema.get("x-confidence", DOCUMENTED)
    names = [name for name, value in given.items() if name not in schema["properties"] and value is not None]
    listed = ", ".join(short_repr(name, 40) for name in names)
    if set(schema["properties"]) == {"model"}:
        return f"{model} is not a model that this provider knows: none of its parameters were checked."
    if confidence == UNKNOWN:
        end = f" Sent unchecked: {listed}." if names else ""
        return f"{model} is not documented by the gateway; it was checked against rules from other sources.{end}"
    if names and confidence == PARTLY:
        return f"{model} is only partly documented: {listed} {'are' if len(names) > 1 else 'is'} sent unchecked."
    return ""


def _expensive_default(model: str, given: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if given.get("mode") is not None or schema["properties"].get("mode", {}).get("default") != "pro":
        return ""
    return f'mode is not set: the default of {model} is "pro", which costs more. "std" is cheaper.'
