"""Compare the models' schema files with what a gateway itself says about its models: are the schemas out of date?

    KIRIN_API_KEY=... python scripts/check_schemas.py [--url https://cloud.vtrix.ai] [MODEL ...]

Prints one line for each difference. Exit code 0: none; 1: some; 2: the gateway does not describe a model, or cannot be
asked. SeaCloudAI/seacloud-cli reads the same two paths: ``model-contracts/{id}`` has a JSON Schema (``input_schema``),
``models/{id}/spec`` a list of parameters with names of its own (``min_length``, ...). Both may come bare or under
``data``, with HTTP 200 for a 404. No page documents them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from airflow_provider_kirin.api.models import load_schema, model_names
from airflow_provider_kirin.api.responses import envelope_status

DEFAULT_URL = "https://cloud.vtrix.ai"
#: The compared JSON Schema keywords, and their names in a spec.
KEYWORDS = {
    "type": "type",
    "enum": "enum",
    "default": "default",
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
}
#: Names that a spec may have for JSON types.
TYPES = {
    "str": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


def descriptions(http: requests.Session, url: str, model: str) -> list[dict[str, Any]]:
    """Return a gateway's descriptions of a model, at most two, as JSON Schemas."""
    found = []
    for path in (f"model-contracts/{model}", f"models/{model}/spec"):
        response = http.get(f"{url.rstrip('/')}/api/v1/skill/{path}", timeout=30, allow_redirects=False)
        body = response.json() if "json" in response.headers.get("Content-Type", "") else None
        status = envelope_status(body) or response.status_code
        if status not in (404, 405):
            if status != 200:
                raise ValueError(f"{response.url}: HTTP {status}")
            found.append(parse_description(body))
    return found


def parse_description(body: Any) -> dict[str, Any]:
    """Return a contract's or a spec's JSON Schema."""
    data = body.get("data", body) if isinstance(body, Mapping) else None
    match data:
        case {"input_schema": dict(schema)}:
            return schema
        case {"parameters": list(parameters)}:
            properties = {each["name"]: _schema(each | (each.get("constraints") or {})) for each in parameters}
            return {"properties": properties, "required": [each["name"] for each in parameters if each.get("required")]}
    raise ValueError(f"not a description of a model: {str(body)[:200]}")


def _schema(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: facts[theirs] for ours, theirs in KEYWORDS.items() if facts.get(theirs) is not None}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield where a description differs from a schema, one sentence each; facts it does not state are not compared."""
    if "items" in theirs:
        yield from differences(ours.get("items", {}), theirs["items"], f"{path}.*")
        return
    mine, other = _parameters(ours), _parameters(theirs)
    if other:
        for name in mine | other:
            field = f"{path}.{name}" if path else name
            if name not in other:
                yield _sentence(field, "parameter", "known", "unknown")
            elif name not in mine:
                yield _sentence(field, "parameter", "unknown", "known")
            else:
                yield from _keyword_differences(field, mine[name], other[name])
                yield from differences(mine[name], other[name], field)
        for name in sorted({*ours.get("required", [])} ^ {*theirs.get("required", [])}):
            field = f"{path}.{name}" if path else name
            yield _sentence(field, "required", name in ours.get("required", []), name in theirs.get("required", []))
    if theirs.get("additionalProperties") is False and ours.get("additionalProperties", True):
        yield _sentence(path or "payload", "additionalProperties", True, False)


def _keyword_differences(field: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for keyword in filter(theirs.__contains__, KEYWORDS):
        mine, other = ours.get(keyword), theirs[keyword]
        if keyword == "default":
            mine = ours.get("default", ours.get("x-default"))
        elif keyword == "type":
            # Ours have no type beside an enum of strings.
            mine, other = mine or "string", TYPES.get(other, other)
        if mine != other:
            yield _sentence(field, keyword, mine, other)


def _parameters(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: rules for name, rules in schema.get("properties", {}).items() if name != "model"}


def _sentence(field: str, fact: str, ours: object, theirs: object) -> str:
    ours, theirs = ("not stated" if value is None else value for value in (ours, theirs))
    return f"{field}: {fact} is {theirs} at the gateway, {ours} here"


def main(argv: list[str] | None = None) -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--url", default=DEFAULT_URL, help="the host that describes the models (default %(default)s)")
    options = parser.parse_args(argv)
    exit_code = 0
    with requests.Session() as http:
        if key := os.environ.get("KIRIN_API_KEY"):
            http.headers["Authorization"] = f"Bearer {key}"
        for model in options.models or model_names():
            try:
                found = descriptions(http, options.url, model)
            except (requests.RequestException, ValueError) as error:
                print(f"{model}: {error}")
                return 2
            if not found:
                print(f"{model}: {options.url} does not describe it")
                exit_code = 2
            for sentence in dict.fromkeys(each for theirs in found for each in differences(load_schema(model), theirs)):
                print(f"{model}: {sentence}")
                exit_code = exit_code or 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
