"""JSON from outside can be encoded anywhere afterwards, and what is harmless stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kirin.api.responses import parse_body
from airflow_provider_kirin.api.sanitize import MAX_DEPTH, MAX_TEXT, MAX_VALUES, is_plain, sanitize

harmless = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="_")), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(harmless)
def test_what_is_harmless_stays_as_it_is(value: Any) -> None:
    assert sanitize(value) == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("cut emoji \ud83d", "cut emoji \ufffd"),
        ("whole emoji 😀, cafe\u0301, 麒麟, a\u200db", "whole emoji 😀, cafe\u0301, 麒麟, a\u200db"),
        ("a\x00b\x1b[31mc\x9bd\x7f", "a\ufffdb\ufffd[31mc\ufffdd\ufffd"),
        ("two\r\nlines\tand", "two  lines and"),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (-(2**63), -(2**63)),
        (10**29, "1" + "0" * 29),
        (10**30, None),
        pytest.param(10**5000, None, id="5000 digits"),
        (float("nan"), None),
        (float("-inf"), None),
        (True, True),
        (
            {"__classname__": "os.system", "__version__": 1, "___": 1},
            {"classname__": "os.system", "version__": 1, "": 1},
        ),
        ({"a\x00": {"\ud83d": 1}}, {"a\ufffd": {"\ufffd": 1}}),
        ((1, 2), [1, 2]),
        (b"bytes", None),
        (object(), None),
    ],
)
def test_what_is_not(value: Any, kept: Any) -> None:
    assert sanitize(value) == kept
    assert sanitize(sanitize(value)) == kept


def test_depth_number_and_length_are_bounded() -> None:
    nested: Any = "x"
    for _ in range(500):
        nested = {"a": [nested]}
    assert json.dumps(sanitize(nested)).count("a") == MAX_DEPTH // 2
    assert len(sanitize(list(range(10**6)))) <= MAX_VALUES
    assert len(sanitize([[1] * 1000] * 1000)) <= MAX_VALUES // 1000 + 1
    assert len(sanitize("x" * 10**7)) == MAX_TEXT


@pytest.mark.parametrize("large", [list(range(10**4)), {str(number): number for number in range(10**4)}])
def test_a_large_field_costs_no_other_one(large: Any) -> None:
    fields = {"metadata": large, "output": [{"url": "u"}]}
    for cleaned in (sanitize(fields), sanitize({"data": fields})["data"]):
        assert len(cleaned["metadata"]) <= MAX_VALUES
        assert cleaned["output"] == [{"url": "u"}]


def test_a_secret_is_hidden_in_values_and_keys() -> None:
    value = {"sk-1": ["a sk-1", {"b": "sk-1sk-1"}]}
    assert sanitize(value, hide=lambda text: text.replace("sk-1", "***")) == {"***": ["a ***", {"b": "******"}]}


@pytest.mark.parametrize(
    ("value", "strings", "characters"),
    [
        (["x"] * 10**6, MAX_VALUES, MAX_VALUES),
        ([["x" * 10**4] * 100] * 10**4, MAX_VALUES, MAX_VALUES * 10**4),
        ("\x00" * 10**7, 1, 2 * MAX_TEXT),
        ({f"{key:05}": [] for key in range(10**5)}, 10**5, 5 * 10**5),
    ],
    ids=["list", "lists", "text", "keys"],
)
def test_of_much_only_what_may_be_kept_is_read(value: Any, strings: int, characters: int) -> None:
    read = []
    sanitize(value, hide=lambda text: read.append(len(text)) or text)  # type: ignore[func-returns-value]
    assert len(read) <= strings and sum(read) <= characters


def test_a_key_that_is_renamed_takes_no_others_place() -> None:
    assert sanitize({"id": "mine", "__id": "bobs"}) == {"id": "mine"}
    assert sanitize({"__id": "mine"}) == {"id": "mine"}


class TestAPlainBody:
    """One that need not be sanitized."""

    @given(
        st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["__id", "a__", "sk-1"]),
            st.recursive(
                st.text(max_size=5)
                | st.integers()
                | st.integers(2**62, 2**70)
                | st.floats()
                | st.sampled_from(["sk-1", "x" * 20_000, None, True]),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
            ),
            max_size=4,
        ),
        st.booleans(),
        st.sampled_from([None, 1]),
        st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    )
    @example({"": -(10**29)}, False, None, "utf-8")
    def test_is_read_as_if_it_had_been_sanitized(
        self, value: Any, is_ascii: bool, indent: int | None, encoding: str
    ) -> None:
        text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
        raw = text.encode(encoding, "surrogatepass")
        # A float of 1e999 is read as None: what sanitize() makes of infinity.
        expected = sanitize(json.loads(text), hide=_hide)
        assert parse_body(raw, hide=_hide) == expected
        if is_plain(raw, hide=_hide):
            assert sanitize(value, hide=_hide) == value

    def test_is_what_the_gateway_usually_sends(self) -> None:
        body = {"id": "d1", "status": "in_progress", "progress": 0.4, "created_at": 1764374400123, "metadata": {}}
        assert is_plain(json.dumps(body).encode(), hide=_hide)
        assert is_plain(json.dumps(body, indent=2).encode(), hide=_hide)

    @pytest.mark.parametrize(
        "body",
        [
            {"__classname__": "x"},
            {"a": 10**18},
            {"a": -(10**18)},
            {"a": "\x00"},
            {"a": "\ud83d"},
            {"a": "sk-1"},
            {"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]},
            {"a": [1] * 5000},
            {"a": "x" * 10_000},
            [1],
        ],
        ids=lambda body: json.dumps(body)[:20],
    )
    def test_is_none_that_might_hold_something_to_replace(self, body: Any) -> None:
        assert not is_plain(json.dumps(body, separators=(",", ":")).encode(), hide=_hide)


def _hide(text: str) -> str:
    return text.replace("sk-1", "***")
