"""The body of a callback can save a lookup, and can do nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.callback_body import reports_progress


@pytest.mark.parametrize(
    "body",
    [
        {"id": "x", "status": "in_progress", "progress": 0.5},
        {"task_id": "1", "task_status": "submitted"},
        {"task_status": " Processing "},
        {"data": {"status": "in_queue"}},
    ],
)
def test_a_generation_in_progress_needs_no_lookup(body: object) -> None:
    assert reports_progress(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"status": "completed"},
        {"task_status": "succeed"},
        {"task_status": "failed"},
        {"status": "odd"},
        {"status": 1},
        {},
    ],
)
def test_an_end_and_what_is_not_known_are_worth_a_look(body: object) -> None:
    assert not reports_progress(json.dumps(body).encode())


texts = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps)


@given(st.binary() | texts.map(str.encode))
def test_anything_else_is_worth_a_look(body: bytes) -> None:
    assert not reports_progress(body)


def test_a_deep_body_is_harmless() -> None:
    assert not reports_progress(b"[" * 65_000)
