"""The payload as an operator's argument: partly a template maybe, with images and signed URLs that are not shown."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api import images
from airflow_provider_kirin.api.payload import inline_images, signed_urls
from airflow_provider_kirin.api.payload.paths import FieldPath, format_path, replace_at
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem

_PLAIN = (type(None), bool, int, float, Decimal, bytes, bytearray, memoryview, list, tuple, Mapping, os.PathLike)


def is_dynamic(value: Any) -> bool:
    """Return whether a value will only be known at run time: a Jinja template, an XComArg...

    :param value: anything that a DAG author may give
    """
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    return not isinstance(value, _PLAIN) and not hasattr(value, "open")


def extract_inline_images(payload: Any) -> tuple[Any, dict[FieldPath, Any]]:
    """Return a payload that is fit for Airflow's database and UI, and what was taken out of it.

    :param payload: the operator's argument
    :return: the payload with a description in the place of each image that came as bytes or Base64, and of each URL
        that may be signed; and these images and URLs
    """
    payload = _with_json_parsed(payload)
    found = _images_in(payload) | _signed_urls_in(payload)
    if not found:
        return payload, {}
    return replace_at(payload, {path: images.describe(value) for path, value in found.items()}), found


def _images_in(payload: Any) -> dict[FieldPath, Any]:
    """Find images wherever they stand; a template, however long, is none before it is rendered."""
    found = inline_images(payload) if isinstance(payload, Mapping) else {}
    return {path: value for path, value in found.items() if not is_dynamic(value)}


def _signed_urls_in(payload: Any) -> dict[FieldPath, Any]:
    """Find URLs that may be signed, and were not taken out before. An id may look like one, and is needed as it is."""
    found = signed_urls(payload) if isinstance(payload, Mapping) else {}
    return {
        path: url
        for path, url in found.items()
        if path != ("external_task_id",) and not is_dynamic(url) and url != images.describe(url)
    }


def _with_json_parsed(payload: Any) -> Any:
    """Read JSON text that a template rendered to: the whole payload, or a parameter with something to hide."""
    if isinstance(payload, str) and not is_dynamic(payload):
        with contextlib.suppress(ValueError, RecursionError):
            payload = json.loads(payload)
    if not isinstance(payload, Mapping):
        return payload
    read: dict[FieldPath, Any] = {}
    for name, value in payload.items():
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and not is_dynamic(value):
            with contextlib.suppress(ValueError, RecursionError):
                if inline_images(parsed := json.loads(value)) or signed_urls(parsed):
                    read[(name,)] = parsed
    return replace_at(payload, read) if read else payload


def reject_inline_images(payload: Any, model: Any) -> None:
    """Refuse bytes and Base64 among a mapped task's arguments, which Airflow writes into its database as they are.

    :param payload: the argument
    :param model: the model's id, for the message
    :raises KirinPayloadError: for each such image
    """
    problems = [
        Problem(
            field=format_path(path)[:80],
            value=images.describe(value),
            rule="an image in a mapped task's fixed arguments would be stored in Airflow's database",
            remedy="Give its path or storage URI",
        )
        for path, value in _images_in(_with_json_parsed(payload)).items()
    ]
    if problems:
        raise KirinPayloadError(problems, model=str(model))
