"""What may be sent: defaults, validation and the rules between fields, from the model's JSON Schema.

All problems of a payload come in one :class:`~airflow_provider_kirin.exceptions.KirinPayloadError`, before a cent is
spent. A payload that is still partly a template is judged as far as it can be (:func:`check_static`), so that a
typo shows when the DAG is parsed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from airflow_provider_kirin.api import images
from airflow_provider_kirin.api.models import load_schema
from airflow_provider_kirin.api.rules import broken_rules
from airflow_provider_kirin.api.text import shorten
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

FitImages = Literal["error", "auto"]


@dataclass(frozen=True)
class PreparedPayload:
    """A payload as it will be sent.

    :param model: the model's id
    :param params: what goes to ``input[0].params``
    :param images: what became of each image field
    """

    model: str
    params: dict[str, Any] = field(repr=False)
    images: dict[str, images.PreparedImage]

    def describe(self) -> str:
        """Return the payload as one short line for a log: no image bytes, no signed query."""
        shown = {
            name: str(self.images[name]) if name in self.images else shorten(value)
            for name, value in self.params.items()
        }
        return ", ".join(f"{name}={text}" for name, text in shown.items())


def prepare(
    payload: Any,
    model: str,
    *,
    replacing: Mapping[str, Any] | None = None,
    open_uri: images.OpenUri | None = None,
    fit_images: FitImages = "error",
) -> PreparedPayload:
    """Check a whole payload, read and check its images, and return what will be sent.

    :param payload: the model's parameters as a mapping (or as JSON text, which is what a template renders to)
    :param model: the model's id
    :param replacing: parameters that take the place of the payload's own
    :param open_uri: opens a storage URI such as ``s3://bucket/key`` for reading
    :param fit_images: what to do with an image that breaks a limit: ``"error"``, or ``"auto"`` to make it fit
    :raises KirinPayloadError: with everything that is wrong
    """
    fitting = check_fit_images(fit_images) == "auto"
    schema = load_schema(model)
    given = _normalize(_as_mapping(payload, model) | dict(replacing or {}), schema)
    problems = broken_rules(_without_images(given, schema), schema)
    ready: dict[str, images.PreparedImage] = {}
    for name, rules in _image_rules(schema).items():
        if name in given:
            try:
                ready[name] = images.prepare(given[name], field=name, rules=rules, open_uri=open_uri, fitting=fitting)
            except images.ImageRejected as rejected:
                problems.extend(rejected.problems)
    if problems:
        raise KirinPayloadError(_in_order(problems, schema), model=model)
    params = {name: ready[name].text if name in ready else value for name, value in given.items()}
    params.pop("model", None)
    return PreparedPayload(model=model, params=params, images=ready)


def check_fit_images(value: Any) -> FitImages:
    """Return what to do with images that break a limit.

    :param value: ``"error"`` or ``"auto"``
    :raises ValueError: for anything else
    """
    if value not in ("error", "auto"):
        raise ValueError(f'fit_images = {shorten(value)} must be "error" or "auto".')
    found: FitImages = value
    return found


def check_static(payload: Any, model: str, *, is_dynamic: Callable[[Any], bool]) -> None:
    """Judge what can be judged when a DAG is parsed; read no file, ask no gateway.

    :param payload: the operator's argument, in which any value may be a template or an XComArg still
    :param model: the model's id
    :param is_dynamic: tells whether a value will only be known at run time
    :raises KirinPayloadError: with everything that is wrong already
    """
    if is_dynamic(payload) or is_dynamic(model):
        return
    schema = load_schema(model)
    given = _normalize(_as_mapping(payload, model), schema)
    problems = broken_rules(_without_images(given, schema), schema, skip=is_dynamic)
    for name in _image_rules(schema):
        if name in given and not is_dynamic(given[name]):
            problems.extend(images.check_without_reading(given[name], field=name))
    if problems:
        raise KirinPayloadError(_in_order(problems, schema), model=model)


def inline_images(payload: Any, model: Any) -> dict[str, Any]:
    """Return the image fields whose values are the image itself (bytes, Base64): they must stay out of templates.

    :param payload: the operator's argument
    :param model: the model's id; one that is unknown still has the usual field names looked at
    """
    if not isinstance(payload, Mapping):
        return {}
    try:
        names = list(_image_rules(load_schema(model)))
    except KirinPayloadError:
        names = ["image", "image_tail"]
    return {name: payload[name] for name in names if name in payload and images.is_inline(payload[name])}


def _as_mapping(payload: Any, model: str) -> dict[str, Any]:
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except (ValueError, RecursionError):
            raise KirinPayloadError([_not_a_mapping(payload)], model=model) from None
    if not isinstance(payload, Mapping) or not all(isinstance(name, str) for name in payload):
        raise KirinPayloadError([_not_a_mapping(payload)], model=model)
    return dict(payload)


def _not_a_mapping(payload: Any) -> Problem:
    return Problem(
        field="payload",
        value=shorten(payload),
        rule="must be a mapping of the model's parameters",
        remedy='Give a dict such as {"image": ..., "prompt": ...}',
    )


def _normalize(given: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Drop what is None, convert what a template can only say as text, fill in the defaults.

    The defaults are sent, not left to the gateway: what a step costs must not change when the gateway's do.
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


def _convert(value: Any, rules: dict[str, Any]) -> Any:
    if isinstance(value, int) and value.bit_length() > 1024:
        # Neither a float nor, beyond 4,300 digits, printable: jsonschema could not even say what is wrong.
        return math.inf
    kind = rules.get("type")
    if kind == "object" and isinstance(value, Mapping):
        children = rules.get("properties", {})
        return {name: _convert(item, children.get(name, {})) for name, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool) and str(value) in rules.get("enum", ()):
        return str(value)
    if kind == "number" and isinstance(value, Decimal) and not value.is_snan():
        return float(value)
    if kind in ("number", "boolean") and isinstance(value, str):
        return _from_text(value, kind)
    return value


def _from_text(text: str, kind: str) -> Any:
    """Read a rendered template as the number or boolean it stands for; what is neither stays as it is."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    try:
        return float(text)
    except ValueError:
        return text


def _image_rules(schema: dict[str, Any]) -> dict[str, images.ImageRules]:
    return {
        name: images.ImageRules.from_schema(rules["x-image"])
        for name, rules in schema.get("properties", {}).items()
        if "x-image" in rules
    }


def _without_images(given: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Images are judged elsewhere: keep their bytes, megabytes maybe, out of the JSON Schema validator."""
    hidden = {name for name in given if "x-image" in schema.get("properties", {}).get(name, {})}
    return {name: "" if name in hidden else value for name, value in given.items()}


def _in_order(problems: list[Problem], schema: dict[str, Any]) -> list[Problem]:
    order = {name: index for index, name in enumerate(schema.get("properties", {}))}
    return sorted(problems, key=lambda problem: order.get(problem.field.partition(".")[0], len(order)))
