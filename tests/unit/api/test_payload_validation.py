"""Every keyword of a schema becomes a sentence with field, value, rule and remedy."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from airflow_provider_kirin.api.payload.validation import validate
from airflow_provider_kirin.exceptions import Problem


def judge(value: Any, rules: Any, **options: Any) -> list[Problem]:
    return validate({"x": value}, {"type": "object", "properties": {"x": rules}}, **options)


@pytest.mark.parametrize(
    ("kind", "wrong", "rule"),
    [
        ("string", 5, "must be a string"),
        ("number", "5", "must be a number"),
        ("integer", 5.5, "must be an integer"),
        ("boolean", "yes", "must be true or false"),
        ("object", [], "must be an object"),
        ("array", {}, "must be a list"),
        ("null", 5, "must be null"),
    ],
)
def test_types_have_names_that_people_use(kind: str, wrong: Any, rule: str) -> None:
    (problem,) = judge(wrong, {"type": kind})
    assert (problem.field, problem.rule) == ("x", rule)
    assert problem.remedy.startswith("Pass ")


@pytest.mark.parametrize(
    ("value", "rules", "rule", "remedy"),
    [
        ("c", {"enum": ["a", "b"]}, "must be one of 'a', 'b'", "Use one of these"),
        ("prro", {"enum": ["std", "pro"]}, "must be one of 'std', 'pro'", "Did you mean 'pro'?"),
        ("b", {"const": "a"}, "must be 'a'", "Use 'a', or leave it out"),
        ("", {"minLength": 1}, "must have at least 1 character (it has 0)", "Write more"),
        ("ab", {"minLength": 3}, "must have at least 3 characters (it has 2)", "Write more"),
        ("abcd", {"maxLength": 3}, "must have at most 3 characters (it has 4)", "Shorten it by 1"),
        (2, {"minimum": 0, "maximum": 1}, "must be between 0 and 1", "Use a number from 0 to 1"),
        (-1, {"minimum": 0, "maximum": 1}, "must be between 0 and 1", "Use a number from 0 to 1"),
        ("x", {"x-url": True}, "must be an http or https URL with a host", "Use a full URL"),
        (3, {"multipleOf": 2}, "breaks the rule multipleOf: 2", "See the model's page"),
    ],
)
def test_each_keyword_says_what_is_allowed_and_what_to_do(value: Any, rules: Any, rule: str, remedy: str) -> None:
    (problem,) = judge(value, rules)
    assert problem.field == "x"
    assert problem.rule.startswith(rule)
    assert problem.remedy.startswith(remedy)


def test_a_schema_that_allows_nothing_still_gives_a_sentence() -> None:
    (problem,) = judge(3, False)
    assert problem.rule.startswith("breaks the rule")


@pytest.mark.parametrize(
    "number", [float("nan"), float("inf"), float("-inf"), True, False, pytest.param(10**400, id="400 digits")]
)
def test_what_no_json_number_can_be_is_no_number(number: Any) -> None:
    (problem,) = judge(number, {"type": "number"})
    assert problem.rule == "must be a number"


@pytest.mark.parametrize("number", [0, 1, 0.5, -0.0, 1e-300, 10**15])
def test_every_other_number_is_one(number: Any) -> None:
    assert judge(number, {"type": "number"}) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "http://example.com/hook",
        "HTTPS://EXAMPLE.COM/hook?token=a#b",
        "https://user:word@example.com:8443/hook",
        "http://[::1]:8900/hook",
        "http://localhost:8900",
    ],
)
def test_urls_with_scheme_and_host_are_urls(url: str) -> None:
    assert judge(url, {"x-url": True}) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "https://",
        "https:///hook",
        "https:example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "https://exa mple.com/",
        "https://example.com/a b",
        "http://[::1",
        "https://example.com/hook\n",
        "https://example.com/\thook",
        "https://example.com:99999/hook",
        "https://example.com:port/hook",
    ],
)
def test_an_unreachable_address_is_not_a_url(url: str) -> None:
    (problem,) = judge(url, {"x-url": True})
    assert problem.rule.startswith("must be an http or https URL")


@pytest.mark.parametrize("value", [5, None, ["https://example.com"]])
def test_what_is_no_text_is_the_type_s_business(value: Any) -> None:
    assert judge(value, {"x-url": True}) == []
    assert [problem.rule for problem in judge(value, {"type": "string", "x-url": True})] == ["must be a string"]


class TestNesting:
    SCHEMA: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "outer": {
                "type": "object",
                "properties": {"inner": {"type": "boolean"}, "other": {"type": "string"}},
                "required": ["inner", "other"],
                "additionalProperties": False,
            }
        },
    }

    def test_a_field_is_named_by_its_whole_path(self) -> None:
        problems = validate({"outer": {"inner": "yes", "innner": 1}}, self.SCHEMA)
        assert {(problem.field, problem.rule) for problem in problems} == {
            ("outer.inner", "must be true or false"),
            ("outer.other", "is required"),
            ("outer.innner", "is not a parameter of this model"),
        }

    def test_everything_that_is_missing_is_reported_once(self) -> None:
        problems = validate({"outer": {}}, self.SCHEMA)
        assert sorted(problem.field for problem in problems) == ["outer.inner", "outer.other"]
        assert all(problem.value == "(missing)" for problem in problems)

    def test_the_instance_itself(self) -> None:
        (problem,) = validate({}, {"type": "object", "minProperties": 1})
        assert problem.field == "payload"


def test_a_schema_may_bring_its_own_words() -> None:
    rules = {"const": "a", "x-field": "better", "x-rule": "must be better", "x-remedy": "Do better"}
    assert judge("b", rules) == [Problem("better", "(missing)", "must be better", "Do better")]


class TestSkipping:
    def is_template(self, value: Any) -> bool:
        return isinstance(value, str) and "{{" in value

    def test_what_cannot_be_judged_yet_is_not(self) -> None:
        for rules in ({"type": "number"}, {"enum": ["a"]}, {"maxLength": 3}, {"x-url": True}, {"const": "a"}):
            assert judge("{{ x }}", rules, skip=self.is_template) == []
            assert judge("{{ x }}", rules)

    def test_a_name_that_cannot_be_judged_yet_is_not(self) -> None:
        schema = {"type": "object", "additionalProperties": False}
        assert [one.field for one in validate({"{{ a }}": 1, "b": 2}, schema, skip=self.is_template)] == ["b"]
