"""What a gateway itself says of its models, and where a schema of this provider differs from it.

Source: SeaCloudAI/seacloud-cli reads ``/api/v1/skill/model-contracts/{id}`` (``input_schema``, a JSON Schema) and
``/api/v1/skill/models/{id}/spec`` (``parameters`` with ``enum``, ``default``, ``min``, ``max``, ``min_length``,
``max_length``, ``max_items``). Both may come bare or under ``data``, with HTTP 200 for a 404. No page documents them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

from airflow_provider_kirin.api.errors import error_from_response, parse_error
from airflow_provider_kirin.api.redaction import one_line, short_repr
from airflow_provider_kirin.api.requests import ApiRequest
from airflow_provider_kirin.api.responses import envelope_status
from airflow_provider_kirin.exceptions import KirinNotFoundError, KirinReplyError

#: What is compared, by its name in a JSON Schema; and what a spec calls it.
_FACTS: Final = {
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
_TYPES: Final = {
    "str": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


@dataclass(frozen=True)
class Difference:
    """Where the gateway says something else than this provider's schema of a model.

    :param field: the parameter, ``image_list.*.type`` for one in a list
    :param fact: what of it: ``enum``, ``maxLength``, ``required``...; ``parameter`` where one side does not know it
    :param ours: what the schema says, as text
    :param theirs: what the gateway says, as text
    """

    field: str
    fact: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.field}: {self.fact} is {self.theirs} at the gateway, {self.ours} here"


#: A description names every parameter of a model, with its rules and examples.
MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024


def models_host(base: str) -> str:
    """Return where a gateway's descriptions of models are thought to be: at the root of its host.

    :param base: what :func:`~airflow_provider_kirin.api.requests.base_url` returned
    """
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}"


def description_requests(host: str, model: str) -> list[ApiRequest]:
    """Return the calls that ask for a model's description, the better one first.

    :param host: what :func:`models_host` returned, or a URL that the user knows
    :param model: the model's id
    """
    root, name = host.rstrip("/"), quote(model, safe="")
    return [
        ApiRequest("GET", f"{root}/api/v1/skill/{path}", max_response_bytes=MAX_DESCRIPTION_BYTES)
        for path in (f"model-contracts/{name}", f"models/{name}/spec")
    ]


def read_description(status: int, headers: Mapping[str, str], body: Any, *, doing: str) -> dict[str, Any]:
    """Return a description of a model as a JSON Schema.

    :param status: the HTTP status
    :param headers: the reply's headers
    :param body: the reply's body, decoded
    :param doing: what was tried, for messages
    :raises KirinNotFoundError: the gateway has none
    :raises KirinAPIError: the gateway said something else than yes
    :raises KirinReplyError: it is no description
    """
    status = envelope_status(body) or status
    if status in (404, 405):
        raise KirinNotFoundError(f"HTTP {status}: {parse_error(body)[1] or 'no message'}", http_status=status)
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing=doing)
    data = body.get("data") if isinstance(body, Mapping) and isinstance(body.get("data"), Mapping) else body
    if isinstance(data, Mapping):
        if isinstance(data.get("input_schema"), Mapping):
            return dict(data["input_schema"])
        if isinstance(data.get("parameters"), list):
            return _from_spec(data["parameters"])
    raise KirinReplyError(f"What came while {doing} describes no model: {one_line(short_repr(body), 120)}")


def _from_spec(parameters: list[Any]) -> dict[str, Any]:
    known = [one for one in parameters if isinstance(one, Mapping) and isinstance(one.get("name"), str)]
    properties = {
        str(one["name"]): {name: one[theirs] for name, theirs in _FACTS.items() if one.get(theirs) is not None}
        for one in known
    }
    return {"properties": properties, "required": [str(one["name"]) for one in known if one.get("required") is True]}


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Compare a schema of this provider with a gateway's description. What the gateway does not state is no difference.

    :param ours: the JSON Schema from :mod:`airflow_provider_kirin.api.models`
    :param theirs: what :func:`read_description` returned
    """
    return list(_compare(ours, theirs, ""))


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[Difference]:
    if isinstance(theirs.get("items"), Mapping):
        yield from _compare(ours.get("items", {}), theirs["items"], f"{path}.*")
        return
    mine, other = _children(ours), _children(theirs)
    if other:
        for name in [*mine, *(name for name in other if name not in mine)]:
            field = f"{path}.{name}" if path else name
            if name not in other:
                yield Difference(field, "parameter", "known", "unknown")
            elif name not in mine:
                yield Difference(field, "parameter", "unknown", "known")
            else:
                yield from _compare_facts(field, mine[name], other[name])
                yield from _compare(mine[name], other[name], field)
        yield from _compare_required(ours, theirs, path)
    if theirs.get("additionalProperties") is False and ours.get("additionalProperties", True) is not False:
        yield Difference(path or "payload", "additionalProperties", "allowed", "refused")


def _compare_facts(field: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Difference]:
    for fact in _FACTS:
        if fact in theirs:
            mine = ours.get(fact, ours.get("x-default") if fact == "default" else None)
            other = _TYPES.get(str(theirs[fact]), theirs[fact]) if fact == "type" else theirs[fact]
            if fact == "type" and mine is None:
                mine = "string"  # what has an enum here has no type
            if mine != other:
                yield Difference(field, fact, _shown(mine), _shown(other))


def _compare_required(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[Difference]:
    mine, other = _texts(ours.get("required")), _texts(theirs.get("required"))
    for name in dict.fromkeys([*mine, *other]):
        if (name in mine) != (name in other):
            field = f"{path}.{name}" if path else name
            yield Difference(field, "required", str(name in mine).lower(), str(name in other).lower())


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _children(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the parameters of a mapping, without the model's own id."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {name: rules for name, rules in properties.items() if name != "model" and isinstance(rules, Mapping)}


def _shown(value: Any) -> str:
    return "not stated" if value is None else one_line(value, 200)
