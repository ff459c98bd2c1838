"""The schema files say what the API's page says; these facts are written down here a second time, by hand."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from airflow_provider_kirin.api.models import DEFAULT_MODEL, load_schema, model_names
from airflow_provider_kirin.exceptions import KirinPayloadError

ALL_MODELS = model_names()


def test_the_default_model_is_kirin_v1_6_i2v() -> None:
    assert DEFAULT_MODEL == "kirin_v1_6_i2v"
    assert DEFAULT_MODEL in ALL_MODELS
    assert list(ALL_MODELS) == sorted(ALL_MODELS)


@pytest.mark.parametrize("model", ALL_MODELS)
class TestEverySchemaFile:
    def test_is_valid_draft_2020_12(self, model: str) -> None:
        schema = load_schema(model)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)

    def test_names_its_model_and_refuses_unknown_parameters(self, model: str) -> None:
        schema = load_schema(model)
        assert schema["title"] == model
        assert schema["properties"]["model"]["const"] == model
        assert schema["additionalProperties"] is False

    def test_describes_every_parameter(self, model: str) -> None:
        assert all(rules.get("description") for rules in load_schema(model)["properties"].values())

    def test_has_defaults_that_keep_its_own_rules(self, model: str) -> None:
        for rules in load_schema(model)["properties"].values():
            if "default" in rules:
                Draft202012Validator(rules).validate(rules["default"])


class TestKirinV16I2V:
    """doc.vtrix.ai, page kirin-v1-6-i2v."""

    @pytest.fixture
    def fields(self) -> dict[str, dict[str, object]]:
        return load_schema("kirin_v1_6_i2v")["properties"]

    def test_has_the_page_s_parameters_and_no_others(self, fields: dict[str, dict[str, object]]) -> None:
        assert list(fields) == [
            "model",
            "image",
            "image_tail",
            "prompt",
            "negative_prompt",
            "mode",
            "cfg_scale",
            "duration",
            "watermark_info",
            "callback_url",
            "external_task_id",
            "callback",
        ]

    @pytest.mark.parametrize(
        ("name", "facts"),
        [
            ("prompt", {"type": "string", "minLength": 1, "maxLength": 2500}),
            ("negative_prompt", {"type": "string", "maxLength": 2500}),
            ("mode", {"enum": ["std", "pro"], "default": "std"}),
            ("cfg_scale", {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5}),
            # The API wants a string; a number is refused there.
            ("duration", {"enum": ["5", "10"], "default": "5"}),
            ("callback_url", {"type": "string"}),
            ("callback", {"type": "string"}),
            ("external_task_id", {"type": "string"}),
        ],
    )
    def test_has_the_page_s_limits(self, fields: dict[str, dict[str, object]], name: str, facts: dict) -> None:
        assert {key: fields[name].get(key) for key in facts} == facts

    def test_watermark_info_is_an_object_with_one_switch(self, fields: dict[str, dict]) -> None:
        watermark = fields["watermark_info"]
        assert watermark["type"] == "object"
        assert {name: rules["type"] for name, rules in watermark["properties"].items()} == {"enabled": "boolean"}

    def test_images_are_jpeg_or_png_below_10_mb_and_at_least_300_pixels(self, fields: dict[str, dict]) -> None:
        for name in ("image", "image_tail"):
            rules = fields[name]["x-image"]
            assert rules["formats"] == ["JPEG", "PNG"]
            assert rules["maxBytes"] == 10_000_000
            assert rules["minSide"] == 300

    def test_only_the_first_frame_has_a_stated_aspect_ratio(self, fields: dict[str, dict]) -> None:
        assert fields["image"]["x-image"]["maxRatio"] == 2.5
        assert "maxRatio" not in fields["image_tail"]["x-image"]

    @pytest.mark.parametrize(
        ("payload", "is_allowed"),
        [
            ({"image": "x"}, True),
            ({"image": "x", "mode": "std"}, True),
            ({"image_tail": "x", "mode": "pro"}, True),
            ({"image": "x", "image_tail": "x", "mode": "pro"}, True),
            ({"image": "x", "image_tail": "x", "mode": "std"}, False),
            ({"image_tail": "x"}, False),
            ({"prompt": "x"}, False),
            ({}, False),
        ],
    )
    def test_the_file_alone_has_the_rules_between_images_and_mode(
        self, payload: dict[str, str], is_allowed: bool
    ) -> None:
        assert Draft202012Validator(load_schema("kirin_v1_6_i2v")).is_valid(payload) is is_allowed


class TestUnknownModel:
    def test_the_nearest_name_is_proposed(self) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            load_schema("kirin_v1_6_iv2")
        (problem,) = caught.value.problems
        assert problem.field == "model"
        assert "'kirin_v1_6_iv2'" in problem.value
        assert problem.remedy == "Did you mean 'kirin_v1_6_i2v'?"

    def test_without_a_near_name_the_known_ones_are_listed(self) -> None:
        with pytest.raises(KirinPayloadError, match=r"Known models: .*kirin_v1_6_i2v"):
            load_schema("zzzzzz")

    @pytest.mark.parametrize("model", ["", "../__init__", "kirin_v1_6_i2v.json", "KIRIN_V1_6_I2V", None, 5])
    def test_only_a_name_of_the_list_leads_to_a_file(self, model: object) -> None:
        with pytest.raises(KirinPayloadError):
            load_schema(model)  # type: ignore[arg-type]

    @pytest.mark.parametrize("model", [["kirin_v1_6_i2v"], {"model": "kirin_v1_6_i2v"}])
    def test_a_list_where_one_name_is_meant_is_refused_like_any_other(self, model: object) -> None:
        with pytest.raises(KirinPayloadError):
            load_schema(model)  # type: ignore[arg-type]

    def test_an_image_in_the_place_of_the_model_is_not_printed(self) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            load_schema("iVBORw0KGgo" * 10_000)
        assert len(str(caught.value)) < 1000
