"""Payloads of every Kirin model: small ones by hand, and any number of them drawn from the schema files."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from airflow_provider_kirin.api.models import load_schema

CLIP = "8000"  # the id of a clip; a test that submits puts one that exists in its place


def png(colour: str = "red", size: tuple[int, int] = (300, 300)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


PICTURE = base64.b64encode(png()).decode()
SHOTS = [{"index": 1, "prompt": "a", "duration": "2"}, {"index": 2, "prompt": "b", "duration": "3"}]

#: The least that each model takes, written by hand from models.json.
LEAST: dict[str, dict[str, Any]] = {
    "kirin_duration_extension": {"video_id": CLIP},
    "kirin_v1_5_i2v": {"image": PICTURE},
    "kirin_v1_6_i2v": {"image": PICTURE},
    "kirin_v1_6_multi_i2v": {"image_list": [{"image": PICTURE}], "prompt": "p"},
    "kirin_v1_6_t2v": {"prompt": "p"},
    "kirin_v1_i2v": {"image": PICTURE},
    "kirin_v1_t2v": {"prompt": "p"},
    "kirin_v2_1_i2v": {"image": PICTURE},
    "kirin_v2_1_master_i2v": {"image": PICTURE},
    "kirin_v2_1_master_t2v": {"prompt": "p"},
    "kirin_v2_5_turbo_i2v": {"image": PICTURE},
    "kirin_v2_5_turbo_t2v": {"prompt": "p"},
    "kirin_v2_6_i2v": {"image": PICTURE},
    "kirin_v2_6_t2v": {"prompt": "p"},
    "kirin_v2_master_i2v": {"image": PICTURE},
    "kirin_v2_master_t2v": {"prompt": "p"},
    "kirin_v3_i2v": {"image": PICTURE, "prompt": "p"},
    "kirin_v3_omni_video": {"prompt": "p", "aspect_ratio": "16:9"},
    "kirin_v3_t2v": {"prompt": "p"},
    "kirin_video_o1": {"prompt": "p"},
}


TAIL = {"image": PICTURE, "image_tail": PICTURE}
MASKS = {"image": PICTURE, "dynamic_masks": [{"mask": PICTURE}]}
CAMERA = {"type": "simple", "config": {"zoom": 3}}
FIRST, END = ({"image_url": PICTURE, "type": f"{kind}_frame"} for kind in ("first", "end"))
REFERENCE = {"image_url": PICTURE}
VIDEO = {"video_url": "https://videos.example/a.mp4"}
LOOKED_AT = {**VIDEO, "refer_type": "feature"}
ELEMENT = {"element_id": 1}
MULTI = {"multi_shot": True, "shot_type": "customize", "multi_prompt": SHOTS}
OMNI = {"prompt": "p", "aspect_ratio": "16:9"}

#: Model, what is added to the least payload, the fields that are reported; none if it is accepted.
BETWEEN: list[tuple[str, dict[str, Any], list[str]]] = [
    ("kirin_v1_i2v", TAIL, []),
    ("kirin_v1_i2v", {**TAIL, "duration": "10"}, ["duration"]),
    ("kirin_v1_i2v", {**TAIL, **MASKS}, ["dynamic_masks"]),
    ("kirin_v1_i2v", {**TAIL, "static_mask": PICTURE}, ["static_mask"]),
    ("kirin_v1_i2v", {**MASKS, "duration": "10"}, ["duration"]),
    ("kirin_v1_i2v", {"static_mask": PICTURE, "duration": 10}, ["duration"]),
    ("kirin_v1_t2v", {"camera_control": CAMERA}, []),
    ("kirin_v1_t2v", {"camera_control": CAMERA, "mode": "pro"}, ["mode"]),
    ("kirin_v1_t2v", {"camera_control": CAMERA, "duration": "10"}, ["duration"]),
    ("kirin_v1_t2v", {"camera_control": {"type": "simple"}}, ["camera_control.config"]),
    ("kirin_v1_t2v", {"camera_control": {"type": "down_back"}}, []),
    ("kirin_v1_t2v", {"camera_control": {**CAMERA, "type": "down_back"}}, ["camera_control"]),
    ("kirin_v1_t2v", {"camera_control": {"type": "simple", "config": {"zoom": 0}}}, ["camera_control.config"]),
    (
        "kirin_v1_t2v",
        {"camera_control": {"type": "simple", "config": {"zoom": 1, "pan": 1}}},
        ["camera_control.config"],
    ),
    ("kirin_v1_t2v", {"camera_control": {"type": "simple", "config": {"zoom": 1, "pan": 0}}}, []),
    ("kirin_v1_5_i2v", {**TAIL, "mode": "pro"}, []),
    ("kirin_v1_5_i2v", TAIL, ["mode"]),
    ("kirin_v1_5_i2v", {**MASKS, "mode": "pro"}, []),
    ("kirin_v1_5_i2v", MASKS, ["mode"]),
    ("kirin_v1_5_i2v", {**MASKS, "mode": "pro", "duration": "10"}, ["duration"]),
    ("kirin_v1_5_i2v", {"camera_control": CAMERA, "mode": "pro"}, []),
    ("kirin_v1_5_i2v", {"camera_control": CAMERA}, ["mode"]),
    ("kirin_v1_5_i2v", {"camera_control": CAMERA, "mode": "pro", "duration": "10"}, ["duration"]),
    ("kirin_v1_5_i2v", {**TAIL, "camera_control": CAMERA, "mode": "pro"}, ["camera_control"]),
    ("kirin_v1_5_i2v", {**MASKS, "camera_control": CAMERA, "mode": "pro"}, ["camera_control"]),
    ("kirin_v2_1_i2v", TAIL, ["mode"]),
    ("kirin_v2_1_i2v", {**TAIL, "mode": "pro"}, []),
    ("kirin_v2_5_turbo_i2v", TAIL, ["mode"]),
    ("kirin_v2_5_turbo_i2v", {**TAIL, "mode": "pro"}, []),
    ("kirin_v2_6_i2v", TAIL, ["mode"]),
    ("kirin_v2_6_i2v", {"sound": "on"}, ["mode"]),
    ("kirin_v2_6_i2v", {"sound": "on", "mode": "pro"}, []),
    ("kirin_v2_6_i2v", {**TAIL, "sound": "on", "mode": "pro"}, ["sound"]),
    ("kirin_v2_6_i2v", {"voice_list": [{"voice_id": "v"}]}, ["sound"]),
    ("kirin_v2_6_i2v", {"voice_list": [{"voice_id": "v"}], "sound": "on", "mode": "pro"}, []),
    ("kirin_v2_6_t2v", {"sound": "on"}, ["mode"]),
    ("kirin_v2_6_t2v", {"sound": "on", "mode": "pro"}, []),
    ("kirin_v3_i2v", MULTI, []),
    ("kirin_v3_i2v", {"voice_list": [], "element_list": [], "sound": "on"}, ["voice_list"]),
    ("kirin_v3_t2v", MULTI, []),
    ("kirin_v3_t2v", {"multi_shot": "true"}, ["shot_type"]),
    ("kirin_v3_t2v", {"multi_shot": True, "shot_type": "customize"}, ["multi_prompt"]),
    ("kirin_v3_t2v", {**MULTI, "duration": "6"}, ["multi_prompt"]),
    ("kirin_v3_t2v", {**MULTI, "prompt": None}, []),
    ("kirin_v3_t2v", {"prompt": None}, ["prompt"]),
    ("kirin_v3_omni_video", {"image_list": [REFERENCE] * 7}, []),
    ("kirin_v3_omni_video", {"image_list": [REFERENCE] * 7, "element_list": [ELEMENT]}, ["image_list"]),
    ("kirin_v3_omni_video", {"image_list": [REFERENCE] * 5, "video_list": [VIDEO]}, ["image_list"]),
    ("kirin_v3_omni_video", {"video_list": [VIDEO], "sound": "on"}, ["sound"]),
    ("kirin_v3_omni_video", {"aspect_ratio": None}, ["aspect_ratio"]),
    ("kirin_v3_omni_video", {"aspect_ratio": None, "image_list": [FIRST]}, []),
    ("kirin_v3_omni_video", {"aspect_ratio": None, "image_list": [REFERENCE]}, ["aspect_ratio"]),
    ("kirin_v3_omni_video", {"aspect_ratio": None, "video_list": [VIDEO]}, []),
    ("kirin_v3_omni_video", {"aspect_ratio": None, "video_list": [LOOKED_AT]}, ["aspect_ratio"]),
    ("kirin_v3_omni_video", {"image_list": [PICTURE]}, ["image_list.0"]),
    ("kirin_video_o1", {"image_list": [FIRST, END]}, []),
    ("kirin_video_o1", {"image_list": [{"image": PICTURE}]}, []),
    ("kirin_video_o1", {"image_list": [{"type": "first_frame"}]}, ["image_list.0"]),
    ("kirin_video_o1", {"image_list": [END]}, ["image_list"]),
    ("kirin_video_o1", {"image_list": [FIRST], "video_list": [VIDEO]}, ["video_list"]),
    ("kirin_video_o1", {"image_list": [FIRST], "video_list": [LOOKED_AT]}, []),
    ("kirin_video_o1", {"image_list": [FIRST, REFERENCE, END]}, ["image_list"]),
    ("kirin_video_o1", {"duration": "7"}, ["duration"]),
    ("kirin_video_o1", {"duration": "7", "image_list": [FIRST]}, ["duration"]),
    ("kirin_video_o1", {"duration": "7", "image_list": [REFERENCE]}, []),
    ("kirin_video_o1", {"duration": "7", "image_list": [FIRST, END]}, []),
    ("kirin_video_o1", {"duration": 10}, []),
]


def good(rules: dict[str, Any], name: str = "") -> st.SearchStrategy[Any]:
    """Values that a field takes, its limits among them."""
    if "enum" in rules:
        return st.sampled_from(rules["enum"])
    kind = rules["type"]
    if "x-image" in rules:
        return st.just(PICTURE)
    if rules.get("x-url"):
        return st.sampled_from(["https://hooks.example/kirin?token=t", "http://[::1]:8900/"])
    if kind == "string":
        low, high = rules.get("minLength", 0), rules.get("maxLength", 40)
        return st.sampled_from(["x" * max(low, 1), "麒" * high, "a teapot", "x" * low])
    if kind == "number":
        low, high = rules["minimum"], rules["maximum"]
        return st.sampled_from([low, high, 0, 0.5]) | st.floats(low, high)
    if kind == "integer":
        return st.integers(-(2**53), 2**63)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        most = min(rules.get("maxItems", 4), 8)
        return st.lists(good(rules["items"]), min_size=rules.get("minItems", 0), max_size=most)
    fields = {each: good(inner) for each, inner in rules["properties"].items()}
    needed = {each: fields.pop(each) for each in rules.get("required", ())}
    return st.fixed_dictionaries(needed, optional=fields)


def bad(rules: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Where, and with what, a field just breaks one of its limits."""
    kind = rules.get("type")
    if "enum" in rules:
        yield (), rules["enum"][0] + "x"
        yield (), 1.5
    if "x-image" in rules:
        yield (), ""
        yield (), 5
    elif kind == "string":
        yield (), True
        if "maxLength" in rules:
            yield (), "x" * (rules["maxLength"] + 1)
        if "minLength" in rules:
            yield (), ""
        if rules.get("x-url"):
            yield (), "ftp://hooks.example/"
    elif kind == "number":
        yield (), rules["minimum"] - 0.01
        yield (), rules["maximum"] + 0.01
        yield (), True
    elif kind == "integer":
        yield (), 1.5
        yield (), True
    elif kind == "boolean":
        yield (), 1
    elif kind == "array":
        yield (), {}
        item = example(rules["items"])
        if "maxItems" in rules:
            yield (), [item] * (rules["maxItems"] + 1)
        if "minItems" in rules:
            yield (), [item] * (rules["minItems"] - 1)
        for place, value in bad(rules["items"]):
            yield ("*", *place), value
    elif kind == "object":
        yield (), []
        for needed in rules.get("required", ()):
            yield (needed,), ABSENT
        if rules.get("additionalProperties") is False:
            yield ("surprise",), 1
        for name, inner in rules.get("properties", {}).items():
            for place, value in bad(inner):
                yield (name, *place), value


ABSENT = object()


def example(rules: dict[str, Any]) -> Any:
    """One value that a field takes."""
    if "enum" in rules:
        return rules["enum"][0]
    kind = rules["type"]
    if "x-image" in rules:
        return PICTURE
    if rules.get("x-url"):
        return "https://hooks.example/"
    if kind == "array":
        return [example(rules["items"])] * max(1, rules.get("minItems", 0))
    if kind == "object":
        return {name: example(inner) for name, inner in rules["properties"].items()}
    return {"string": "x", "number": rules.get("maximum", 1), "integer": 1, "boolean": True}[kind]


def with_bad(model: str, name: str, place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The least payload of a model with one field that breaks one limit."""
    rules = load_schema(model)["properties"][name]

    def at(rules: dict[str, Any], place: tuple[Any, ...]) -> Any:
        if not place:
            return value
        if place[0] == "*":
            return [at(rules["items"], place[1:])] * max(1, rules.get("minItems", 0))
        whole = example(rules)
        inner = rules["properties"].get(place[0], {})
        new = at(inner, place[1:])
        if new is ABSENT:
            return {key: each for key, each in whole.items() if key != place[0]}
        return {**whole, place[0]: new}

    return {**LEAST[model], name: at(rules, place)}


def limits(model: str) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Every limit of a model's fields: the field, the place in it, a value that breaks it."""
    for name, rules in load_schema(model)["properties"].items():
        if name != "model":
            for place, value in bad(rules):
                yield name, place, value


@st.composite
def payloads(draw: st.DrawFn, model: str) -> dict[str, Any]:
    """Payloads whose fields are right one by one; between them rules may be broken."""
    properties = {name: rules for name, rules in load_schema(model)["properties"].items() if name != "model"}
    names = draw(st.lists(st.sampled_from(sorted(properties)), unique=True, max_size=6))
    drawn = {name: draw(good(properties[name])) for name in names}
    least = LEAST[model] if draw(st.integers(0, 9)) else {}
    return {**least, **drawn}
