"""The reason of an error reaches the user from wherever it stands, and says nothing about money from elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import error_from_response, error_from_task
from airflow_provider_kirin.api.reasons import find_any_words, find_words
from airflow_provider_kirin.api.responses import parse_body, parse_task
from airflow_provider_kirin.api.retry import SubmissionOutcome, classify_submission_error
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinAPIError, KirinNotFoundError, KirinResponseError

ENDED = {"id": "d1", "output": []}
#: Objects and strings that are reported as an error.
ERRORS: list[Any] = [
    "because",
    ["because"],
    [["because"]],
    {"detail": "because"},
    {"title": "because"},
    {"title": "Bad Request", "detail": "because"},
    {"reason": "because"},
    {"description": "because"},
    {"error_description": "because"},
    {"errorMessage": "because"},
    {"err_msg": "because"},
    {"details": [{"message": "because"}]},
    {"error": {"message": "because"}},
    {"message": {"text": "because"}},
    {"message": ["because", "and more"]},
    {"Message": "because"},
    {"code": "X", "data": {"message": "because"}},
    {"code": 7, "en": "because"},
]
#: Task objects that only people can read.
ELSEWHERE: list[dict[str, Any]] = [
    {"error": {"inner": {"what": "because"}}},
    {"errors": {"prompt": ["because"]}},
    {"error_message": "because"},
    {"fail_reason": "because"},
    {"failure_reason": {"text": "because"}},
    {"fault": {"faultstring": "because"}},
    {"provider_error": {"code": "X", "message": "because"}},
]
NESTED: list[dict[str, Any]] = [
    {"output": [{"error": {"message": "because"}}]},
    {"output": {"error": "because"}},
    {"output": [{"content": [{"type": "text", "text": "because"}]}]},
    {"metadata": {"provider": {"error_msg": "because"}}},
    {"result": {"errors": ["because"]}},
]
#: What a failed generation says next to its status.
BESIDE: list[dict[str, Any]] = [
    {"detail": "because"},
    {"detail": [{"loc": ["body"], "msg": "because"}]},
    {"task_status_msg": "because"},
]


def read(body: dict[str, Any]) -> KirinTask:
    return parse_task(200, {}, parse_body(json.dumps(body).encode()), doing="asking for d1", asked_for="d1")


@pytest.mark.parametrize("status", ["failed", "completed", "cancelled"])
@pytest.mark.parametrize("said", [*({"error": error} for error in ERRORS), *({"errors": e} for e in ERRORS)])
def test_an_error_ends_the_wait_with_its_words(said: dict[str, Any], status: str) -> None:
    assert "because" in str(error_from_task(read({**ENDED, "status": status, **said})))


@pytest.mark.parametrize(
    ("status", "advice"), [("failed", "Only a new"), ("cancelled", "look at it in your Kirin account")]
)
def test_no_new_submission_is_advised_while_the_first_one_may_go_on(status: str, advice: str) -> None:
    assert advice in str(error_from_task(read({**ENDED, "status": status, "error": "because"})))


@pytest.mark.parametrize("status", ["failed", "completed"])
@pytest.mark.parametrize("said", [*ELSEWHERE, *NESTED])
def test_words_from_elsewhere_reach_the_user(said: dict[str, Any], status: str) -> None:
    assert "because" in str(error_from_task(read({**ENDED, "status": status, **said})))


@pytest.mark.parametrize("said", BESIDE)
def test_what_stands_beside_a_failure_reaches_the_user(said: dict[str, Any]) -> None:
    assert "because" in str(error_from_task(read({**ENDED, "status": "failed", **said})))


@pytest.mark.parametrize(
    "said",
    [
        {"message": "please wait"},
        {"metadata": {"error": "of an earlier attempt"}},
        {"error": {"code": 0, "message": "success"}},
        {"error": {}},
        {"errors": []},
        {"error": {"code": 0, "detail": ""}},
        {"error": {"code": None, "message": None, "retries": 2}},
        {"error": {"type": None, "level": "info"}},
        {"error": "succeeded"},
        {"error": {"code": "OK", "message": "OK"}},
        {"error": {"code": "000000", "message": "success"}},
        {"error": {"code": 200, "message": "no error occurred"}},
        {"errors": {"total": 3}},
        {"error_msg": "SUCCEED"},
        {"err_msg": "No errors"},
        {"failure_reason": "none yet"},
    ],
)
def test_an_unknown_status_without_an_error_goes_on(said: dict[str, Any]) -> None:
    assert read({**ENDED, "status": "warming_up", **said}).status == "in_progress"


@pytest.mark.parametrize("said", [{"message": "success"}, {"error": {"code": 0, "message": "success"}}])
def test_success_is_not_a_reason(said: dict[str, Any]) -> None:
    error = error_from_task(read({**ENDED, "status": "completed", **said}))
    assert "success" not in str(error)
    assert "moderated" in str(error)


@pytest.mark.parametrize("said", [{}, {"error": {"code": None, "retries": 2}}, {"errors": ["watermark"]}])
def test_a_link_in_an_output_outranks_words_beside_it(said: dict[str, Any]) -> None:
    output = [{"text": "because", "link": "https://h.example/v.mp4"}]
    kirin_task = read({"id": "d1", "status": "completed", "output": output, **said})
    assert kirin_task.has_unreadable_output
    assert "https://h.example/v.mp4" in str(error_from_task(kirin_task))


@pytest.mark.parametrize("said", [{"object": "video", "seed": 5, "prompt": "cat"}, {"description": "Campaign 7"}])
def test_ordinary_fields_of_a_failure_are_no_reason(said: dict[str, Any]) -> None:
    assert "no reason given" in str(error_from_task(read({**ENDED, "status": "failed", **said})))


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (429, {"error": "too_many_requests", "error_description": "It does not affect your credits."}, "REJECTED"),
        (429, {"error": {"type": "rate_limit", "request": {"prompt": "the end credits roll"}}}, "REJECTED"),
        (429, {"description": "Your balance is not charged."}, "REJECTED"),
        (400, {"error": {"code": 1201, "request": {"external_task_id": "a-1", "prompt": "a used car"}}}, "REJECTED"),
        (422, {"errors": {"external_task_id": ["must not be used with batch"]}}, "REJECTED"),
    ],
)
def test_words_of_others_decide_nothing_about_a_submission(status: int, body: dict[str, Any], outcome: str) -> None:
    error = error_from_response(status, body, doing="submitting")
    assert classify_submission_error(error) is SubmissionOutcome[outcome]
    assert error.retryable is (status == 429)


@pytest.mark.parametrize("said", [*({"error": error} for error in ERRORS), *ELSEWHERE, *NESTED, *BESIDE])
def test_every_http_error_says_what_its_body_says(said: dict[str, Any]) -> None:
    assert "because" in str(error_from_response(400, said, doing="asking"))


@pytest.mark.parametrize("said", [{"title": "Not Found", "status": 404}, {"error_msg": "no"}, {"fault": {"text": "x"}}])
def test_words_of_others_prove_nothing_about_a_generation(said: dict[str, Any]) -> None:
    found = error_from_response(404, said, doing="asking")
    assert isinstance(found, KirinNotFoundError)
    assert not found.from_api
    with pytest.raises(KirinResponseError) as caught:
        parse_task(200, {}, {"title": "because"}, doing="submitting")
    assert "because" in str(caught.value)
    assert classify_submission_error(caught.value) is SubmissionOutcome.UNKNOWN
    assert not isinstance(caught.value, KirinAPIError)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["error", "errors", "message", "loc", "detail", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_value_gives_a_string(value: Any) -> None:
    assert isinstance(find_words(value), str)
    assert isinstance(find_any_words(value), str)
    assert error_from_response(400, value, doing="asking")
    for status in ("failed", "completed", "odd"):
        read({**ENDED, "status": status, "error": value, "x": value})
