"""The emulated models, written by hand from models.json: a second reading of the facts, independent of the client's.

What a page of the gateway states is [V] there, what only Kling states is [K]. A model that is not ``strict`` accepts
undocumented parameters. Undocumented resolutions and frame rates are 720p and 1080p at 30 frames a second ([E]).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_kirin.emulator import rules
from airflow_provider_kirin.emulator.rules import Rule
from airflow_provider_kirin.emulator.schema import (
    Choice,
    Flag,
    ImageParam,
    Integer,
    ListOf,
    Number,
    ObjectOf,
    ParamType,
    Text,
    Url,
    required,
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model's parameters and output. ``sizes``: short side and frames a second by mode (None if it has no modes)."""

    task: str
    params: Mapping[str, ParamType]
    rules: tuple[Rule, ...] = ()
    strict: bool = False
    codes: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str | None, tuple[int, int]] = field(default_factory=lambda: {"std": (720, 30), "pro": (1080, 30)})


I2V, T2V, MULTI, OMNI, EXTENSION, OTHER = "i2v", "t2v", "multi_i2v", "omni_video", "video_extension", "other"

_PROMPT = Text(1, 2500, "prompt")
_ANY_PROMPT = Text(0, 2500, "prompt")
_TEXTS: dict[str, ParamType] = {"prompt": _ANY_PROMPT, "negative_prompt": _ANY_PROMPT}
_REQUIRED_TEXTS: dict[str, ParamType] = {**_TEXTS, "prompt": required(_ANY_PROMPT)}
_MODE = Choice(("std", "pro"), default="std")
_PRO = Choice(("std", "pro"), default="pro")
_DURATION = Choice(("5", "10"), "duration", default="5")
_DURATION_NO_DEFAULT = Choice(("5", "10"), "duration")
_DURATION_3_TO_15 = Choice(tuple(map(str, range(3, 16))), "duration", default="5")
_SCALE = Number(0, 1, default=0.5)
_RATIO = Choice(("16:9", "9:16", "1:1"), default="16:9")
_SOUND = Choice(("on", "off"), default="off")
_FRAME = ImageParam()
_TAIL = ImageParam(any_ratio=True)
_MASK = ImageParam(any_ratio=True, any_size=True)
_COMMON: dict[str, ParamType] = {
    "watermark_info": ObjectOf({"enabled": required(Flag())}, closed=True),
    "callback_url": Url(),
    "external_task_id": Text(1),
}
_MODE_DURATION: dict[str, ParamType] = {"mode": _MODE, "duration": _DURATION, **_COMMON}
_MASKS: dict[str, ParamType] = {
    "static_mask": _MASK,
    "dynamic_masks": ListOf(
        ObjectOf({"mask": _MASK, "trajectories": ListOf(ObjectOf({"x": Integer(), "y": Integer()}), 2, 77)}), high=6
    ),
}
_AXES = ObjectOf(dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), Number(-10, 10)), closed=True)
_SHOTS: dict[str, ParamType] = {
    "multi_shot": Flag(default=False),
    "shot_type": Choice(("customize",)),
    "prompt": _ANY_PROMPT,
    "multi_prompt": ListOf(
        ObjectOf({"index": Integer(), "prompt": Text(0, 512), "duration": Choice(tuple(map(str, range(1, 16))))}), 1, 6
    ),
}
_VOICES = ListOf(ObjectOf({"voice_id": Text()}), high=2)
_VIDEO = ListOf(
    ObjectOf(
        {
            "video_url": required(Url()),
            "refer_type": Choice(("feature", "base")),
            "keep_original_sound": Choice(("yes", "no")),
        }
    ),
    high=1,
)
_FRAME_TYPE = Choice(("first_frame", "end_frame"))


def _elements(most: int) -> ParamType:
    return ListOf(ObjectOf({"element_id": Integer()}), high=most)


def _camera(*types: str) -> ParamType:
    return ObjectOf({"type": Choice(types), "config": _AXES})


_TAIL_PRO = rules.needs("image_tail", "image_tail", mode="pro")
_BOTH_PRO = rules.needs("image", "a last frame", together=("image_tail",), mode="pro")
_AN_IMAGE = rules.at_least_one("image", "image_tail")
_SOUND_PRO = rules.needs("sound", "sound", value="on", mode="pro")
_VOICE_RULES = (
    rules.needs("voice_list", "voice_list", sound="on"),
    rules.never_together(("voice_list",), ("element_list",)),
)


def _five(*names: str) -> tuple[Rule, ...]:
    return tuple(rules.needs(name, name, duration="5") for name in names)


def _pro(*names: str) -> tuple[Rule, ...]:
    return tuple(rules.needs(name, name, mode="pro") for name in names)


_BRUSH = ("static_mask", "dynamic_masks")

MODELS: dict[str, Model] = {
    "kirin_v1_6_i2v": Model(
        task=I2V,
        strict=True,
        params={
            "image": _FRAME,
            "image_tail": _TAIL,
            "prompt": _PROMPT,
            "negative_prompt": _ANY_PROMPT,
            "cfg_scale": _SCALE,
            **_MODE_DURATION,
            "callback": Url(),
        },
        rules=(_AN_IMAGE, _TAIL_PRO),
        codes={
            "missing": "8002005001",
            "format": "8002005002",
            "prompt": "8002005003",
            "duration": "8002005004",
            "ratio": "8002005005",
        },
    ),
    "kirin_v1_6_t2v": Model(
        task=T2V,
        params={
            **_REQUIRED_TEXTS,
            "cfg_scale": _SCALE,
            "aspect_ratio": _RATIO,
            **_MODE_DURATION,
        },
        sizes={"std": (720, 24), "pro": (1080, 24)},
    ),
    "kirin_v1_6_multi_i2v": Model(
        task=MULTI,
        params={
            "image_list": required(ListOf(ObjectOf({"image": required(_FRAME)}), 1, 4)),
            **_REQUIRED_TEXTS,
            "aspect_ratio": _RATIO,
            **_MODE_DURATION,
        },
    ),
    "kirin_v1_i2v": Model(
        task=I2V,
        params={
            "image": required(_FRAME),
            "image_tail": _TAIL,
            **_MASKS,
            "prompt": _PROMPT,
            "negative_prompt": _ANY_PROMPT,
            "cfg_scale": _SCALE,
            **_MODE_DURATION,
        },
        rules=(rules.never_together(("image_tail",), _BRUSH), *_five("image_tail", *_BRUSH)),
    ),
    "kirin_v1_t2v": Model(
        task=T2V,
        params={
            "prompt": required(_PROMPT),
            "duration": _DURATION,
            "aspect_ratio": _RATIO,
            "negative_prompt": _ANY_PROMPT,
            "cfg_scale": _SCALE,
            "mode": _MODE,
            "camera_control": _camera("simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward"),
            **_COMMON,
        },
        rules=(
            rules.needs("camera_control", "camera_control", mode="std", duration="5"),
            rules.camera,
        ),
        sizes={"std": (720, 30), "pro": (720, 30)},
    ),
    "kirin_v1_5_i2v": Model(
        task=I2V,
        params={
            "image": _FRAME,
            "image_tail": _TAIL,
            **_MASKS,
            "camera_control": _camera("simple"),
            **_TEXTS,
            "cfg_scale": _SCALE,
            **_MODE_DURATION,
        },
        rules=(
            _AN_IMAGE,
            rules.never_together(("image_tail",), _BRUSH, ("camera_control",)),
            *_pro("image_tail", *_BRUSH, "camera_control"),
            *_five(*_BRUSH, "camera_control"),
            rules.camera,
        ),
    ),
    "kirin_v2_master_i2v": Model(
        task=I2V,
        params={
            "image": required(_FRAME),
            **_TEXTS,
            "duration": _DURATION,
            **_COMMON,
        },
        sizes={None: (720, 24)},
    ),
    "kirin_v2_master_t2v": Model(
        task=T2V,
        params={
            "prompt": required(_PROMPT),
            "negative_prompt": _ANY_PROMPT,
            "aspect_ratio": _RATIO,
            "duration": _DURATION_NO_DEFAULT,
            **_COMMON,
        },
        sizes={None: (720, 24)},
    ),
    "kirin_v2_1_i2v": Model(
        task=I2V,
        params={
            "image": _FRAME,
            "image_tail": _TAIL,
            **_TEXTS,
            **_MODE_DURATION,
        },
        rules=(_AN_IMAGE, _BOTH_PRO),
        sizes={"std": (720, 24), "pro": (1080, 24)},
    ),
    "kirin_v2_1_master_i2v": Model(
        task=I2V,
        params={"image": required(_FRAME), "prompt": _ANY_PROMPT, "duration": _DURATION, **_COMMON},
        sizes={None: (1080, 24)},
    ),
    "kirin_v2_1_master_t2v": Model(
        task=T2V,
        params={"prompt": required(_PROMPT), "aspect_ratio": _RATIO, "duration": _DURATION_NO_DEFAULT, **_COMMON},
        sizes={None: (1080, 24)},
    ),
    "kirin_v2_5_turbo_i2v": Model(
        task=I2V,
        params={
            "image": required(_FRAME),
            **_TEXTS,
            "duration": _DURATION,
            "mode": _MODE,
            "image_tail": _TAIL,
            **_COMMON,
        },
        rules=(_TAIL_PRO,),
        sizes={"std": (720, 24), "pro": (1080, 24)},
    ),
    "kirin_v2_5_turbo_t2v": Model(
        task=T2V,
        params={
            "prompt": required(_PROMPT),
            "duration": _DURATION,
            "aspect_ratio": _RATIO,
            "mode": _MODE,
            "negative_prompt": _ANY_PROMPT,
            **_COMMON,
        },
        sizes={"std": (720, 24), "pro": (1080, 24)},
    ),
    "kirin_v2_6_i2v": Model(
        task=I2V,
        params={
            "image": _FRAME,
            "image_tail": _FRAME,
            "prompt": _ANY_PROMPT,
            "sound": _SOUND,
            "negative_prompt": _ANY_PROMPT,
            "voice_list": _VOICES,
            **_MODE_DURATION,
        },
        rules=(
            _AN_IMAGE,
            _BOTH_PRO,
            _SOUND_PRO,
            rules.needs("image", "a last frame", together=("image_tail",), sound="off"),
            *_VOICE_RULES,
        ),
    ),
    "kirin_v2_6_t2v": Model(
        task=T2V,
        params={
            **_REQUIRED_TEXTS,
            "sound": _SOUND,
            "aspect_ratio": _RATIO,
            **_MODE_DURATION,
        },
        rules=(_SOUND_PRO,),
    ),
    "kirin_v3_i2v": Model(
        task=I2V,
        params={
            "image": _FRAME,
            "image_tail": _TAIL,
            **_SHOTS,
            "element_list": _elements(3),
            "voice_list": _VOICES,
            "sound": _SOUND,
            "negative_prompt": _ANY_PROMPT,
            "mode": _MODE,
            "duration": _DURATION_3_TO_15,
            **_COMMON,
        },
        rules=(_AN_IMAGE, rules.shots, *_VOICE_RULES),
    ),
    "kirin_v3_t2v": Model(
        task=T2V,
        params={
            **_SHOTS,
            "negative_prompt": _ANY_PROMPT,
            "sound": _SOUND,
            "mode": _MODE,
            "aspect_ratio": _RATIO,
            "duration": _DURATION_3_TO_15,
            **_COMMON,
        },
        rules=(rules.shots,),
    ),
    "kirin_v3_omni_video": Model(
        task=OMNI,
        params={
            **_SHOTS,
            "image_list": ListOf(ObjectOf({"image_url": required(_FRAME), "type": _FRAME_TYPE})),
            "element_list": _elements(7),
            "video_list": _VIDEO,
            "sound": _SOUND,
            "mode": _PRO,
            "aspect_ratio": Choice(("16:9", "9:16", "1:1")),
            "duration": _DURATION_3_TO_15,
            **_COMMON,
        },
        rules=(rules.shots, rules.references, rules.silent_with_video, rules.aspect_ratio_known),
    ),
    "kirin_video_o1": Model(
        task=OMNI,
        params={
            "prompt": required(_ANY_PROMPT),
            "image_list": ListOf(ObjectOf({"image_url": _FRAME, "image": _FRAME, "type": _FRAME_TYPE})),
            "element_list": _elements(7),
            "video_list": _VIDEO,
            "mode": _PRO,
            "aspect_ratio": Choice(("16:9", "9:16", "1:1")),
            "duration": Choice(tuple(map(str, range(3, 11))), "duration"),
            **_COMMON,
        },
        rules=(rules.named_image, rules.references, rules.frames, rules.short_or_long),
    ),
    "kirin_duration_extension": Model(
        task=EXTENSION,
        strict=True,
        params={
            "video_id": required(Text(1)),
            **_TEXTS,
            "cfg_scale": _SCALE,
            **_COMMON,
        },
        sizes={None: (720, 30)},
    ),
    "kirin_lipsync": Model(task=OTHER, params={name: _COMMON[name] for name in ("callback_url", "external_task_id")}),
    "kirin_v3_motion_control": Model(
        task=OTHER, params={name: _COMMON[name] for name in ("callback_url", "external_task_id")}
    ),
}
