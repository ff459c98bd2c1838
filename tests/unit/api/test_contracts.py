"""Where a gateway's own description of a model differs from this provider's schema."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.contracts import (
    Difference,
    description_requests,
    differences,
    models_host,
    read_description,
)
from airflow_provider_kirin.api.models import load_schema, model_names
from airflow_provider_kirin.exceptions import KirinAuthError, KirinError, KirinNotFoundError, KirinReplyError

MODEL = "kirin_v1_6_multi_i2v"


def read(body: Any, status: int = 200) -> dict[str, Any]:
    return read_description(status, {}, body, doing="asking")


def changed(*path: str, **facts: Any) -> list[str]:
    """What is told where the gateway says these facts of a parameter."""
    theirs = copy.deepcopy(load_schema(MODEL))
    at = theirs["properties"]
    for part in path[:-1]:
        at = at[part]
    at.setdefault(path[-1], {}).update(facts)
    return [str(one) for one in differences(load_schema(MODEL), theirs)]


@pytest.mark.parametrize("model", model_names())
def test_a_schema_agrees_with_itself(model: str) -> None:
    assert differences(load_schema(model), load_schema(model)) == []


@pytest.mark.parametrize(
    ("path", "facts", "told"),
    [
        (
            ("duration",),
            {"enum": ["5", "10", "15"]},
            "duration: enum is ['5', '10', '15'] at the gateway, ['5', '10'] here",
        ),
        (("mode",), {"default": "pro"}, "mode: default is pro at the gateway, std here"),
        (("prompt",), {"maxLength": 4000}, "prompt: maxLength is 4000 at the gateway, 2500 here"),
        (("prompt",), {"minLength": 2}, "prompt: minLength is 2 at the gateway, not stated here"),
        (("duration",), {"type": "integer"}, "duration: type is integer at the gateway, string here"),
        (("image_list",), {"maxItems": 8}, "image_list: maxItems is 8 at the gateway, 4 here"),
        (("seed",), {"type": "int"}, "seed: parameter is known at the gateway, unknown here"),
        (
            ("watermark_info", "properties", "text"),
            {"type": "string"},
            "watermark_info.text: parameter is known at the gateway, unknown here",
        ),
        (
            ("image_list", "items", "properties", "image"),
            {"maxLength": 5},
            "image_list.*.image: maxLength is 5 at the gateway, not stated here",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_difference_is_one_sentence(path: tuple[str, ...], facts: dict[str, Any], told: str) -> None:
    assert changed(*path, **facts) == [told]


def test_what_is_required_is_compared_at_every_depth() -> None:
    ours = load_schema(MODEL)
    theirs = copy.deepcopy(ours)
    theirs["required"] = ["prompt", "mode"]
    theirs["properties"]["image_list"]["items"]["required"] = []
    assert [(one.field, one.fact, one.theirs) for one in differences(ours, theirs)] == [
        ("image_list.*.image", "required", "false"),
        ("image_list", "required", "false"),
        ("mode", "required", "true"),
    ]


def test_a_parameter_that_is_gone_and_a_door_that_is_shut() -> None:
    ours = load_schema(MODEL)
    theirs = copy.deepcopy(ours) | {"additionalProperties": False}
    del theirs["properties"]["callback_url"]
    assert differences(ours, theirs) == [
        Difference("callback_url", "parameter", "known", "unknown"),
        Difference("payload", "additionalProperties", "allowed", "refused"),
    ]


def test_a_default_that_is_the_gateway_s_own_counts() -> None:
    ours = load_schema("kirin_v1_6_t2v")
    assert "default" not in ours["properties"]["cfg_scale"]
    theirs = {"properties": {**ours["properties"], "cfg_scale": {"type": "float", "default": 0.5}}}
    assert [one for one in differences(ours, theirs) if one.field == "cfg_scale"] == []


def test_what_a_spec_does_not_state_is_no_difference() -> None:
    spec = {
        "data": {"parameters": [{"name": name} for name in load_schema(MODEL)["properties"]] + ["odd", {"name": 5}]}
    }
    told = differences(load_schema(MODEL), read(spec))
    assert {one.fact for one in told} == {"required"}


def test_a_spec_has_its_own_words() -> None:
    parameters = [
        {"name": "prompt", "type": "str", "required": True, "max_length": 99, "min": None},
        {"name": "cfg_scale", "type": "float", "min": 0, "max": 1},
    ]
    assert read({"status": {"code": 200}, "data": {"parameters": parameters}}) == {
        "properties": {
            "prompt": {"type": "str", "maxLength": 99},
            "cfg_scale": {"type": "float", "minimum": 0, "maximum": 1},
        },
        "required": ["prompt"],
    }


def test_a_contract_may_come_bare_or_wrapped() -> None:
    schema = {"properties": {"a": {"type": "string"}}}
    assert read({"input_schema": schema}) == read({"data": {"input_schema": schema}}) == schema


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, "Not Found"), (404, {"detail": "x"}), (405, {}), (200, {"status": {"code": 404, "message": "no model"}})],
)
def test_none_there_is_not_found(status: int, body: Any) -> None:
    with pytest.raises(KirinNotFoundError):
        read(body, status)


def test_trouble_is_told_as_anywhere() -> None:
    with pytest.raises(KirinAuthError):
        read({"error": "Missing Token"}, 401)


@pytest.mark.parametrize("body", [{}, [], "text", None, {"parameters": {}}, {"input_schema": []}, {"data": {"id": 1}}])
def test_what_describes_nothing_is_told(body: Any) -> None:
    with pytest.raises(KirinReplyError, match="describes no model"):
        read(body)


@pytest.mark.parametrize("required", [5, "image", [["image"]], {"image": True}, None])
def test_odd_requirements_are_none(required: Any) -> None:
    theirs = {"properties": {"prompt": {}}, "required": required}
    told = differences({"properties": {"prompt": {}}, "required": ["prompt"]}, theirs)
    assert [one.theirs for one in told] == ["false"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "input_schema", "properties", "items", "required", "mode", "type", "parameters"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_no_response_of_a_gateway_raises_an_unexpected_error(body: Any) -> None:
    try:
        described = read({"input_schema": body})
    except KirinError:
        return
    for one in differences(load_schema(MODEL), described):
        assert len(str(one)) < 600


def test_where_it_asks() -> None:
    host = models_host("https://gateway.example:8443/prefix/model")
    assert [request.url for request in description_requests(host, "kirin_v3_t2v")] == [
        "https://gateway.example:8443/api/v1/skill/model-contracts/kirin_v3_t2v",
        "https://gateway.example:8443/api/v1/skill/models/kirin_v3_t2v/spec",
    ]
