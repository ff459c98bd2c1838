"""The JSON Schema files, one per model. Limits are defined only here; what models share is in ``common.json``."""

from __future__ import annotations

import functools
import json
import re
from importlib.resources import files
from typing import Any, Final

from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

DEFAULT_MODEL = "kirin_v1_6_i2v"
#: The file with the definitions that several models share, under ``$defs``.
_COMMON: Final = "common.json"
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")


@functools.cache
def model_names() -> tuple[str, ...]:
    """Return the ids of all models that have a schema file, sorted."""
    names = {entry.name for entry in files(__name__).iterdir()} - {_COMMON}
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


#: Models of the same gateway that do not generate videos (from Kirin's image and face pages).
_NO_VIDEO: Final = {
    "kirin_image_omni": "makes images",
    "kirin_v3_image": "makes images",
    "kirin_v3_omni_image": "makes images",
    "kirin_identify_face": "looks for faces",
}
_REMEDY: Final = "To send it unchecked, set allow_unknown_model=True"


def without_alias(model: str) -> str:
    """Return a model's id under its own name: gateways and their clients use ``kling_...``, hyphens and a prefix.

    :param model: a model's id, or one of its aliases
    """
    name = model.strip().lower().replace("-", "_").removeprefix("seacloud__")
    if name.startswith("kling_"):
        name = f"kirin_{name.removeprefix('kling_')}"
    return "kirin_image_omni" if name == "kirin_image_o1" else name


def find_schema(model: Any, *, allow_unknown: bool = False) -> dict[str, Any]:
    """Return a model's JSON Schema, or a permissive one for a model without a schema file.

    :param model: the model's id
    :param allow_unknown: whether to accept a model without a schema file
    :raises KirinPayloadError: the model has no schema file and is not accepted, or its id is not valid
    """
    if not allow_unknown or model in model_names():
        return load_schema(model)
    if not isinstance(model, str) or not _ID.fullmatch(model):
        rule = "is not the id of a model"
        problem = Problem("model", short_repr(model), rule, f"Use a model's id, such as {DEFAULT_MODEL!r}")
        raise KirinPayloadError([problem], model=short_repr(model))
    return {"type": "object", "properties": {"model": {"const": model}}, "additionalProperties": True}


def load_schema(model: Any) -> dict[str, Any]:
    """Return a model's complete JSON Schema (draft 2020-12), with ``$ref`` resolved; treat it as read-only.

    :param model: the model's id, such as ``kirin_v1_6_i2v``
    :raises KirinPayloadError: the model has no schema file; suggests the closest known name
    """
    if not isinstance(model, str) or model not in model_names():
        raise KirinPayloadError([_unknown_model(model)], model=short_repr(model))
    return _read_schema(model)


@functools.cache
def all_parameters() -> frozenset[str]:
    """Return the names of the parameters of all models."""
    return frozenset(name for model in model_names() for name in _read_schema(model)["properties"])


@functools.cache
def _read_schema(model: str) -> dict[str, Any]:
    schema: dict[str, Any] = _without_references(_read_file(f"{model}.json"))
    return schema


@functools.cache
def _read_file(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(files(__name__).joinpath(name).read_text(encoding="utf-8"))
    return content


def _without_references(part: Any) -> Any:
    """Replace each ``$ref`` by the common part; keys beside it extend or override that part."""
    if isinstance(part, list):
        return [_without_references(item) for item in part]
    if not isinstance(part, dict):
        return part
    own = {name: _without_references(value) for name, value in part.items() if name != "$ref"}
    if "$ref" not in part:
        return own
    common = _read_file(_COMMON)["$defs"][part["$ref"].rpartition("/")[2]]
    return {**_without_references(common), **own}


def _unknown_model(model: Any) -> Problem:
    import difflib

    kirin = without_alias(short_repr(model).strip("'"))
    if kirin in _NO_VIDEO:
        rule = f"{_NO_VIDEO[kirin]}; this provider makes videos"
        return Problem(field="model", value=short_repr(model), rule=rule, remedy=_REMEDY)
    near = difflib.get_close_matches(kirin, model_names(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known models: {', '.join(model_names())}."
    rule = "is not a model that this provider knows"
    return Problem(field="model", value=short_repr(model), rule=rule, remedy=f"{hint} {_REMEDY}")
