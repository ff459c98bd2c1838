"""The digest of a function's arguments: the same on every try, and another one for other content."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.idempotency import arguments_fingerprint


@dataclass
class Product:
    name: str
    price: Decimal = Decimal("1.50")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Opaque:
    pass


def of(*args: Any, **kwargs: Any) -> str:
    return arguments_fingerprint("kirin_v1_6_i2v", args, kwargs)


VALUES: list[tuple[Any, Any]] = [
    (None, ""),
    (1, "1"),
    (True, "true"),
    (1.5, 1.25),
    ("a", "b"),
    (b"one", b"two"),
    (bytearray(b"one"), b"\x00ne"),
    (Path("/a"), Path("/b")),
    (Path("/a"), "/a"),
    (Decimal("1.0"), Decimal("1.00")),
    (UUID(int=1), UUID(int=2)),
    (Colour.RED, Colour.BLUE),
    (date(2026, 1, 1), date(2026, 1, 2)),
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 1, tzinfo=UTC)),
    (timedelta(1), timedelta(2)),
    ([1, 2], [2, 1]),
    ([[1], 2], [[1, 2]]),
    ({"a": 1}, {"a": 2}),
    ({"a": None}, {}),
    ({1, 2}, {1, 3}),
    (Product("mug"), Product("teapot")),
    (Product("mug"), Product("mug", Decimal(2))),
    (Opaque(), Colour.RED),
]


@pytest.mark.parametrize(("one", "other"), VALUES)
def test_other_content_is_another_digest(one: Any, other: Any) -> None:
    assert of(one) != of(other)
    assert of(x=one) != of(x=other)
    assert of([{"deep": one}]) != of([{"deep": other}])


def test_equal_contents_have_the_same_digest() -> None:
    assert of({"a": 1, "b": 2}) == of({"b": 2, "a": 1})
    assert of({"x", "y", "z"}) == of(frozenset(["z", "y", "x"]))
    assert of((1, 2)) == of([1, 2])
    assert of(Product("mug")) == of(Product("mug"))
    assert of(memoryview(b"one")) == of(b"one")
    assert of(a=1, b=2) == of(b=2, a=1)


def test_what_means_the_same_is_the_same() -> None:
    assert of(1) == of(1.0)
    assert of("Caf\u00e9") == of("Cafe\u0301")
    signed = "https://h.example/a.jpg?X-Amz-Date={}&X-Amz-Signature={}"
    assert of(image=signed.format(1, 2)) == of(image=signed.format(3, 4)) != of(image="https://h.example/b.jpg")


def test_an_object_that_has_no_content_to_compare_never_makes_two_tries_differ() -> None:
    assert of(Opaque()) == of(Opaque())
    assert of(Product) == of(Product)


def test_the_model_and_the_place_of_an_argument_count() -> None:
    assert of(1) != arguments_fingerprint("another", [1], {})
    assert of(1) != of(x=1)
    assert of() != of(None)


@given(st.lists(st.recursive(st.none() | st.text() | st.integers() | st.binary(), st.lists, max_leaves=5)))
def test_any_list_has_one(values: list[Any]) -> None:
    assert of(*values) == of(*list(values))
    assert of(*values) != of(*values, "more")


def test_is_the_same_in_another_process_with_another_order_of_sets() -> None:
    code = (
        "from airflow_provider_kirin.api.idempotency import arguments_fingerprint;"
        "print(arguments_fingerprint('m', [{'teapot', 'mug', 'sneaker', 'lamp'}], {'b': 1, 'a': {'x', 'y'}}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
