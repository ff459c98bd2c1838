"""The whole Kirin family: each documented limit of each model is refused in a readable error, before it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kirin.api.models import load_schema, model_names
from airflow_provider_kirin.api.payload import check_static, prepare_payload
from airflow_provider_kirin.exceptions import KirinPayloadError, Problem
from tests.support.payloads import BETWEEN, LEAST, MULTI, PICTURE, SHOTS, limits, with_bad

MODELS = model_names()


def refused(payload: Any, model: str) -> tuple[Problem, ...]:
    with pytest.raises(KirinPayloadError) as caught:
        prepare_payload(payload, model)
    assert "nothing was spent" in str(caught.value)
    return caught.value.problems


def test_there_is_a_payload_for_every_model() -> None:
    assert sorted(LEAST) == list(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_the_least_payload_is_taken_when_parsed_and_when_run(model: str) -> None:
    check_static(LEAST[model], model, is_dynamic=lambda value: False)
    sent = prepare_payload(LEAST[model], model).params
    assert LEAST[model].items() <= sent.items()


@pytest.mark.parametrize("model", MODELS)
def test_a_payload_without_a_required_parameter_is_rejected(model: str) -> None:
    for name in LEAST[model]:
        problems = refused({key: value for key, value in LEAST[model].items() if key != name}, model)
        assert name in [problem.field for problem in problems]
        assert {problem.value for problem in problems} == {"(missing)"}


@pytest.mark.parametrize("model", MODELS)
def test_each_limit_has_field_value_rule_and_remedy(model: str) -> None:
    tried = 0
    for name, place, value in limits(model):
        problems = refused(with_bad(model, name, place, value), model)
        concrete = [part if part != "*" else 0 for part in place]
        field = ".".join(map(str, [name, *concrete]))
        assert any(problem.field.startswith(field) or field.startswith(problem.field) for problem in problems), field
        for problem in problems:
            assert all((problem.field, problem.value, problem.rule, problem.remedy))
            assert len(str(problem)) < 500
            assert "breaks the rule" not in problem.rule, problem
        tried += 1
    assert tried >= 5


@pytest.mark.parametrize(("model", "added", "fields"), BETWEEN, ids=lambda value: str(value)[:60])
def test_rules_between_fields(model: str, added: dict[str, Any], fields: list[str]) -> None:
    payload = {**LEAST[model], **added}
    if not fields:
        prepare_payload(payload, model)
        return
    problems = refused(payload, model)
    assert [problem.field for problem in problems] == fields
    assert all(problem.rule and problem.remedy and "breaks the rule" not in problem.rule for problem in problems)


@pytest.mark.parametrize(
    ("model", "added", "field"),
    # A template in the place of an image counts as an image, so that a rule about it is judged when parsed.
    [(model, added, told[0].partition(".")[0]) for model, added, told in BETWEEN if told and told[0] != "static_mask"],
    ids=lambda value: str(value)[:60],
)
def test_what_a_template_may_still_put_right_is_judged_later(model: str, added: dict[str, Any], field: str) -> None:
    payload = {**LEAST[model], **added, field: "{{ later }}"}
    check_static(payload, model, is_dynamic=lambda value: value == "{{ later }}")


def test_a_template_deep_in_a_list_is_judged_later_too() -> None:
    later = {"image_url": PICTURE, "type": "{{ later }}"}
    for payload in (
        {"prompt": "p", "image_list": [later]},
        {"prompt": "p", "image_list": "{{ later }}"},
        {**MULTI, "multi_prompt": [{**SHOTS[0], "duration": "{{ later }}"}], "aspect_ratio": "1:1"},
    ):
        check_static(payload, "kirin_v3_omni_video", is_dynamic=lambda value: value == "{{ later }}")
    with pytest.raises(KirinPayloadError):
        check_static({"prompt": "p"}, "kirin_v3_omni_video", is_dynamic=lambda value: value == "{{ later }}")


@pytest.mark.parametrize(("given", "sent"), [("17", 17), (17, 17)])
def test_a_whole_number_may_come_as_text(given: Any, sent: int) -> None:
    payload = {**LEAST["kirin_video_o1"], "element_list": [{"element_id": given}]}
    assert prepare_payload(payload, "kirin_video_o1").params["element_list"] == [{"element_id": sent}]
    assert refused({**payload, "element_list": [{"element_id": "a"}]}, "kirin_video_o1")


@pytest.mark.parametrize("shot", [{"index": 1}, {"duration": "4 s"}, "a text"])
def test_shots_without_a_duration_cannot_be_added_up(shot: Any) -> None:
    payload = {**MULTI, "multi_prompt": [*SHOTS, shot], "surprise": {1, 2}}
    assert not any("add up" in problem.rule for problem in refused(payload, "kirin_v3_t2v"))


@pytest.mark.parametrize("model", MODELS)
def test_unknown_parameters_are_refused_only_where_all_are_documented(model: str) -> None:
    payload = {**LEAST[model], "seed": "x"}
    if load_schema(model)["x-confidence"] == "documented":
        (problem,) = refused(payload, model)
        assert problem.field == "seed"
        return
    prepared = prepare_payload(payload, model)
    assert prepared.params["seed"] == "x"
    assert sum("seed" in notice for notice in prepared.warnings) == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("negativ_prompt", "negative_prompt"),
        ("negativePrompt", "negative_prompt"),
        ("Negative Prompt", "negative_prompt"),
        # These have a default.
        ("duratoin", "duration"),
        ("MODE", "mode"),
    ],
)
def test_a_likely_typo_is_refused_unless_it_is_meant(name: str, meant: str) -> None:
    payload, model = {"prompt": "p", name: "x"}, "kirin_v2_6_t2v"
    (problem,) = refused(payload, model)
    assert problem.field == name and f"Did you mean {meant!r}?" in problem.remedy
    with pytest.raises(KirinPayloadError, match="Did you mean"):
        check_static(payload, model, is_dynamic=lambda value: False)
    check_static(payload, model, is_dynamic=lambda value: False, allow_unknown_model=True)
    prepared = prepare_payload(payload, model, allow_unknown_model=True)
    assert prepared.params[name] == "x" and f"{name!r} is sent unchecked" in prepared.warnings[0]


@pytest.mark.parametrize("name", ["Prompt", "PROMPT", "negativePrompt"])
def test_two_spellings_of_a_parameter_are_refused_because_one_value_would_be_lost(name: str) -> None:
    (problem,) = refused({"prompt": "p", "negative_prompt": "n", name: "x"}, "kirin_v2_6_t2v")
    meant = "prompt" if "eg" not in name else "negative_prompt"
    assert problem.field == name and f"{meant!r} is given, too: leave one of them out." in problem.remedy


@pytest.mark.parametrize(
    ("model", "payload", "field", "meant"),
    [
        ("kirin_v1_t2v", {"camera_control": {"typ": "down_back"}}, "camera_control.typ", "type"),
        # As a cell of a CSV file has it.
        ("kirin_v1_t2v", {"camera_control": '{"Type": "down_back"}'}, "camera_control.Type", "type"),
        ("kirin_v3_t2v", {**MULTI, "multi_prompt": [{**SHOTS[0], "Index": 1}, *SHOTS[1:]]}, "multi_prompt.0.Index", ""),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_the_same_holds_in_an_object(model: str, payload: dict[str, Any], field: str, meant: str) -> None:
    payload = {**LEAST[model], **payload}
    (problem,) = (each for each in refused(payload, model) if each.field == field)
    assert (f"Did you mean {meant!r}?" if meant else "is given, too") in problem.remedy
    with pytest.raises(KirinPayloadError, match="a known parameter"):
        check_static(payload, model, is_dynamic=lambda value: False)


@pytest.mark.parametrize(
    "other",
    # The parameter itself is there, it is not given, or another model has it.
    [
        {"prompt_de": "x"},
        {"duratoin": None},
        {"callback": "https://example.com/hook"},
        {"image_title": "x", "external_id": "x", "watermark": "x", "mode_id": "x"},
    ],
    ids=str,
)
def test_a_name_that_is_probably_meant_is_sent(other: dict[str, Any]) -> None:
    prepare_payload({"prompt": "p", **other}, "kirin_v1_6_t2v")


def test_an_undocumented_model_warns_each_time_and_a_documented_one_never() -> None:
    assert "is not documented by the gateway" in prepare_payload(LEAST["kirin_v2_1_i2v"], "kirin_v2_1_i2v").warnings[0]
    assert prepare_payload(LEAST["kirin_v1_6_i2v"], "kirin_v1_6_i2v").warnings == ()
    assert prepare_payload(LEAST["kirin_v2_6_t2v"], "kirin_v2_6_t2v").warnings == ()


@pytest.mark.parametrize("model", ["kirin_v3_omni_video", "kirin_video_o1"])
def test_a_default_that_costs_more_is_reported_unless_it_was_chosen(model: str) -> None:
    prepared = prepare_payload(LEAST[model], model)
    assert prepared.params["mode"] == "pro"
    assert prepared.warnings == (
        f'mode is not set: the default of {model} is "pro", which costs more. "std" is cheaper.',
    )
    assert prepare_payload({**LEAST[model], "mode": "pro"}, model).warnings == ()


@pytest.mark.parametrize("model", MODELS)
def test_defaults_that_are_only_the_gateway_s_own_are_not_sent(model: str) -> None:
    properties = load_schema(model)["properties"]
    sent = set(prepare_payload(LEAST[model], model).params) - set(LEAST[model])
    assert sent == {name for name, rules in properties.items() if "default" in rules} - set(LEAST[model])
    for name in sent:
        # What decides the price, or what the model's page itself states.
        assert name in ("mode", "duration", "sound") or "x-source" not in properties[name]
