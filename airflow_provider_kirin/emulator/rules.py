"""Rules between parameters: plain functions of the checked values, defaults filled in, that raise
:class:`ParameterError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_kirin.emulator.errors import ParameterError

Values = Mapping[str, Any]
Rule = Callable[[Values], None]


def at_least_one(*names: str) -> Rule:
    """One of these parameters is there."""

    def rule(values: Values) -> None:
        if not any(name in values for name in names):
            raise ParameterError(names[0], f"give {' or '.join(names)}", "missing")

    return rule


def needs(name: str, wanted: str, *, together: tuple[str, ...] = (), where: str | None = None, **others: str) -> Rule:
    """``name`` (with ``together``, or with the value ``where``) is there only if ``others`` have these values."""

    def rule(values: Values) -> None:
        given = all(each in values for each in (name, *together))
        if given and (where is None or values[name] == where):
            for other, value in others.items():
                if values.get(other) != value:
                    raise ParameterError(other, f"{wanted} needs {other} {value}")

    return rule


def never_together(*groups: tuple[str, ...]) -> Rule:
    """Parameters of at most one group are there."""

    def rule(values: Values) -> None:
        used = [next(name for name in group if name in values) for group in groups if any(n in values for n in group)]
        if len(used) > 1:
            raise ParameterError(used[1], f"does not go together with {used[0]}")

    return rule


def camera(values: Values) -> None:
    """``config`` describes the type simple, and only that; exactly one of its values is not zero ([K])."""
    control = values.get("camera_control", {})
    config, kind = control.get("config"), control.get("type")
    if kind == "simple" and config is None:
        raise ParameterError("camera_control.config", "is required for type simple")
    if kind not in ("simple", None) and config is not None:
        raise ParameterError("camera_control", "config goes with type simple only")
    if config is not None and sum(value != 0 for value in config.values()) != 1:
        raise ParameterError("camera_control.config", "exactly one value must not be zero")


def shots(values: Values) -> None:
    """``multi_shot`` wants ``shot_type`` and shots that add up to the duration; without it there is a prompt."""
    if not values["multi_shot"]:
        if "prompt" not in values:
            raise ParameterError("prompt", "is required unless multi_shot is true")
        return
    if "shot_type" not in values:
        raise ParameterError("shot_type", "is required with multi_shot")
    if "multi_prompt" not in values:
        raise ParameterError("multi_prompt", "is required with shot_type customize")
    parts = [shot.get("duration") for shot in values["multi_prompt"]]
    if None not in parts and sum(map(int, parts)) != int(values["duration"]):
        raise ParameterError("multi_prompt", "the durations of all shots must add up to duration")


def references(values: Values) -> None:
    """At most 7 images and elements, 4 beside a video ([K])."""
    most = 4 if values.get("video_list") else 7
    if len(values.get("image_list", ())) + len(values.get("element_list", ())) > most:
        raise ParameterError("image_list", f"with element_list at most {most} items are allowed here")


def silent_with_video(values: Values) -> None:
    """A video brings its own sound ([K])."""
    if values.get("video_list") and values["sound"] != "off":
        raise ParameterError("sound", "must be off where a video is given")


def shape_known(values: Values) -> None:
    """Without a first frame or a base video nobody knows the shape ([K])."""
    if not (_frames(values, "first_frame") or _has_base_video(values)) and "aspect_ratio" not in values:
        raise ParameterError("aspect_ratio", "is required without a first frame or a base video")


def frames(values: Values) -> None:
    """How first and last frames go with each other, with more images and with a video."""
    if _frames(values, "end_frame") and not _frames(values, "first_frame"):
        raise ParameterError("image_list", "an end_frame needs a first_frame")
    if _frames(values, "first_frame", "end_frame") and _has_base_video(values):
        raise ParameterError("video_list", "a first or last frame does not go with a base video")
    if len(values.get("image_list", ())) > 2 and _frames(values, "end_frame"):
        raise ParameterError("image_list", "there can be no end_frame among more than 2 images")


def short_or_long(values: Values) -> None:
    """From text alone, or with a first frame alone: 5 or 10 seconds ([K])."""
    images = values.get("image_list", [])
    alone = not images or (len(images) == 1 and images[0].get("type") == "first_frame")
    alone = alone and "video_list" not in values and "element_list" not in values
    if alone and values.get("duration", "5") not in ("5", "10"):
        raise ParameterError("duration", 'must be "5" or "10" here')


def named_image(values: Values) -> None:
    """An item has its image under one of two names."""
    for index, item in enumerate(values.get("image_list", ())):
        if "image_url" not in item and "image" not in item:
            raise ParameterError(f"image_list.{index}", "give image_url")


def _frames(values: Values, *types: str) -> int:
    return sum(item.get("type") in types for item in values.get("image_list", ()))


def _has_base_video(values: Values) -> bool:
    return any(item.get("refer_type", "base") == "base" for item in values.get("video_list", ()))
