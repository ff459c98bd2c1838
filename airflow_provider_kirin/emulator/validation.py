"""Judges a generation request as strictly as the model's page allows to. Independent of the client's schema files.

Limits and codes are those of ``kirin_v1_6_i2v`` in models.json [V]; what has no documented code is answered with
``INVALID_PARAMETER`` [E].
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_kirin.emulator.errors import Refusal, coded, detail, invalid, platform
from airflow_provider_kirin.emulator.images import check_image

MODELS = ("kirin_v1_6_i2v",)
MAX_TEXT = 2500

Source = bytes | str
"""An image: the bytes that came as base64, or the URL to fetch them from."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A request that may be accepted, with the defaults filled in."""

    model: str
    image: Source | None = None
    image_tail: Source | None = None
    prompt: str | None = None
    mode: str = "std"
    video_seconds: int = 5
    watermark: bool = False
    callback_urls: tuple[str, ...] = ()
    external_id: str | None = None


def read_order(body: Any, header_model: str | None) -> Order:
    """Turn a decoded JSON body into an order or raise the refusal. Decodes images: call it in a worker thread."""
    if not isinstance(body, dict):
        raise platform(400, "INVALID_REQUEST", "the body must be a JSON object")
    _known_fields(body, _BODY_FIELDS, "")
    model = _model(body.get("model", header_model))
    params = _params(body.get("input"))
    _known_fields(params, _CHECKS, "params.")
    values = {name: _CHECKS[name](name, value) for name, value in params.items()}
    image, tail = values.get("image"), values.get("image_tail")
    if image is None and tail is None:
        raise coded("8002005001")
    if tail is not None and values.get("mode", "std") != "pro":
        raise invalid("image_tail", "only mode pro accepts a last frame")
    urls = [values[name] for name in ("callback_url", "callback") if name in values]
    return Order(
        model=model,
        image=image,
        image_tail=tail,
        prompt=values.get("prompt"),
        mode=values.get("mode", "std"),
        video_seconds=int(values.get("duration", "5")),
        watermark=values.get("watermark_info", False),
        callback_urls=tuple(dict.fromkeys(urls)),
        external_id=values.get("external_task_id"),
    )


def external_id_hint(body: Any) -> str:
    """The external id in a body that nobody has judged yet, for faults that pick their requests."""
    try:
        return str(body["input"][0]["params"]["external_task_id"])
    except (KeyError, IndexError, TypeError):
        return ""


def _known_fields(given: dict[str, Any], known: Any, where: str) -> None:
    for name in given:
        if name not in known:
            raise invalid(f"{where}{_shown(name)}", "unknown parameter")


def _shown(value: object) -> str:
    """A value for an error text: short, and without the half characters that no encoder takes."""
    return str(value)[:60].encode("utf-8", "replace").decode("utf-8")


def _model(model: Any) -> str:
    if not isinstance(model, str) or not model:
        raise invalid("model", "a model id is required, in the body or as X-Model")
    if model not in MODELS:
        # [V] section 9: the only documented reply that names something unknown to the account.
        raise detail(404, f"App not found: {_shown(model)}")
    return model


def _params(items: Any) -> dict[str, Any]:
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        raise invalid("input", "must be a list of exactly one object")
    _known_fields(items[0], ("params", "sr_info"), "input[0].")
    params = items[0].get("params")
    if not isinstance(params, dict):
        raise invalid("input[0].params", "must be an object")
    return params


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(name, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise invalid(name, "has half of a surrogate pair in it") from error
    return value


def _prompt(name: str, value: Any) -> str:
    text = _text(name, value)
    if not 1 <= len(text) <= MAX_TEXT:
        raise coded("8002005003", f"{name} has {len(text)} characters, 1 to {MAX_TEXT} are allowed")
    return text


def _negative_prompt(name: str, value: Any) -> str:
    text = _text(name, value)
    if len(text) > MAX_TEXT:
        raise coded("8002005003", f"{name} has {len(text)} characters, up to {MAX_TEXT} are allowed")
    return text


def _mode(name: str, value: Any) -> str:
    if value not in ("std", "pro"):
        raise invalid(name, 'must be "std" or "pro"')
    return str(value)


def _duration(name: str, value: Any) -> str:
    # A number is refused: the page says string, and so does Kling (section 16, 3).
    if value not in ("5", "10"):
        raise coded("8002005004", f'{name} must be the string "5" or "10"')
    return str(value)


def _cfg_scale(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise invalid(name, "must be a number from 0 to 1")
    return float(value)


def _watermark(name: str, value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"enabled"} or not isinstance(value["enabled"], bool):
        raise invalid(name, 'must be an object {"enabled": true or false}')
    return value["enabled"]


def _url(name: str, value: Any) -> str:
    text = _text(name, value)
    if not is_url(text):
        raise invalid(name, "must be an http or https URL")
    return text


def _external_id(name: str, value: Any) -> str:
    text = _text(name, value)
    if not text:
        raise invalid(name, "must not be empty")
    return text


def is_url(text: str) -> bool:
    """Whether this is an http(s) URL with a host and a usable port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _image(name: str, value: Any, *, ratio_matters: bool = True) -> Source:
    text = _text(name, value)
    if not text:
        raise coded("8002005001", f"{name} is empty")
    if text.lower().startswith(("http://", "https://")):
        if not is_url(text):
            raise coded("8002005002", f"{name}: this URL is not usable")
        return text
    data = _plain_base64(name, text)
    check_image(data, name, ratio_matters=ratio_matters)
    return data


def _image_tail(name: str, value: Any) -> Source:
    # The page states no ratio for the last frame.
    return _image(name, value, ratio_matters=False)


def _plain_base64(name: str, text: str) -> bytes:
    """Bare base64: a ``data:`` prefix is refused ([V] section 16, 6), and so are line breaks and URL-safe letters."""
    if text[:5].lower() == "data:":
        raise coded("8002005002", f"{name}: base64 must come without a data: prefix")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise coded("8002005002", f"{name}: neither a URL nor plain base64") from error


_BODY_FIELDS = ("model", "input", "moderation", "metadata", "options")

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "image": _image,
    "image_tail": _image_tail,
    "prompt": _prompt,
    "negative_prompt": _negative_prompt,
    "mode": _mode,
    "duration": _duration,
    "cfg_scale": _cfg_scale,
    "watermark_info": _watermark,
    "callback_url": _url,
    "callback": _url,
    "external_task_id": _external_id,
}

__all__ = ["MODELS", "Order", "Refusal", "Source", "external_id_hint", "is_url", "read_order"]
