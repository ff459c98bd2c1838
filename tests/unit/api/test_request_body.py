"""The body of a request is what json.dumps would make of it, images included."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.requests import Base64Text, json_body

images = st.binary(max_size=40).map(lambda data: Base64Text(base64.b64encode(data), "ascii"))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    plain | images,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_the_body_is_identical_to_json_dumps(value: Any) -> None:
    assert json_body(value) == json.dumps(value, separators=(",", ":")).encode()


def test_images_stand_where_they_belong() -> None:
    params = {"image": Base64Text("AAAA"), "prompt": 'a "b"', "more": [Base64Text("BBBB"), ("x", Base64Text("CCCC"))]}
    assert json.loads(json_body(params)) == {"image": "AAAA", "prompt": 'a "b"', "more": ["BBBB", ["x", "CCCC"]]}


def test_nan_and_infinity_are_rejected() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_body({"cfg_scale": float("nan")})
