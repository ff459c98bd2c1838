"""The models' JSON Schema files, one a model: the only place where limits are written."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

from airflow_provider_kirin.api.text import shorten
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

DEFAULT_MODEL = "kirin_v1_6_i2v"


@functools.cache
def model_names() -> tuple[str, ...]:
    """Return the ids of all models that have a schema file, sorted."""
    return tuple(sorted(entry.name[:-5] for entry in files(__name__).iterdir() if entry.name.endswith(".json")))


def load_schema(model: Any) -> dict[str, Any]:
    """Return a model's JSON Schema (draft 2020-12); treat it as read-only.

    :param model: the model's id, such as ``kirin_v1_6_i2v``
    :raises KirinPayloadError: for a model without a schema file, with the nearest known name
    """
    if not isinstance(model, str) or model not in model_names():
        raise KirinPayloadError([_unknown_model(model)], model=shorten(model))
    return _read_schema(model)


@functools.cache
def _read_schema(model: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(files(__name__).joinpath(f"{model}.json").read_text(encoding="utf-8"))
    return schema


def _unknown_model(model: Any) -> Problem:
    import difflib

    near = difflib.get_close_matches(shorten(model).strip("'"), model_names(), n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else f"Known models: {', '.join(model_names())}"
    return Problem(field="model", value=shorten(model), rule="is not a model that this provider knows", remedy=remedy)
