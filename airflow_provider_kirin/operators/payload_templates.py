"""The payload as an operator's argument: it may be a template, and its images and signed URLs must not be shown."""

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
    """Return whether a value is only known at run time, such as a Jinja template or an XComArg."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    return not isinstance(value, _PLAIN) and not hasattr(value, "open")


def extract_inline_images(payload: Any) -> tuple[Any, dict[FieldPath, Any]]:
    """Return a payload that is safe for Airflow's database and UI, and the values that were extracted from it.

    :param payload: the operator's argument
    :return: the payload with a description in place of each image given as bytes or Base64 and of each URL that may be
        signed; and these images and URLs by field path
    """
    payload = _with_json_parsed(payload)
    found = _images_in(payload) | _signed_urls_in(payload)
    if not found:
        return payload, {}
    return replace_at(payload, {path: images.describe(value) for path, value in found.items()}), found


def _images_in(payload: Any) -> dict[FieldPath, Any]:
    """Find inline images in any field; a template is not an image before it is rendered."""
    found = inline_images(payload) if isinstance(payload, Mapping) else {}
    return {path: value for path, value in found.items() if not is_dynamic(value)}


def _signed_urls_in(payload: Any) -> dict[FieldPath, Any]:
    """Find URLs that may be signed and were not extracted before. The external task id is needed as it is."""
    found = signed_urls(payload) if isinstance(payload, Mapping) else {}
    return {
        path: url
        for path, url in found.items()
        if path != ("external_task_id",) and not is_dynamic(url) and url != images.describe(url)
    }


def _with_json_parsed(payload: Any) -> Any:
    """Parse JSON that a template rendered: the whole payload, or a parameter with something to hide."""
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
    """Refuse bytes and Base64 in a mapped task's fixed arguments, which Airflow writes into its database unchanged.

    :param payload: the operator's argument
    :param model: the model's id, for the message
    :raises KirinPayloadError: with a problem for each such image
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
