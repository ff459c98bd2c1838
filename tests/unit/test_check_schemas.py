"""The maintainers' comparison of the schemas with a gateway's own descriptions of its models."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_provider_kirin.api.models import load_schema, model_names

# The scripts are in a checkout only.
check_schemas = pytest.importorskip("scripts.check_schemas")

MODEL = "kirin_v1_6_multi_i2v"


def differences(theirs: dict[str, Any], model: str = MODEL) -> list[str]:
    return list(check_schemas.differences(load_schema(model), theirs))


@pytest.mark.parametrize("model", model_names())
def test_a_schema_agrees_with_itself(model: str) -> None:
    assert differences(load_schema(model), model) == []


@pytest.mark.parametrize(
    ("path", "facts", "sentence"),
    [
        (("duration",), {"enum": ["5"]}, "duration: enum is ['5'] at the gateway, ['5', '10'] here"),
        (("mode",), {"default": "pro"}, "mode: default is pro at the gateway, std here"),
        (("prompt",), {"minLength": 2}, "prompt: minLength is 2 at the gateway, not stated here"),
        (("duration",), {"type": "integer"}, "duration: type is integer at the gateway, string here"),
        (("image_list",), {"maxItems": 8}, "image_list: maxItems is 8 at the gateway, 4 here"),
        (("seed",), {"type": "int"}, "seed: parameter is known at the gateway, unknown here"),
        (
            ("image_list", "items", "properties", "image"),
            {"maxLength": 5},
            "image_list.*.image: maxLength is 5 at the gateway, not stated here",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_each_difference_is_one_sentence(path: tuple[str, ...], facts: dict[str, Any], sentence: str) -> None:
    theirs = copy.deepcopy(load_schema(MODEL))
    at = theirs["properties"]
    for part in path[:-1]:
        at = at[part]
    at.setdefault(path[-1], {}).update(facts)
    assert differences(theirs) == [sentence]


def test_required_parameters_are_compared_at_every_depth() -> None:
    theirs = copy.deepcopy(load_schema(MODEL))
    theirs["required"] = ["prompt", "mode"]
    theirs["properties"]["image_list"]["items"]["required"] = []
    assert differences(theirs) == [
        "image_list.*.image: required is False at the gateway, True here",
        "image_list: required is False at the gateway, True here",
        "mode: required is True at the gateway, False here",
    ]


def test_a_removed_parameter_and_a_closed_payload_are_differences() -> None:
    theirs = copy.deepcopy(load_schema(MODEL)) | {"additionalProperties": False}
    del theirs["properties"]["callback_url"]
    assert differences(theirs) == [
        "callback_url: parameter is unknown at the gateway, known here",
        "payload: additionalProperties is False at the gateway, True here",
    ]


def test_a_default_that_the_gateway_applies_is_compared() -> None:
    properties = load_schema("kirin_v1_6_t2v")["properties"]
    assert "default" not in properties["cfg_scale"]
    theirs = {"properties": {**properties, "cfg_scale": {"type": "float", "default": 0.5}}}
    assert not any("cfg_scale" in sentence for sentence in differences(theirs, "kirin_v1_6_t2v"))


def test_a_spec_is_read_as_a_schema() -> None:
    parameters = [
        {"name": "prompt", "type": "str", "required": True, "max_length": 99, "min": None},
        {"name": "cfg_scale", "type": "float", "min": 0, "max": 1},
    ]
    assert check_schemas.parse_description({"status": {"code": 200}, "data": {"parameters": parameters}}) == {
        "properties": {
            "prompt": {"type": "str", "maxLength": 99},
            "cfg_scale": {"type": "float", "minimum": 0, "maximum": 1},
        },
        "required": ["prompt"],
    }


def test_a_contract_may_come_bare_or_wrapped() -> None:
    schema = {"properties": {"a": {"type": "string"}}}
    for body in ({"input_schema": schema}, {"data": {"input_schema": schema}}):
        assert check_schemas.parse_description(body) == schema


@pytest.mark.parametrize("body", [{}, [], None, {"parameters": {}}, {"input_schema": []}, {"data": {"id": 1}}])
def test_a_body_that_does_not_describe_a_model_is_an_error(body: Any) -> None:
    with pytest.raises(ValueError, match="not a description"):
        check_schemas.parse_description(body)
