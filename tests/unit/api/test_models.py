"""The schema files say what the API's page says; these facts are written down here a second time, by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from airflow_provider_kirin.api.models import DEFAULT_MODEL, find_schema, load_schema, model_names
from airflow_provider_kirin.exceptions import KirinPayloadError

ALL_MODELS = model_names()


def test_the_default_model_is_kirin_v1_6_i2v() -> None:
    assert DEFAULT_MODEL == "kirin_v1_6_i2v"
    assert DEFAULT_MODEL in ALL_MODELS
    assert list(ALL_MODELS) == sorted(ALL_MODELS)


@pytest.fixture(scope="module")
def registry() -> Registry[Any]:
    return Registry().with_resource("common.json", DRAFT202012.create_resource(contents("common.json")))


class TestCommonParts:
    """`common.json`: tools that know nothing of our loader read the files in the same way."""

    #: What a model's file may override next to a `$ref`: descriptions and defaults, not limits.
    WORDS = frozenset({"description", "default", "x-default", "x-source", "x-rule", "x-remedy", "x-field"})

    @pytest.mark.parametrize("name", [*(f"{model}.json" for model in ALL_MODELS), "common.json"])
    def test_every_reference_leads_somewhere_and_no_limit_is_written_again(self, name: str, registry: Any) -> None:
        Draft202012Validator.check_schema(contents(name))
        for part in references(contents(name)):
            common = registry.resolver("common.json").lookup(part["$ref"]).contents
            restated = common.keys() & part.keys()
            assert restated - {"$ref"} <= self.WORDS

    def test_every_part_is_used_by_two_models_or_more(self) -> None:
        uses = [part["$ref"] for model in ALL_MODELS for part in references(contents(f"{model}.json"))]
        inner = [part["$ref"] for part in references(contents("common.json"))]
        for name in contents("common.json")["$defs"]:
            assert uses.count(f"common.json#/$defs/{name}") >= 2 or f"#/$defs/{name}" in inner, name

    @pytest.mark.parametrize("model", ALL_MODELS)
    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"image": "x", "image_tail": "x", "mode": "std", "duration": 5},
            {"prompt": "x" * 2501, "negative_prompt": 5, "cfg_scale": 2, "sound": "loud"},
            {"image_list": [{"image": 1}] * 9, "element_list": [{}] * 8, "watermark_info": {}},
            {"multi_shot": True, "multi_prompt": [{"prompt": "x" * 513}], "aspect_ratio": "4:3"},
        ],
    )
    def test_a_validator_finds_the_same_with_and_without_references(
        self, model: str, payload: dict[str, Any], registry: Any
    ) -> None:
        as_written = Draft202012Validator(contents(f"{model}.json"), registry=registry)
        resolved = Draft202012Validator(load_schema(model))
        assert messages(as_written, payload) == messages(resolved, payload)


def contents(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files("airflow_provider_kirin.api.models").joinpath(name).read_text("utf-8"))
    return found


def references(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part
        for inner in part.values():
            yield from references(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references(inner)


def messages(validator: Draft202012Validator, payload: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((error.json_path, error.message) for error in validator.iter_errors(payload))


@pytest.mark.parametrize("model", ALL_MODELS)
class TestEverySchemaFile:
    def test_is_valid_draft_2020_12(self, model: str) -> None:
        schema = load_schema(model)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)

    def test_names_its_model_and_refuses_unknown_parameters_where_all_are_known(self, model: str) -> None:
        schema = load_schema(model)
        assert schema["title"] == model
        assert schema["properties"]["model"]["const"] == model
        assert schema["x-confidence"] in ("documented", "partly", "unknown")
        assert schema["additionalProperties"] is (schema["x-confidence"] != "documented")

    def test_is_made_of_keywords_that_the_client_has_words_for(self, model: str) -> None:
        known = {
            *("$schema", "title", "description", "type", "properties", "required", "additionalProperties", "allOf"),
            *("const", "enum", "default", "minLength", "maxLength", "minimum", "maximum", "items", "minItems"),
            *(
                "maxItems",
                "if",
                "then",
                "not",
                "anyOf",
                "contains",
                "x-image",
                "x-url",
                "x-sum",
                "x-count",
                "x-nonZero",
            ),
            *(
                "x-task",
                "x-confidence",
                "x-output",
                "x-notes",
                "x-source",
                "x-default",
                "x-field",
                "x-rule",
                "x-remedy",
            ),
        }

        def keywords(schema: dict[str, object]) -> set[str]:
            found = set(schema)
            for name, inner in schema.items():
                if name in ("properties",):
                    found |= set().union(*(keywords(rules) for rules in inner.values()))  # type: ignore[attr-defined]
                elif name in ("items", "if", "then", "not", "contains"):
                    found |= keywords(inner)  # type: ignore[arg-type]
                elif name in ("allOf", "anyOf"):
                    found |= set().union(*(keywords(rules) for rules in inner))  # type: ignore[attr-defined]
            return found

        assert keywords(load_schema(model)) <= known

    def test_explains_the_rules_between_fields(self, model: str) -> None:
        for rule in load_schema(model).get("allOf", []):
            text = str(rule)
            assert "'x-rule'" in text and "'x-remedy'" in text

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
        assert problem.remedy == "Did you mean 'kirin_v1_6_i2v'? To send it unchecked, set allow_unknown_model=True"

    @pytest.mark.parametrize(
        "name", ["kling_v3_omni_video", "seacloud__kirin_v3_omni_video", "seacloud__kling_v3_omni_video"]
    )
    def test_the_names_of_command_line_clients_are_understood(self, name: str) -> None:
        with pytest.raises(KirinPayloadError, match="Did you mean 'kirin_v3_omni_video'"):
            load_schema(name)

    @pytest.mark.parametrize(
        ("name", "does"),
        [("kirin_image_omni", "makes images"), ("kling_image_o1", "makes images"), ("kirin_identify_face", "faces")],
    )
    def test_models_that_make_no_video_are_named_as_such(self, name: str, does: str) -> None:
        with pytest.raises(KirinPayloadError, match=f"{does}; this provider makes videos"):
            load_schema(name)

    def test_one_schema_costs_its_file_and_the_common_one(self) -> None:
        code = (
            "import sys\nopened = []\n"
            "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)\n"
            "from airflow_provider_kirin.api.models import load_schema\n"
            "load_schema('kirin_v3_i2v')\n"
            "print([name.rpartition('/')[2] for name in opened if name.endswith('.json')])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "['kirin_v3_i2v.json', 'common.json']"

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


class TestAllowUnknownModel:
    """`allow_unknown_model=True`."""

    def test_a_model_without_a_file_allows_everything(self) -> None:
        schema = find_schema("kirin_v9_t2v", allow_unknown=True)
        assert schema["additionalProperties"] is True
        assert list(schema["properties"]) == ["model"]

    def test_a_model_with_a_file_keeps_its_rules(self) -> None:
        assert find_schema("kirin_v1_6_i2v", allow_unknown=True) is load_schema("kirin_v1_6_i2v")

    @pytest.mark.parametrize("model", ["", None, 5, ["kirin_v9"], "a b", "x" * 500, "../kirin", "kirin\n"])
    def test_what_can_be_no_id_is_refused_all_the_same(self, model: object) -> None:
        with pytest.raises(KirinPayloadError, match="is not the id of a model"):
            find_schema(model, allow_unknown=True)
