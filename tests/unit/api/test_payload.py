"""What may be sent: every rule of kirin_v1_6_i2v at its boundary, all problems at once, and no secret shown."""

from __future__ import annotations

import base64
import copy
import io
import json
import pickle
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from PIL import Image

from airflow_provider_kirin.api.idempotency import payload_fingerprint
from airflow_provider_kirin.api.models import load_schema
from airflow_provider_kirin.api.payload import (
    PreparedPayload,
    check_static,
    inline_images,
    prepare_payload,
    refuse_secret,
)
from airflow_provider_kirin.api.requests import create_generation
from airflow_provider_kirin.exceptions import KirinError, KirinPayloadError, Problem

MODEL = "kirin_v1_6_i2v"
URL = "https://pictures.example/teapot.jpg"
#: What is filled in, so that the price of a step does not change when the gateway's defaults do.
DEFAULTS = {"mode": "std", "cfg_scale": 0.5, "duration": "5"}
NAN, INF = float("nan"), float("inf")


def sent(payload: Any = None, **fields: Any) -> dict[str, Any]:
    """The params of a payload that is right; ``image`` is filled in."""
    return prepare_payload({"image": URL, **fields} if payload is None else payload, MODEL).params


def refused(payload: Any = None, **fields: Any) -> tuple[Problem, ...]:
    """The problems of a payload that is wrong; ``image`` is filled in."""
    with pytest.raises(KirinPayloadError) as caught:
        prepare_payload({"image": URL, **fields} if payload is None else payload, MODEL)
    problems = caught.value.problems
    for problem in problems:
        assert all((problem.field, problem.value, problem.rule, problem.remedy))
        assert str(problem) in str(caught.value)
    return problems


def fields_of(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.field for problem in problems]


@pytest.fixture(scope="module")
def png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((320, 300), 60).convert("RGB").save(file, "PNG")
    return file.getvalue()


class TestWhatIsSent:
    def test_the_smallest_payload_with_its_defaults(self) -> None:
        assert sent() == {"image": URL, **DEFAULTS}

    def test_everything_at_once_and_nothing_else(self) -> None:
        payload = {
            "image": URL,
            "image_tail": URL,
            "prompt": "a teapot pours",
            "negative_prompt": "people",
            "mode": "pro",
            "cfg_scale": 0.7,
            "duration": "10",
            "watermark_info": {"enabled": False},
            "callback_url": "https://hooks.example/kirin?token=t",
            "external_task_id": "row-7",
            "callback": "https://hooks.example/kirin",
        }
        assert sent(payload) == payload

    def test_the_model_travels_beside_the_params(self) -> None:
        prepared = prepare_payload({"image": URL, "model": MODEL}, MODEL)
        assert prepared.model == MODEL
        assert "model" not in prepared.params

    def test_image_bytes_become_plain_base64(self, png: bytes) -> None:
        plain = base64.b64encode(png).decode()
        for image in (png, bytearray(png), plain, f"data:image/png;base64,{plain}"):
            assert sent(image=image)["image"] == plain

    def test_none_means_not_given(self) -> None:
        assert sent(prompt=None, mode=None, cfg_scale=None, image_tail=None, model=None, nonsense=None) == sent()

    def test_a_duration_becomes_a_string(self) -> None:
        for given_, wanted in ((5, "5"), (10, "10"), ("5", "5"), ("10", "10")):
            assert sent(duration=given_)["duration"] == wanted
            assert type(sent(duration=given_)["duration"]) is str

    def test_what_a_template_can_only_say_as_text_is_read(self) -> None:
        params = sent(cfg_scale=" 0.7 ", watermark_info={"enabled": "True"})
        assert params["cfg_scale"] == 0.7
        assert params["watermark_info"] == {"enabled": True}
        assert sent(watermark_info={"enabled": " false"})["watermark_info"] == {"enabled": False}

    def test_every_kind_of_mapping(self) -> None:
        payload = MappingProxyType({"image": URL, "watermark_info": MappingProxyType({"enabled": True})})
        params = sent(payload)
        assert params["watermark_info"] == {"enabled": True}
        json.dumps(params)

    def test_json_text_is_what_a_template_renders_to(self) -> None:
        payload = {"image": URL, "prompt": "麒麟", "duration": 10, "cfg_scale": None}
        assert sent(json.dumps(payload)) == sent(payload)

    def test_parameters_may_be_replaced(self, png: bytes) -> None:
        prepared = prepare_payload(
            {"image": "<described>", "prompt": "a"}, MODEL, replacing={"image": png, "external_task_id": "x"}
        )
        assert prepared.params["image"] == base64.b64encode(png).decode()
        assert (prepared.params["prompt"], prepared.params["external_task_id"]) == ("a", "x")

    def test_the_user_s_dict_is_left_alone(self) -> None:
        payload = {"image": URL, "duration": 5, "watermark_info": {"enabled": "true"}, "prompt": None}
        before = copy.deepcopy(payload)
        prepare_payload(payload, MODEL)
        assert payload == before

    def test_one_payload_does_not_change_the_next(self) -> None:
        sent(watermark_info={"enabled": True})["mode"] = "broken"
        assert sent() == {"image": URL, **DEFAULTS}


class TestPrompts:
    @pytest.mark.parametrize("length", [1, 2500])
    def test_from_1_to_2500_characters(self, length: int) -> None:
        assert sent(prompt="x" * length)["prompt"] == "x" * length

    @pytest.mark.parametrize(
        ("prompt", "has", "remedy"), [("", "it has 0", "Write more"), ("x" * 2501, "it has 2,501", "Shorten it by 1")]
    )
    def test_too_short_or_too_long_is_refused(self, prompt: str, has: str, remedy: str) -> None:
        (problem,) = refused(prompt=prompt)
        assert problem.field == "prompt"
        assert has in problem.rule
        assert problem.remedy == remedy

    def test_characters_are_counted_not_bytes(self) -> None:
        assert len(sent(prompt="麒" * 2500)["prompt"]) == 2500
        assert fields_of(refused(prompt="麒" * 2501)) == ["prompt"]

    @pytest.mark.parametrize(("value", "text"), [(42, "42"), (-7, "-7"), (3.5, "3.5"), (Decimal("0.10"), "0.10")])
    def test_a_number_counts_as_its_text(self, value: Any, text: str) -> None:
        """Native rendering makes a number of an order number; a prompt of digits is one all the same."""
        assert sent(prompt=value, external_task_id=value) == sent(prompt=text, external_task_id=text)

    @pytest.mark.parametrize("length", [0, 1, 2500])
    def test_a_negative_prompt_may_be_empty(self, length: int) -> None:
        assert sent(negative_prompt="x" * length)["negative_prompt"] == "x" * length

    def test_a_negative_prompt_has_at_most_2500_characters(self) -> None:
        (problem,) = refused(negative_prompt="x" * 2501)
        assert (problem.field, problem.remedy) == ("negative_prompt", "Shorten it by 1")

    @pytest.mark.parametrize(
        "value", [True, b"bytes", ["a prompt"], {"text": "a"}, NAN, pytest.param(10**5000, id="huge")]
    )
    def test_only_a_string_is_a_prompt(self, value: Any) -> None:
        (problem,) = refused(prompt=value)
        assert (problem.field, problem.rule) == ("prompt", "must be a string")


class TestCfgScale:
    @pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, "0", "1", "1.0", Decimal("0.3"), 1e-9])
    def test_from_0_to_1(self, value: Any) -> None:
        assert sent(cfg_scale=value)["cfg_scale"] == float(value)

    @pytest.mark.parametrize("value", [1.01, -0.01, 2, -1, "1.01", 10**15, Decimal("1.01")])
    def test_outside_of_0_to_1_is_refused(self, value: Any) -> None:
        (problem,) = refused(cfg_scale=value)
        assert (problem.field, problem.rule) == ("cfg_scale", "must be between 0 and 1")

    @pytest.mark.parametrize(
        "value",
        [
            NAN,
            INF,
            -INF,
            "nan",
            "inf",
            Decimal("NaN"),
            Decimal("Infinity"),
            Decimal("sNaN"),
            True,
            False,
            "",
            "high",
            "0,5",
            [0.5],
            {"value": 0.5},
            pytest.param(10**400, id="400 digits"),
            pytest.param(10**5000, id="huge"),
        ],
    )
    def test_only_a_number_is_a_cfg_scale(self, value: Any) -> None:
        (problem,) = refused(cfg_scale=value)
        assert problem.field == "cfg_scale"
        assert problem.rule in ("must be a number", "must be between 0 and 1")


class TestDuration:
    @pytest.mark.parametrize("value", ["7", 7, 0, -5, True, False, 5.5, "", "five", "5s", [5], {"seconds": 5}])
    def test_5_or_10_seconds_and_no_others(self, value: Any) -> None:
        (problem,) = refused(duration=value)
        assert (problem.field, problem.rule) == ("duration", "must be one of '5', '10'")

    def test_an_excessive_number(self) -> None:
        assert fields_of(refused(duration=10**5000)) == ["duration"]


class TestMode:
    @pytest.mark.parametrize("value", ["std", "pro"])
    def test_std_or_pro(self, value: str) -> None:
        assert sent(mode=value)["mode"] == value

    @pytest.mark.parametrize("value", ["", "PRO", "fast", 1, True, ["pro"]])
    def test_any_other_mode_is_refused(self, value: Any) -> None:
        (problem,) = refused(mode=value)
        assert (problem.field, problem.rule) == ("mode", "must be one of 'std', 'pro'")

    def test_a_typo_gets_a_suggestion(self) -> None:
        (problem,) = refused(mode="prro")
        assert problem.value == "'prro'"
        assert problem.remedy == "Did you mean 'pro'?"


class TestImages:
    def test_a_missing_image_is_one_problem(self) -> None:
        for payload in ({}, {"prompt": "a"}, {"image": None, "image_tail": None}):
            (problem,) = refused(payload)
            assert problem.field == "image"
            assert problem.value == "(missing)"
            assert problem.rule == "image or image_tail is required"
            assert "Base64" in problem.remedy

    @pytest.mark.parametrize("images", [{"image_tail": URL}, {"image": URL, "image_tail": URL}])
    def test_image_tail_goes_with_mode_pro_only(self, images: dict[str, str]) -> None:
        assert sent({**images, "mode": "pro"}) == {**images, **DEFAULTS, "mode": "pro"}
        for mode in ({}, {"mode": "std"}, {"mode": None}):
            (problem,) = refused({**images, **mode})
            assert problem.field == "mode"
            assert problem.value == "'std'"
            assert "pro" in problem.rule
            assert "leave image_tail out" in problem.remedy

    @pytest.mark.parametrize("value", [5, True, [URL], {"url": URL}, "", b""])
    def test_what_is_no_image(self, value: Any) -> None:
        assert fields_of(refused({"image": value})) == ["image"]
        assert fields_of(refused({"image_tail": value, "mode": "pro"})) == ["image_tail"]


class TestWatermark:
    @pytest.mark.parametrize("value", [True, False])
    def test_an_object_with_a_switch(self, value: bool) -> None:
        assert sent(watermark_info={"enabled": value})["watermark_info"] == {"enabled": value}

    @pytest.mark.parametrize(
        ("value", "field", "rule"),
        [
            ({}, "watermark_info.enabled", "is required"),
            ({"enabled": 1}, "watermark_info.enabled", "must be true or false"),
            ({"enabled": "yes"}, "watermark_info.enabled", "must be true or false"),
            ({"enabled": None}, "watermark_info.enabled", "must be true or false"),
            ({"enabled": True, "text": "x"}, "watermark_info.text", "is not a parameter of this model"),
            (True, "watermark_info", "must be an object"),
            ("true", "watermark_info", "must be an object"),
            # What the page's type column says, against each of its samples.
            ([{"enabled": True}], "watermark_info", "must be an object"),
        ],
    )
    def test_no_other_form(self, value: Any, field: str, rule: str) -> None:
        (problem,) = refused(watermark_info=value)
        assert (problem.field, problem.rule) == (field, rule)

    def test_a_misspelt_switch(self) -> None:
        problems = refused(watermark_info={"enable": True})
        assert sorted(fields_of(problems)) == ["watermark_info.enable", "watermark_info.enabled"]
        assert "Did you mean 'enabled'?" in [problem.remedy for problem in problems]


class TestCallbacks:
    @pytest.mark.parametrize("field", ["callback_url", "callback"])
    def test_urls_are_sent_as_they_are(self, field: str) -> None:
        url = "https://hooks.example:8443/kirin?token=t&x=%20"
        assert sent(**{field: url})[field] == url

    @pytest.mark.parametrize("field", ["callback_url", "callback"])
    @pytest.mark.parametrize(
        "value",
        ["", "hooks.example/kirin", "ftp://hooks.example", "https://", "https://a b/", "https://h/x\n", 5, ["x"]],
    )
    def test_an_unreachable_callback_url_is_refused(self, field: str, value: Any) -> None:
        assert set(fields_of(refused(**{field: value}))) == {field}

    @pytest.mark.parametrize(
        "url",
        [
            "hooks.example/kirin?token=SECRET",
            "ftp://hooks.example/kirin?token=SECRET",
            "ftp://user:SECRET@hooks.example/kirin",
            "https:///kirin?token=SECRET",
            "http://[::1/kirin?token=SECRET",
            "https://a b/?token=SECRET",
            "hooks.example/kirin?token=SECRET" + "x" * 500,
        ],
    )
    def test_the_query_of_a_wrong_one_is_not_shown(self, url: str) -> None:
        (problem,) = refused(callback_url=url)
        assert "SECRET" not in str(problem)


class TestExternalTaskId:
    def test_any_text(self) -> None:
        assert sent(external_task_id="row 7/日本")["external_task_id"] == "row 7/日本"

    @pytest.mark.parametrize("value", ["", True, ["row-7"]])
    def test_anything_but_a_string_is_refused(self, value: Any) -> None:
        assert fields_of(refused(external_task_id=value)) == ["external_task_id"]


class TestUnknownParameters:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("promt", "prompt"),
            ("prompts", "prompt"),
            ("image_url", "image"),
            ("cfgscale", "cfg_scale"),
            ("negativeprompt", "negative_prompt"),
            ("callbackurl", "callback_url"),
            ("external_id", "external_task_id"),
            ("durations", "duration"),
        ],
    )
    def test_the_nearest_one_is_proposed(self, name: str, meant: str) -> None:
        (problem,) = refused(**{name: "x"})
        assert (problem.field, problem.rule) == (name, "is not a parameter of this model")
        assert problem.remedy == f"Did you mean {meant!r}?"

    def test_without_a_near_one_all_are_listed(self) -> None:
        (problem,) = refused(zzz=1)
        assert all(name in problem.remedy for name in ("image", "prompt", "duration", "callback_url"))

    def test_of_other_models(self) -> None:
        assert fields_of(refused(aspect_ratio="16:9", camera_control={})) == ["aspect_ratio", "camera_control"]

    def test_the_value_is_not_shown(self) -> None:
        problems = refused(api_key="sa-SECRET", password={"x": "SECRET"}, authorization=["SECRET"])
        assert len(problems) == 3
        assert "SECRET" not in str(problems)

    def test_an_envelope_that_was_pasted_in(self) -> None:
        problems = refused({"model": MODEL, "input": [{"params": {"image": URL, "prompt": "SECRET"}}]})
        by_field = {problem.field: problem for problem in problems}
        assert "Pass the parameters themselves" in by_field["input"].remedy
        assert "SECRET" not in str(problems)


class TestModel:
    def test_another_model_in_the_payload_is_a_conflict(self) -> None:
        (problem,) = refused(model="kirin_v2_6_i2v")
        assert (problem.field, problem.value) == ("model", "'kirin_v2_6_i2v'")
        assert MODEL in problem.rule

    @pytest.mark.parametrize("model", ["kirin_v9_t2v", "", None, "x" * 100_000])
    def test_an_unknown_one(self, model: Any) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload({"image": URL}, model)
        assert fields_of(caught.value.problems) == ["model"]
        assert len(str(caught.value)) < 1000


class TestWhatIsNoPayload:
    @pytest.mark.parametrize(
        "payload",
        [
            None,
            5,
            True,
            [],
            [{"image": URL}],
            b"{}",
            "",
            "a prompt",
            "[]",
            "null",
            '"text"',
            "{'image': 'x'}",
            {1: 2},
            {None: URL},
            object(),
            '{"image": "' + URL,
            "NaN",
        ],
    )
    def test_is_refused_with_an_example(self, payload: Any) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload(payload, MODEL)
        (problem,) = caught.value.problems
        assert problem.field == "payload"
        assert "mapping" in problem.rule
        assert '{"image": ..., "prompt": ...}' in problem.remedy

    @pytest.mark.parametrize("text", ["[" * 100_000, '{"prompt":' * 100_000, '{"prompt":' + "[" * 100_000])
    def test_json_text_nested_too_deeply(self, text: str) -> None:
        with pytest.raises(KirinPayloadError):
            prepare_payload(text, MODEL)

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "1e999", "1" * 400])
    def test_json_text_with_numbers_that_are_none(self, constant: str) -> None:
        assert fields_of(refused('{"image": "%s", "cfg_scale": %s}' % (URL, constant))) == ["cfg_scale"]  # noqa: UP031


class TestAllProblemsAtOnce:
    PAYLOAD = {  # noqa: RUF012
        "zzz": 1,
        "callback": "nowhere",
        "watermark_info": {"enabled": "perhaps"},
        "duration": 7,
        "cfg_scale": 2,
        "mode": "fast",
        "negative_prompt": "x" * 2501,
        "prompt": "",
        "image": [],
        "model": "kirin_v2",
    }

    def test_in_the_order_of_the_schema(self) -> None:
        assert fields_of(refused(self.PAYLOAD)) == [
            "model",
            "image",
            "prompt",
            "negative_prompt",
            "mode",
            "cfg_scale",
            "duration",
            "watermark_info.enabled",
            "callback",
            "zzz",
        ]

    def test_in_one_error_that_says_that_nothing_was_spent(self) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload(self.PAYLOAD, MODEL)
        error = caught.value
        assert isinstance(error, ValueError)
        assert isinstance(error, KirinError)
        assert not error.retryable
        assert error.model == MODEL
        lines = str(error).splitlines()
        assert lines[0] == f"The payload for {MODEL} has 10 problems; nothing was sent, nothing was spent:"
        assert len(lines) == 11
        assert all(line.startswith("  - ") and line.endswith(".") for line in lines[1:])

    def test_one_problem_is_one_problem(self) -> None:
        with pytest.raises(KirinPayloadError, match="has 1 problem;"):
            prepare_payload({}, MODEL)

    def test_no_problem_is_reported_twice(self) -> None:
        problems = refused({**self.PAYLOAD, "image_tail": URL})
        assert len(set(problems)) == len(problems)

    def test_the_error_survives_pickling_and_copying(self) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload(self.PAYLOAD, MODEL)
        for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value), copy.deepcopy(caught.value)):
            assert type(again) is KirinPayloadError
            assert again.problems == caught.value.problems
            assert again.model == MODEL
            assert str(again) == str(caught.value)


class TestMegabytes:
    """13 MB of Base64 in any place: never printed, and judged in a moment."""

    TEXT = "QUJD" * 3_250_000

    @pytest.mark.parametrize(
        "payload",
        [
            {"image": TEXT},
            {"image": "iVBORw0KGgo" + TEXT},
            {"image": URL, "prompt": TEXT},
            {"image": URL, "mode": TEXT},
            {"image": URL, "duration": TEXT},
            {"image": URL, "cfg_scale": TEXT},
            {"image": URL, "callback_url": TEXT},
            {"image": URL, "callback_url": "https://h/ " + TEXT},
            {"image": URL, "watermark_info": TEXT},
            {"image": URL, "watermark_info": {"enabled": TEXT}},
            {"image": URL, "imgae": TEXT},
            {"image": URL, TEXT: "x"},
            {"image": URL, "model": TEXT},
            TEXT,
            json.dumps(TEXT),
            [TEXT],
        ],
        ids=lambda payload: (
            next((k[:20] for k, v in payload.items() if v != URL), "") if isinstance(payload, dict) else ""
        ),
    )
    def test_are_never_printed(self, payload: Any) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload(payload, MODEL)
        assert len(str(caught.value)) < 2000
        assert len(repr(caught.value)) < 3000
        assert "QUJD" * 30 not in str(caught.value)


class TestLogLine:
    def test_shows_neither_image_bytes_nor_signed_queries(self, png: bytes) -> None:
        prepared = prepare_payload(
            {
                "image": png,
                "image_tail": "https://u:SECRET@pictures.example/t.jpg?sig=SECRET",
                "mode": "pro",
                "prompt": "a\nteapot",
                "callback_url": "https://h.example/x?token=SECRET",
            },
            MODEL,
        )
        line = prepared.describe()
        assert "SECRET" not in line
        assert prepared.params["image"][:40] not in line
        assert len(line) < 1000
        assert "\n" not in line
        assert "mode='pro'" in line
        assert "320 x 300" in line

    def test_the_repr_shows_no_params(self, png: bytes) -> None:
        prepared = prepare_payload({"image": png, "prompt": "SECRET"}, MODEL)
        assert "SECRET" not in repr(prepared)
        assert prepared.params["image"][:40] not in repr(prepared)
        assert MODEL in repr(prepared)


def is_template(value: Any) -> bool:
    return (isinstance(value, str) and "{{" in value) or isinstance(value, frozenset)


class TestWhenTheDagIsParsed:
    """A frozenset stands for a reference to another task's result here."""

    LATER = frozenset({"later"})

    def check(self, payload: Any, model: Any = MODEL) -> None:
        check_static(payload, model, is_dynamic=is_template)

    def refused(self, payload: Any) -> list[str]:
        with pytest.raises(KirinPayloadError) as caught:
            self.check(payload)
        return fields_of(caught.value.problems)

    @pytest.mark.parametrize("payload", ["{{ params.payload }}", LATER])
    def test_of_a_payload_that_is_a_template_nothing_is_known(self, payload: Any) -> None:
        self.check(payload)

    @pytest.mark.parametrize("model", ["{{ params.model }}", LATER])
    def test_without_a_model_there_are_no_rules(self, model: Any) -> None:
        self.check({"nonsense": 1}, model)

    def test_a_payload_without_templates_is_judged_whole(self) -> None:
        self.check({"image": URL})
        assert self.refused({"image": URL, "promt": "x", "duration": 7}) == ["duration", "promt"]
        assert self.refused({}) == ["image"]
        assert self.refused(5) == ["payload"]

    @pytest.mark.parametrize("value", ["{{ x }}", LATER])
    @pytest.mark.parametrize(
        "field",
        [
            "prompt",
            "negative_prompt",
            "cfg_scale",
            "duration",
            "mode",
            "callback_url",
            "external_task_id",
            "callback",
            "watermark_info",
            "model",
        ],
    )
    def test_a_template_in_any_field_is_judged_later(self, field: str, value: Any) -> None:
        self.check({"image": URL, field: value})

    def test_a_template_is_not_judged_by_its_own_length(self) -> None:
        self.check({"image": URL, "prompt": "{{ x }}" + " " * 3000})

    @pytest.mark.parametrize("value", ["{{ x }}", LATER])
    def test_a_template_inside_a_mapping(self, value: Any) -> None:
        self.check({"image": URL, "watermark_info": {"enabled": value}})

    @pytest.mark.parametrize("value", ["{{ x }}", LATER])
    def test_what_stands_beside_a_template_is_judged_now(self, value: Any) -> None:
        assert self.refused({"image": URL, "prompt": value, "cfg_scale": 2, "promt": "x"}) == ["cfg_scale", "promt"]
        assert self.refused({"image": value, "duration": 7}) == ["duration"]
        assert self.refused({"image": URL, "watermark_info": {"enabled": value, "x": 1}}) == ["watermark_info.x"]

    @pytest.mark.parametrize("value", ["{{ x }}", LATER])
    def test_a_template_counts_as_an_image(self, value: Any) -> None:
        self.check({"image": value})
        self.check({"image_tail": value, "mode": "pro"})
        self.check({"image_tail": value, "mode": "{{ mode }}"})
        assert self.refused({"image_tail": URL, "mode": "std"}) == ["mode"]

    def test_no_file_is_read(self) -> None:
        self.check({"image": "/nowhere/at/all.png"})
        self.check({"image": "s3://bucket/key.png"})

    def test_what_no_image_can_be_is_reported_now(self) -> None:
        assert self.refused({"image": 5}) == ["image"]
        assert self.refused({"image": ""}) == ["image"]

    def test_an_unknown_model_is_reported_now(self) -> None:
        with pytest.raises(KirinPayloadError):
            self.check({"image": URL}, "kirin_v1_6_iv2")

    def test_defaults_are_judged_with_the_rest(self) -> None:
        assert self.refused({"image": URL, "image_tail": URL}) == ["mode"]

    def test_json_text_is_judged_too(self) -> None:
        assert self.refused(json.dumps({"image": URL, "promt": 1})) == ["promt"]


class TestInlineImages:
    def test_bytes_and_base64_are_found_in_any_place(self, png: bytes) -> None:
        text = base64.b64encode(png).decode()
        payload = {"image": png, "image_list": [{"image": text}, {"imgae": png}], "prompt": png, "deep": {"a": (text,)}}
        assert inline_images(payload) == {
            ("image",): png,
            ("image_list", 0, "image"): text,
            ("image_list", 1, "imgae"): png,
            ("prompt",): png,
            ("deep", "a", 0): text,
        }

    @pytest.mark.parametrize("payload", [None, "text", [], {}, {"image": URL}, {"image": "/a/path.png"}, {"image": 5}])
    def test_anything_else_is_not_an_inline_image(self, payload: Any) -> None:
        assert inline_images(payload) == {}


class TestNestedImages:
    """Images in lists, and in undocumented fields."""

    MULTI = "kirin_v1_6_multi_i2v"

    def many(self, *images: Any, **more: Any) -> PreparedPayload:
        return prepare_payload({"image_list": [{"image": each} for each in images], "prompt": "p", **more}, self.MULTI)

    def test_each_is_read_and_sent_as_base64(self, png: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png)
        prepared = self.many(png, tmp_path / "a.png", URL)
        text = base64.b64encode(png).decode()
        assert prepared.params["image_list"] == [{"image": text}, {"image": text}, {"image": URL}]
        assert list(prepared.images) == ["image_list.0.image", "image_list.1.image", "image_list.2.image"]

    def test_each_is_checked_and_named_by_its_place(self, png: bytes) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            self.many(png, png[: len(png) // 2], "/nowhere.png", b"GIF89a" + bytes(99))
        assert fields_of(caught.value.problems) == ["image_list.1.image", "image_list.2.image", "image_list.3.image"]

    def test_the_log_line_shows_each_and_none_of_their_bytes(self, png: bytes) -> None:
        line = self.many(png, "https://h.example/a.png?sig=SECRET").describe()
        assert "image_list.0.image=PNG, 320 x 300 px" in line
        assert "SECRET" not in line and base64.b64encode(png).decode()[:40] not in line

    def test_they_count_by_their_bytes(self, png: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png)
        other = io.BytesIO()
        Image.new("RGB", (320, 300), "blue").save(other, "PNG")
        assert payload_fingerprint(self.many(png, URL)) == payload_fingerprint(self.many(tmp_path / "a.png", URL))
        assert payload_fingerprint(self.many(png, URL)) != payload_fingerprint(self.many(other.getvalue(), URL))
        assert payload_fingerprint(self.many(png, URL)) != payload_fingerprint(self.many(URL, png))

    def test_a_list_may_come_as_a_tuple_or_as_json_text(self) -> None:
        items = [{"image": URL}]
        for given_ in (tuple(items), json.dumps(items)):
            assert prepare_payload({"image_list": given_, "prompt": "p"}, self.MULTI).params["image_list"] == items

    @pytest.mark.parametrize("text", ["[", '{"image": 1}', "5", "[" * 100_000, "[" * 40 + "]" * 40])
    def test_other_text_is_no_list(self, text: str) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload({"image_list": text, "prompt": "p"}, self.MULTI)
        assert fields_of(caught.value.problems) == ["image_list"]

    def test_bare_images_in_the_list_get_a_remedy(self, png: bytes) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            prepare_payload({"image_list": [png], "prompt": "p"}, self.MULTI)
        (problem,) = caught.value.problems
        assert (problem.field, problem.value) == ("image_list.0", f"<{len(png):,} bytes>")
        assert problem.remedy == 'Pass each image as {"image": ...}'

    def test_a_place_in_the_list_may_be_replaced(self, png: bytes) -> None:
        payload = {"image_list": [{"image": URL}, {"image": "<described>"}], "prompt": "p"}
        prepared = prepare_payload(
            payload, self.MULTI, replacing={("image_list", 1, "image"): png, "prompt": "q", ("no", 5): 1}
        )
        assert prepared.params["image_list"][1] == {"image": base64.b64encode(png).decode()}
        assert prepared.params["prompt"] == "q"
        assert payload["image_list"][1] == {"image": "<described>"}  # type: ignore[index]

    def test_when_parsed_only_their_form_is_judged(self) -> None:
        payload = {"image_list": [{"image": "/nowhere.png"}, {"image": 5}, {"image": "{{ x }}"}], "prompt": "p"}
        with pytest.raises(KirinPayloadError) as caught:
            check_static(payload, self.MULTI, is_dynamic=is_template)
        assert fields_of(caught.value.problems) == ["image_list.1.image"]


class TestUnknownModel:
    def unchecked(self, **payload: Any) -> PreparedPayload:
        return prepare_payload(payload, "kirin_v9_i2v", allow_unknown_model=True)

    def test_is_refused_unless_it_is_allowed(self) -> None:
        for check in (
            lambda: prepare_payload({}, "kirin_v9_i2v"),
            lambda: check_static({}, "kirin_v9_i2v", is_dynamic=is_template),
        ):
            with pytest.raises(KirinPayloadError, match="allow_unknown_model=True"):
                check()
        check_static({"anything": 1}, "kirin_v9_i2v", is_dynamic=is_template, allow_unknown_model=True)

    def test_everything_is_sent_unchanged_and_the_log_says_so(self) -> None:
        prepared = self.unchecked(prompt="", seconds=7, deep={"a": [1, None, {"b": True}]})
        assert prepared.params == {"prompt": "", "seconds": 7, "deep": {"a": [1, None, {"b": True}]}}
        (notice,) = prepared.warnings
        assert "kirin_v9_i2v is not a model that this provider knows: none of its parameters were checked" in notice

    def test_images_in_the_usual_fields_are_prepared(self, png: bytes, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(png)
        text = base64.b64encode(png).decode()
        prepared = self.unchecked(
            image=str(tmp_path / "a.png"),
            image_tail=tmp_path / "a.png",
            image_list=[f"data:image/png;base64,{text}", {"image": png}, {"image_url": URL}],
        )
        assert prepared.params == {
            "image": text,
            "image_tail": text,
            "image_list": [text, {"image": text}, {"image_url": URL}],
        }

    @pytest.mark.parametrize("value", ["asset-17", "s3-like://thing", 5, {"id": 3}, "", None, ["a"]])
    def test_what_does_not_look_like_an_image_is_left_alone(self, value: Any) -> None:
        assert self.unchecked(image=value).params == ({} if value is None else {"image": value})

    def test_data_that_is_not_an_image_is_reported(self) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            self.unchecked(image="/nowhere/at/all.png")
        assert fields_of(caught.value.problems) == ["image"]

    @pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), NAN, INF, {(1, 2): 3}, [[{"a": b"x"}]]])
    def test_what_is_not_json_serializable_is_reported(self, value: Any) -> None:
        with pytest.raises(KirinPayloadError) as caught:
            self.unchecked(thing=value)
        (problem,) = caught.value.problems
        assert problem.field.startswith("thing")
        assert problem.rule == "is not JSON serializable"

    def test_a_decimal_is_reported_and_not_rounded(self) -> None:
        with pytest.raises(KirinPayloadError):
            self.unchecked(thing=Decimal("0.1"))

    def test_numbers_as_names_are_written_as_json_writes_them(self) -> None:
        prepared = self.unchecked(thing={1: "a", "b": 2})
        assert prepared.params == {"thing": {"1": "a", "b": 2}}
        assert payload_fingerprint(prepared)

    def test_excessive_nesting_is_reported(self) -> None:
        deep: Any = 1
        for _ in range(1000):
            deep = {"a": [deep]}
        with pytest.raises(KirinPayloadError, match="levels deep"):
            self.unchecked(thing=deep)

    def test_a_known_model_is_checked_all_the_same(self) -> None:
        with pytest.raises(KirinPayloadError):
            prepare_payload({}, MODEL, allow_unknown_model=True)

    def test_a_mode_is_no_default_of_it(self) -> None:
        assert len(self.unchecked().warnings) == 1


class TestASecretIsNotSent:
    KEY = "sk-7f3a9c51d2e84b06"

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"prompt": f"The key is {KEY}."}, "prompt"),
            ({"image_tail": f"https://h.example/a.png?key={KEY}", "mode": "pro"}, "image_tail"),
            ({"external_task_id": KEY}, "external_task_id"),
        ],
    )
    def test_in_any_place(self, fields: dict[str, Any], named: str) -> None:
        prepared = prepare_payload({"image": URL, **fields}, MODEL)
        with pytest.raises(KirinPayloadError) as caught:
            refuse_secret(prepared, self.KEY)
        assert [problem.field for problem in caught.value.problems] == [named]
        assert self.KEY not in str(caught.value) and "nothing was sent" in str(caught.value)

    def test_the_bytes_of_an_image_may_spell_anything(self, png: bytes) -> None:
        prepared = prepare_payload({"image": png, "prompt": "p"}, MODEL)
        refuse_secret(prepared, prepared.params["image"][100:120])

    def test_a_key_that_is_a_word_is_no_secret(self) -> None:
        refuse_secret(prepare_payload({"image": URL, "prompt": "A test."}, MODEL), "test")


BAD = object()
#: field -> (what is given, what is sent or BAD): the rules a second time, by example.
EXAMPLES: dict[str, list[tuple[Any, Any]]] = {
    "image": [(URL, URL), ("http://h/a.png", "http://h/a.png"), (5, BAD), ("", BAD), ([URL], BAD)],
    "image_tail": [(URL, URL), (False, BAD), ({}, BAD)],
    "prompt": [("a", "a"), ("x" * 2500, "x" * 2500), ("", BAD), ("x" * 2501, BAD), (1, "1")],
    "negative_prompt": [("", ""), ("x" * 2501, BAD), ([], BAD)],
    "mode": [("std", "std"), ("pro", "pro"), ("turbo", BAD), (1, BAD)],
    "cfg_scale": [(0, 0), (1, 1), ("0.25", 0.25), (Decimal("0.75"), 0.75), (1.01, BAD), (NAN, BAD), (True, BAD)],
    "duration": [("5", "5"), (10, "10"), (5, "5"), (7, BAD), (True, BAD), ("7", BAD)],
    "watermark_info": [({"enabled": True}, {"enabled": True}), ({"enabled": "false"}, {"enabled": False}), ([], BAD)],
    "callback_url": [("https://h/x?y=z", "https://h/x?y=z"), ("h/x", BAD), (5, BAD)],
    "external_task_id": [("row-1", "row-1"), ("", BAD), (7, "7")],
    "callback": [("http://h", "http://h"), ("", BAD)],
    "unknown": [(1, BAD)],
}


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from([*cases, (None, None)]) for name, cases in EXAMPLES.items()}
    )
)
def test_exactly_the_broken_rules_are_reported_and_exactly_the_rest_is_sent(chosen: dict[str, tuple[Any, Any]]) -> None:
    given_ = {name: case[0] for name, case in chosen.items()}
    expected = {name: case[1] for name, case in chosen.items() if case[0] is not None}
    bad = {name for name, value in expected.items() if value is BAD}
    if "image" not in expected and "image_tail" not in expected:
        bad.add("image")
    if "image_tail" in expected and expected.get("mode", "std") != "pro":
        bad.add("mode")
    if bad:
        reported = fields_of(refused(given_))
        assert set(reported) == bad
        assert reported == sorted(reported, key=[*EXAMPLES].index)
    else:
        assert sent(given_) == DEFAULTS | expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.integers(10**308, 10**310),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from([name for name in EXAMPLES if "image" not in name]) | st.text(max_size=8), json_values
    ),
    st.booleans(),
)
@example({"cfg_scale": 10**400}, False)
def test_any_payload_is_sent_as_the_schema_wants_it_or_refused(payload: dict[str, Any], as_text: bool) -> None:
    whole: Any = {**payload, "image": URL}
    refusal = None
    try:
        prepared = prepare_payload(json.dumps(whole) if as_text else whole, MODEL)
    except KirinPayloadError as error:
        refusal = error
    if refusal:
        assert refusal.problems
        assert len(str(refusal)) < 500 * (1 + len(payload))
        return
    assert isinstance(prepared, PreparedPayload)
    Draft202012Validator(load_schema(MODEL)).validate(prepared.params)
    body = create_generation("https://h/model", prepared.model, prepared.params).body
    assert json.loads(body or b"") == {"model": MODEL, "input": [{"params": prepared.params}]}


@settings(max_examples=200)
@given(st.recursive(json_values, lambda inner: st.tuples(inner), max_leaves=2) | st.binary() | st.text())
def test_anything_in_the_place_of_a_payload_is_refused_and_nothing_else_happens(payload: Any) -> None:
    for check in (
        lambda: prepare_payload(payload, MODEL),
        lambda: check_static(payload, MODEL, is_dynamic=lambda value: False),
    ):
        with pytest.raises(KirinPayloadError):
            check()


def test_what_to_do_with_images_is_one_of_two() -> None:
    payload = {"image": "https://h.example/a.png", "prompt": "p"}
    with pytest.raises(ValueError, match="fit_images = 'yes' must be"):
        prepare_payload(payload, "kirin_v1_6_i2v", fit_images="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("own", ["None", "[A] 17", "a\N{NO-BREAK SPACE}b", "x" * 513, ".."])
def test_an_id_that_cannot_be_looked_up_is_refused_under_the_users_name_for_it(own: str) -> None:
    payload = {"image": "https://h.example/a.png", "external_task_id": own}
    with pytest.raises(KirinPayloadError) as caught:
        prepare_payload(payload, "kirin_v1_6_i2v")
    (problem,) = caught.value.problems
    assert problem.field == "external_task_id"
    with pytest.raises(KirinPayloadError, match="external_task_id"):
        check_static(payload, "kirin_v1_6_i2v", is_dynamic=lambda value: False)


def test_half_a_character_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(KirinPayloadError, match="in the middle of a character"):
        prepare_payload({"image": "https://h.example/a.png", "prompt": "a \ud83d"}, "kirin_v1_6_i2v")


def test_an_image_in_an_undocumented_field_is_not_shown() -> None:
    content = "/9j/" + "A" * 400
    prepared = prepare_payload(
        {"image": "https://h.example/a.png", "first_words": content}, "some_model", allow_unknown_model=True
    )
    assert content[:20] not in prepared.describe()
