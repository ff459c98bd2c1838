"""The Test button distinguishes a usable connection from a wrong key, a wrong path and an outage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.connection_test import PROBE_ID, interpret
from airflow_provider_kirin.api.requests import get_generation, validate_task_id
from airflow_provider_kirin.api.responses import parse_body

BASE = "https://cloud.vtrix.ai/model"


def ask(status: int, body: Any) -> tuple[bool, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return interpret(status, {}, parse_body(raw), base=BASE)


def test_the_id_can_be_asked_for_and_cannot_be_a_real_one() -> None:
    assert validate_task_id(PROBE_ID) == PROBE_ID
    assert get_generation(BASE, PROBE_ID).url == f"{BASE}/v1/generation/task/{PROBE_ID}"
    assert "-" in PROBE_ID
    assert len(PROBE_ID) > 20


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Request not found"}),
        (404, {"error": {"code": "NOT_FOUND", "message": "Task not found"}}),
        (404, {"error": "generation does not exist"}),
        (404, {"message": "record not found"}),
        (404, {"message": f"no such task: {PROBE_ID}"}),
        (200, {"status": {"code": 404, "message": "Task not found"}, "data": None}),
        (200, {"id": PROBE_ID, "status": "failed"}),
        (400, {"error": {"message": "invalid task id"}}),
        (422, {"detail": "task id must have 20 characters"}),
    ],
)
def test_a_gateway_that_misses_only_the_task_accepted_the_key(status: int, body: Any) -> None:
    works, said = ask(status, body)
    assert works
    assert BASE in said
    assert "accepted" in said


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"code": "UNAUTHORIZED", "message": "invalid task token"}}),
        (401, b"<html>Login</html>"),
        (403, {"detail": "Model not allowed for this user"}),
    ],
)
def test_a_wrong_key_is_called_a_wrong_key(status: int, body: Any) -> None:
    works, said = ask(status, body)
    assert not works
    assert "API Key" in said


def test_a_lack_of_credit_is_reported_as_such() -> None:
    works, said = ask(403, {"message": "insufficient balance"})
    assert not works
    assert "Top up" in said


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"detail": "Not Found"}),
        (404, b"404 page not found"),
        (404, b"<html><h1>404 Not Found</h1></html>"),
        (404, {"message": "Cannot GET /v1/generation/task/x"}),
        (404, {"message": "no Route matched with those values"}),
        (404, {"detail": "App not found: task"}),
        (404, {"message": "The requested URL was not found on the server"}),
        (405, {"detail": "Method Not Allowed"}),
        (200, b"<html>Welcome</html>"),
        (200, {"hello": "world"}),
        (200, []),
        (200, b""),
        # What Spring and Django answer to a path that they do not have: they repeat it, and the probe's id in it.
        (404, {"detail": f"No static resource model/v1/generation/task/{PROBE_ID}."}),
        (404, {"message": f"Not found: /model/v1/generation/task/{PROBE_ID}"}),
    ],
)
def test_a_wrong_path_is_called_a_wrong_path(status: int, body: Any) -> None:
    works, said = ask(status, body)
    assert not works
    assert "Host and its path" in said
    assert BASE in said


@pytest.mark.parametrize(("status", "body"), [(500, {"detail": "Runtime execution failed"}), (502, b""), (429, {})])
def test_a_gateway_with_an_outage_is_not_a_wrong_host(status: int, body: Any) -> None:
    works, said = ask(status, body)
    assert not works
    assert f"HTTP {status}" in said
    assert "later" in said


def test_a_redirect_is_a_wrong_host() -> None:
    works, said = interpret(302, {"Location": "https://login.example/?s=SECRET"}, "", base=BASE)
    assert not works
    assert "https://login.example/" in said
    assert "SECRET" not in said


def test_a_refusal_for_another_reason_does_not_count_as_a_yes() -> None:
    assert ask(400, {"message": "TLS required"})[0] is False
    assert ask(400, b"The plain HTTP request was sent to HTTPS port")[0] is False


@settings(max_examples=200)
@given(st.integers(100, 599), st.binary(max_size=100))
def test_any_response_gives_a_verdict_and_never_a_yes_for_what_is_no_object(status: int, raw: bytes) -> None:
    works, said = interpret(status, {}, parse_body(raw), base=BASE)
    assert 0 < len(said) < 1000
    if works:
        assert isinstance(json.loads(raw), dict)
