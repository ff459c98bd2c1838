"""Rules between parameters: functions of the checked values, with defaults, that raise :class:`ParameterError`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_kirin.emulator.errors import ParameterError

Values = Mapping[str, Any]
Rule = Callable[[Values], None]


def at_least_one(*names: str) -> Rule:
    """Require at least one of these parameters."""

    def rule(values: Values) -> None:
        if not any(name in values for name in names):
            raise ParameterError(names[0], f"{' or '.join(names)} is required", "missing")

    return rule


def needs(name: str, what: str, *, together: tuple[str, ...] = (), value: str | None = None, **others: str) -> Rule:
    """Allow ``name`` (with this value, or together with other parameters) only if ``others`` have these values."""

    def rule(values: Values) -> None:
        given = all(each in values for each in (name, *together))
        if given and (value is None or values[name] == value):
            for other, required in others.items():
                if values.get(other) != required:
                    raise ParameterError(other, f"{what} requires {other} {required}")

    return rule


def never_together(*groups: tuple[str, ...]) -> Rule:
    """Allow the parameters of at most one group."""

    def rule(values: Values) -> None:
        used = [next(name for name in group if name in values) for group in groups if any(n in values for n in group)]
        if len(used) > 1:
            raise ParameterError(used[1], f"cannot be combined with {used[0]}")

    return rule


def camera(values: Values) -> None:
    """Require ``config`` with the type simple, and only there, with exactly one non-zero value ([K])."""
    control = values.get("camera_control", {})
    config, type_ = control.get("config"), control.get("type")
    if type_ == "simple" and config is None:
        raise ParameterError("camera_control.config", "is required for type simple")
    if type_ not in ("simple", None) and config is not None:
        raise ParameterError("camera_control", "config is only allowed with type simple")
    if config is not None and sum(value != 0 for value in config.values()) != 1:
        raise ParameterError("camera_control.config", "exactly one value must be non-zero")


def shots(values: Values) -> None:
    """Require with ``multi_shot`` a ``shot_type`` and shots that add up to the duration; without it a prompt."""
    if not values["multi_shot"]:
        if "prompt" not in values:
            raise ParameterError("prompt", "is required unless multi_shot is true")
        return
    if "shot_type" not in values:
        raise ParameterError("shot_type", "is required with multi_shot")
    if "multi_prompt" not in values:
        raise ParameterError("multi_prompt", "is required with shot_type customize")
    durations = [shot.get("duration") for shot in values["multi_prompt"]]
    if None not in durations and sum(map(int, durations)) != int(values["duration"]):
        raise ParameterError("multi_prompt", "the durations of all shots must add up to duration")


def references(values: Values) -> None:
    """Allow at most 7 images and elements, 4 with a video ([K])."""
    most = 4 if values.get("video_list") else 7
    if len(values.get("image_list", ())) + len(values.get("element_list", ())) > most:
        raise ParameterError("image_list", f"at most {most} images and elements are allowed here")


def silent_with_video(values: Values) -> None:
    """Reject sound with a video, which has its own ([K])."""
    if values.get("video_list") and values["sound"] != "off":
        raise ParameterError("sound", "must be off if a video is given")


def aspect_ratio_known(values: Values) -> None:
    """Require an aspect ratio unless a first frame or a base video has one ([K])."""
    if not (_frames(values, "first_frame") or _has_base_video(values)) and "aspect_ratio" not in values:
        raise ParameterError("aspect_ratio", "is required without a first frame or a base video")


def frames(values: Values) -> None:
    """Check the combinations of first and last frames with each other, with more images and with a video."""
    if _frames(values, "end_frame") and not _frames(values, "first_frame"):
        raise ParameterError("image_list", "an end_frame requires a first_frame")
    if _frames(values, "first_frame", "end_frame") and _has_base_video(values):
        raise ParameterError("video_list", "a first or last frame cannot be combined with a base video")
    if len(values.get("image_list", ())) > 2 and _frames(values, "end_frame"):
        raise ParameterError("image_list", "an end_frame is not allowed among more than 2 images")


def short_or_long(values: Values) -> None:
    """Allow only 5 or 10 seconds with nothing but text, or with only a first frame ([K])."""
    images = values.get("image_list", [])
    alone = not images or (len(images) == 1 and images[0].get("type") == "first_frame")
    alone = alone and "video_list" not in values and "element_list" not in values
    if alone and values.get("duration", "5") not in ("5", "10"):
        raise ParameterError("duration", 'must be "5" or "10" here')


def named_image(values: Values) -> None:
    """Require an image in each item, under one of its two names."""
    for index, item in enumerate(values.get("image_list", ())):
        if "image_url" not in item and "image" not in item:
            raise ParameterError(f"image_list.{index}", "image_url is required")


def _frames(values: Values, *types: str) -> int:
    return sum(item.get("type") in types for item in values.get("image_list", ()))


def _has_base_video(values: Values) -> bool:
    return any(item.get("refer_type", "base") == "base" for item in values.get("video_list", ()))
