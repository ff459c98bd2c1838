"""Validate a generation request by the facts in :mod:`models`, independently of the client's schemas.

An invalid parameter gets the model's own code if one is documented ([V] section 10), else ``INVALID_PARAMETER`` [E].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_kirin.emulator.errors import ParameterError, Refusal, coded, detail, invalid, platform
from airflow_provider_kirin.emulator.models import MODELS, OTHER, Model
from airflow_provider_kirin.emulator.schema import GivenImage, ObjectOf, shown

#: Tenths of a cent per second of video, by mode. Models without a mode cost the same as pro.
_TENTHS = {"std": 56, "pro": 98, None: 98}


@dataclass(frozen=True, kw_only=True)
class Order:
    """A valid request, with the defaults filled in.

    ``card`` is the text to draw if there is no image, ``extends`` the id of the video to extend.
    """

    model: str
    images: tuple[GivenImage, ...] = ()
    prompt: str | None = None
    card: str = ""
    mode: str | None = None
    short_side: int = 720
    fps: int = 30
    aspect_ratio: str | None = None
    video_seconds: int = 5
    has_sound: bool = False
    watermark: bool = False
    callback_urls: tuple[str, ...] = ()
    external_id: str | None = None
    extends: str | None = None

    @property
    def cents(self) -> int:
        """The price in US cents; sound doubles it. Invented [E]: no public page states prices."""
        return round(_TENTHS[self.mode] * self.video_seconds * (2 if self.has_sound else 1) / 10)


def read_order(body: Any, header_model: str | None) -> Order:
    """Turn a decoded JSON body into an order, or raise the refusal. Decodes images: call it in a worker thread."""
    if not isinstance(body, dict):
        raise platform(400, "INVALID_REQUEST", "the body must be a JSON object")
    _reject_unknown(body, _BODY_FIELDS, "")
    name = _model(body.get("model", header_model))
    model = MODELS[name]
    try:
        values = _values(model, _params(body.get("input")))
    except ParameterError as error:
        raise refusal_of(name, error) from error
    return _order(name, model, values)


def refusal_of(model: str, error: ParameterError) -> Refusal:
    """Return how a model reports an invalid parameter."""
    code = MODELS[model].codes.get(error.error_key)
    return coded(code, f"{error.name} {error.text}") if code else invalid(error.name, error.text)


def external_id_hint(body: Any) -> str:
    """Return the external id in a body that is not validated yet, for faults that match requests."""
    try:
        return str(body["input"][0]["params"]["external_task_id"])
    except (KeyError, IndexError, TypeError):
        return ""


def _reject_unknown(given: dict[str, Any], known: Any, prefix: str) -> None:
    for name in given:
        if name not in known:
            raise invalid(f"{prefix}{shown(name)}", "unknown parameter")


def _model(model: Any) -> str:
    if not isinstance(model, str) or not model:
        raise invalid("model", "a model id is required, in the body or as X-Model")
    if model not in MODELS:
        # [V] section 9: the only documented response about something unknown to the account.
        raise detail(404, f"App not found: {shown(model)}")
    return model


def _params(items: Any) -> dict[str, Any]:
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        raise invalid("input", "must be an array of exactly one object")
    _reject_unknown(items[0], ("params", "sr_info"), "input[0].")
    params = items[0].get("params")
    if not isinstance(params, dict):
        raise invalid("input[0].params", "must be an object")
    return params


def _values(model: Model, params: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = ObjectOf(model.params, closed=model.strict).check("", params)
    for name, param_type in model.params.items():
        if param_type.default is not None:
            values.setdefault(name, param_type.default)
    for rule in model.rules:
        rule(values)
    return values


def _order(name: str, model: Model, values: dict[str, Any]) -> Order:
    mode = values.get("mode") if "mode" in model.params else None
    images = _images(model, values)
    urls = [values[each] for each in ("callback_url", "callback") if each in values]
    prompt = values.get("prompt")
    return Order(
        model=name,
        images=images,
        prompt=prompt if isinstance(prompt, str) else None,
        card=_card(name, values),
        mode=mode,
        short_side=model.sizes.get(mode, (720, 30))[0],
        fps=model.sizes.get(mode, (720, 30))[1],
        aspect_ratio=values.get("aspect_ratio") if "aspect_ratio" in model.params else None,
        video_seconds=int(values.get("duration", "5")) if "duration" in model.params else 5,
        has_sound="sound" in model.params and values.get("sound") == "on",
        watermark="watermark_info" in model.params and values.get("watermark_info", {}).get("enabled", False),
        callback_urls=tuple(dict.fromkeys(urls)),
        external_id=values.get("external_task_id"),
        extends=values.get("video_id") if "video_id" in model.params else None,
    )


def _images(model: Model, values: dict[str, Any]) -> tuple[GivenImage, ...]:
    """Return the images shown in the video, in order, without masks. Undocumented models show none."""
    if model.task == OTHER:
        return ()
    items = values.get("image_list", []) if "image_list" in model.params else []
    found = [values.get("image"), *(item.get("image_url") or item.get("image") for item in items)]
    return tuple(each for each in [*found, values.get("image_tail")] if isinstance(each, GivenImage))


def _card(name: str, values: dict[str, Any]) -> str:
    """Return the text to draw if there is no image: the prompt, the shots' prompts, or the model."""
    shots = values.get("multi_prompt") if values.get("multi_shot") is True else None
    texts = [shot.get("prompt", "") for shot in shots] if isinstance(shots, list) else [values.get("prompt")]
    return " / ".join(text for text in texts if isinstance(text, str) and text) or name


_BODY_FIELDS = ("model", "input", "moderation", "metadata", "options")
