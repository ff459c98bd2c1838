"""What the gateway says becomes the error that a DAG author handles, and says whether another try can help."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import (
    CODES,
    MAX_RETRY_AFTER,
    error_from_response,
    error_from_task,
    parse_error,
    parse_retry_after,
)
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinCapacityError,
    KirinConfigError,
    KirinConflictError,
    KirinCreditError,
    KirinError,
    KirinInputError,
    KirinNotFoundError,
    KirinNoVideoError,
    KirinRateLimitError,
    KirinTaskFailedError,
    KirinUnavailableError,
)

DOING = "submitting the generation"


def error(status: int, body: Any = None, **headers: str) -> KirinAPIError:
    found = error_from_response(
        status, body, headers={name.replace("_", "-"): value for name, value in headers.items()}, doing=DOING
    )
    assert isinstance(found, KirinAPIError)
    return found


class TestHttpStatuses:
    @pytest.mark.parametrize(
        ("status", "kind", "retryable"),
        [
            (400, KirinInputError, False),
            (401, KirinAuthError, False),
            (402, KirinCreditError, False),
            (403, KirinAuthError, False),
            (404, KirinNotFoundError, False),
            (405, KirinAPIError, False),
            (408, KirinUnavailableError, True),
            (409, KirinConflictError, False),
            (413, KirinInputError, False),
            (418, KirinAPIError, False),
            (422, KirinInputError, False),
            (425, KirinUnavailableError, True),
            (429, KirinRateLimitError, True),
            (500, KirinUnavailableError, True),
            (502, KirinUnavailableError, True),
            (503, KirinUnavailableError, True),
            (504, KirinUnavailableError, True),
            (599, KirinUnavailableError, True),
        ],
    )
    @pytest.mark.parametrize("body", [None, "", {}, [], "<html><body>nginx</body></html>"])
    def test_without_a_readable_body_the_status_decides(
        self, status: int, kind: type[KirinAPIError], retryable: bool, body: Any
    ) -> None:
        found = error(status, body)
        assert type(found) is kind
        assert found.retryable is retryable
        assert found.http_status == status
        assert found.code is None
        assert found.request_id is None
        assert f"HTTP {status}" in str(found)
        assert DOING in str(found)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_a_wrong_host(self, status: int) -> None:
        headers = {"Location": "https://login.example/?state=SECRET"}
        found = error_from_response(status, "", headers=headers, doing=DOING)
        assert type(found) is KirinConfigError
        assert "https://login.example/" in str(found)
        assert "SECRET" not in str(found)
        assert not found.retryable

    def test_a_redirect_to_nowhere(self) -> None:
        assert "nowhere" in str(error_from_response(302, "", doing=DOING))


class TestKnownBodies:
    """protocol.md, section 9: every shape that was seen."""

    @pytest.mark.parametrize(
        ("status", "body", "kind", "code", "message"),
        [
            (
                401,
                {"error": {"code": "UNAUTHORIZED", "message": "bad key"}, "request_id": "req-1"},
                KirinAuthError,
                "UNAUTHORIZED",
                "bad key",
            ),
            (401, {"error": "Missing Token"}, KirinAuthError, None, "Missing Token"),
            (401, {"error": "missing authentication token"}, KirinAuthError, None, "missing authentication token"),
            (401, {"error": "invalid_api_key"}, KirinAuthError, None, "invalid_api_key"),
            (
                402,
                {"status": {"code": 402, "message": "no money", "error_code": 40201}, "data": None},
                KirinCreditError,
                "40201",
                "no money",
            ),
            (
                403,
                {"detail": "Model not allowed for this user"},
                KirinAuthError,
                None,
                "Model not allowed for this user",
            ),
            (404, {"detail": "Request not found"}, KirinNotFoundError, None, "Request not found"),
            (404, {"detail": "App not found: x"}, KirinNotFoundError, None, "App not found: x"),
            (404, "Task not found", KirinNotFoundError, None, "Task not found"),
            (
                429,
                {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": "slow down"}, "request_id": "req-2"},
                KirinRateLimitError,
                "RATE_LIMIT_EXCEEDED",
                "slow down",
            ),
            (429, {"error": {"code": 429, "message": "slow down"}}, KirinRateLimitError, "429", "slow down"),
            (500, {"detail": "Runtime execution failed"}, KirinUnavailableError, None, "Runtime execution failed"),
            (504, {"id": "d1", "error": {"code": "SYNC_TIMEOUT"}}, KirinUnavailableError, "SYNC_TIMEOUT", "no message"),
            (400, {"code": 1201, "message": "Bad field"}, KirinInputError, "1201", "Bad field"),
            (400, {"data": {"code": "8002005003", "message": "prompt"}}, KirinInputError, "8002005003", "prompt"),
            (422, {"detail": [{"loc": ["body"], "msg": "field required"}]}, KirinInputError, None, "field required"),
            (502, "<!DOCTYPE html><p>Bad gateway", KirinUnavailableError, None, "an HTML page, not the API's JSON"),
            (400, [1, 2], KirinInputError, None, "<list of 2>"),
            (400, {"result": {"x": "odd"}}, KirinInputError, None, '{"result": {"x": "odd"}}'),
        ],
    )
    def test_class_code_and_message(
        self, status: int, body: Any, kind: type[KirinAPIError], code: str | None, message: str
    ) -> None:
        found = error(status, body)
        assert type(found) is kind
        assert found.code == code
        assert message in str(found)

    @pytest.mark.parametrize(
        ("body", "code", "message"),
        [
            # The order of precedence: status, error, data, the body itself; error_code before code.
            (
                {
                    "status": {"code": 1, "error_code": 2, "message": "status"},
                    "error": {"code": 3, "error_message": "error"},
                    "message": "body",
                    "code": 4,
                },
                "2",
                "status",
            ),
            ({"error": {"code": 3, "error_message": "first", "message": "second"}, "message": "body"}, "3", "first"),
            ({"error": {"message": "second"}, "message": "body", "code": 4}, "4", "second"),
            ({"error": "word", "message": "body"}, "", "body"),
            ({"error": "word", "detail": "more"}, "", "word"),
            ({"code": 0, "message": "fine"}, "", "fine"),
            ({"code": "0", "message": "fine"}, "", "fine"),
            ({"code": "014002095"}, "014002095", ""),
            ({"code": True, "message": 5, "detail": None}, "", ""),
            ({"code": ["x"], "message": ["y"]}, "", "y"),
            ({"error": "invalid_token", "error_description": "it has expired"}, "", "invalid_token: it has expired"),
            ({"type": "about:blank", "title": "Bad", "status": 400, "detail": "too long"}, "", "too long"),
            ({"detail": [{"loc": ["body", "prompt"], "msg": "too long"}]}, "", "body.prompt: too long"),
            ({"errors": {"prompt": ["too long"]}}, "", '{"prompt": ["too long"]}'),
            ({"fault": {"faultstring": "no quota"}}, "", "no quota"),
            ({"Error": {"Message": "no quota"}}, "", "no quota"),
            ({"result": {"x": 1}}, "", ""),
            (None, "", ""),
            ("plain\ntext", "", "plain text"),
            ("  <html>", "", "an HTML page, not the API's JSON"),
        ],
    )
    def test_code_and_message_of_each_shape(self, body: Any, code: str, message: str) -> None:
        assert parse_error(body) == (code, message)

    def test_the_request_id_comes_from_the_header_or_else_from_the_body(self) -> None:
        assert error(500, {"request_id": "body"}, X_Request_Id="header").request_id == "header"
        found = error(500, {"request_id": "body"})
        assert found.request_id == "body"
        assert "[request id body]" in str(found)
        assert error(500, "text").request_id is None

    def test_the_message_is_short_and_hides_signed_queries(self) -> None:
        found = error(400, {"error": {"code": "x" * 10**6, "message": "https://h/a?sig=SECRET " + "y" * 10**6}})
        assert len(str(found)) < 1000
        assert len(found.code or "") <= 80
        assert "SECRET" not in str(found)
        assert len(error(400, {"request_id": "z" * 10**6}).request_id or "") <= 80


class TestCredit:
    @pytest.mark.parametrize("status", [401, 402, 403, 429])
    @pytest.mark.parametrize(
        "text",
        [
            "insufficient balance",
            "Insufficient Credits",
            "account in arrears",
            "please recharge",
            "Top up first",
            "top-up",
        ],
    )
    def test_a_text_about_money_is_about_money(self, status: int, text: str) -> None:
        found = error(status, {"message": text})
        assert type(found) is KirinCreditError
        assert not found.retryable
        assert "Top up" in str(found)

    @pytest.mark.parametrize("code", [40201, 40202, 40203, 40204, 40205, 40206, 40207, 40208, "40201", 1101, 1102])
    @pytest.mark.parametrize("status", [400, 402, 403, 429])
    def test_the_credit_codes_count_under_every_status(self, status: int, code: Any) -> None:
        found = error(status, {"error": {"code": code, "message": "x"}})
        assert type(found) is KirinCreditError
        assert not found.retryable

    @pytest.mark.parametrize(
        ("status", "text", "kind"),
        [
            (403, "invalid credentials", KirinAuthError),
            (429, "too many requests", KirinRateLimitError),
            (403, "denied by the load balancer", KirinAuthError),
        ],
    )
    def test_similar_words_do_not_count(self, status: int, text: str, kind: type[KirinAPIError]) -> None:
        assert type(error(status, {"message": text})) is kind


class TestConflict:
    @pytest.mark.parametrize("status", [400, 409, 422])
    @pytest.mark.parametrize(
        "text",
        ["external_task_id already exists", "duplicate external_task_id", "external_task_id must be unique"],
    )
    def test_an_external_task_id_that_is_taken(self, status: int, text: str) -> None:
        found = error(status, {"message": text})
        assert type(found) is KirinConflictError
        assert not found.retryable

    def test_another_complaint_about_it_is_none(self) -> None:
        assert type(error(400, {"message": "external_task_id must be a string"})) is KirinInputError


#: protocol.md, section 10 and Kling's table: code, class, whether another try can help.
KNOWN_CODES = [
    *((f"800200500{last}", KirinInputError, False) for last in range(1, 6)),
    ("8002005006", KirinAuthError, True),
    ("8002005098", KirinTaskFailedError, True),
    ("8002005099", KirinUnavailableError, True),
    *((code, KirinTaskFailedError, True) for code in ("014002095", "014002096", "014002097", "014002099")),
    ("110001", KirinInputError, False),
    ("190000", KirinInputError, False),
    *((str(code), KirinCreditError, False) for code in range(40201, 40209)),
    *((code, KirinCreditError, False) for code in ("1101", "1102")),
    ("1302", KirinRateLimitError, True),
    ("1303", KirinCapacityError, True),
    *((code, KirinAuthError, False) for code in ("1000", "1001", "1002", "1003", "1004", "1103", "1304")),
    *((code, KirinInputError, False) for code in ("1200", "1201", "1300", "1301")),
    *((code, KirinUnavailableError, True) for code in ("5000", "5001", "5002")),
]


class TestCodes:
    def test_the_table_holds_exactly_what_is_known(self) -> None:
        assert set(CODES) == {code for code, _, _ in KNOWN_CODES}

    @pytest.mark.parametrize(("code", "kind", "retryable"), KNOWN_CODES)
    def test_of_a_failed_generation(self, code: str, kind: type[KirinAPIError], retryable: bool) -> None:
        found = error_from_task(
            KirinTask.from_response(
                {"id": "d1", "status": "failed", "error": {"code": code, "error_message": "because"}}
            )
        )
        assert type(found) is kind
        assert found.retryable is retryable
        assert found.code == code
        assert found.http_status is None
        assert all(part in str(found) for part in ("d1", code, "because"))

    @pytest.mark.parametrize(("code", "kind", "retryable"), KNOWN_CODES)
    @pytest.mark.parametrize("status", [408, 500, 504])
    def test_a_code_does_not_explain_what_a_proxy_may_have_answered(
        self, status: int, code: str, kind: type[KirinAPIError], retryable: bool
    ) -> None:
        found = error(status, {"error": {"code": code, "message": "because"}})
        assert type(found) is KirinUnavailableError
        assert (found.retryable, found.code) == (True, code)

    @pytest.mark.parametrize(("code", "kind", "retryable"), KNOWN_CODES)
    @pytest.mark.parametrize("status", [200, 400])
    def test_of_an_http_response(self, status: int, code: str, kind: type[KirinAPIError], retryable: bool) -> None:
        found = error(status, {"error": {"code": code, "message": "because"}})
        assert type(found) is kind
        assert found.retryable is retryable
        assert found.code == code

    # A JSON number cannot start with 0.
    @pytest.mark.parametrize(("code", "kind", "retryable"), [case for case in KNOWN_CODES if case[0][0] != "0"])
    def test_given_as_a_number(self, code: str, kind: type[KirinAPIError], retryable: bool) -> None:
        assert type(error(400, {"error": {"code": int(code), "message": "because"}})) is kind


class TestAFullAccount:
    @pytest.mark.parametrize(
        "message",
        [
            "parallel task over resource pack limit",
            "Too many concurrent tasks",
            "concurrency limit reached",
            "You have 5 running generations",
            "too many jobs in progress",
        ],
    )
    def test_is_distinguished_from_the_request_rate_by_its_text(self, message: str) -> None:
        assert type(error(429, {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": message}})) is KirinCapacityError

    @pytest.mark.parametrize(
        "body",
        [
            None,
            {"error": {"code": "RATE_LIMIT_EXCEEDED", "message": "Rate limit exceeded"}},
            {"message": "too many concurrent requests"},
            {"message": "parallel API calls are limited"},
            {"error": {"code": 1302, "message": "too many parallel tasks"}},
        ],
    )
    def test_is_nothing_that_seconds_help_against(self, body: Any) -> None:
        assert type(error(429, body)) is KirinRateLimitError

    def test_is_not_assumed_from_any_other_status(self) -> None:
        assert type(error(503, {"error": {"code": 1303, "message": "parallel tasks"}})) is KirinUnavailableError


class TestFinishedGenerations:
    def test_one_with_a_video_is_no_error(self) -> None:
        response = {
            "id": "d1",
            "status": "completed",
            "output": [{"content": [{"url": "https://h/1", "type": "video"}]}],
        }
        assert error_from_task(KirinTask.from_response(response)) is None

    @pytest.mark.parametrize("output", [None, [], [{"content": [{"type": "image", "url": "https://h/1"}]}]])
    def test_one_without_a_video_is_final(self, output: Any) -> None:
        found = error_from_task(KirinTask.from_response({"id": "d1", "status": "completed", "output": output}))
        assert type(found) is KirinNoVideoError
        assert isinstance(found, KirinTaskFailedError)
        assert not found.retryable
        assert "d1" in str(found)

    @pytest.mark.parametrize("reason", [None, {}, "it broke", {"code": "999", "message": "new"}, {"code": "0"}])
    def test_a_failure_with_an_unknown_reason(self, reason: Any) -> None:
        found = error_from_task(KirinTask.from_response({"id": "d1", "status": "failed", "error": reason}))
        assert type(found) is KirinTaskFailedError
        assert found.retryable

    def test_the_message_stays_short_for_any_response(self) -> None:
        reason = {"code": "x" * 10**6, "message": "y" * 10**6}
        found = error_from_task(KirinTask.from_response({"id": "d1", "status": "failed", "error": reason}))
        assert len(str(found)) < 1000


class TestRetryAfter:
    NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("7", 7.0),
            (" 7 ", 7.0),
            ("1.5", 1.5),
            ("0", 0.0),
            ("-5", 0.0),
            ("100000", MAX_RETRY_AFTER),
            ("inf", MAX_RETRY_AFTER),
            ("nan", None),
            ("", None),
            (None, None),
            ("soon", None),
            ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
            ("Mon, 23 Nov 2026 12:00:30 -0000", 30.0),
            ("Mon, 23 Nov 2026 13:00:30 +0100", 30.0),
            ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
            ("Tue, 24 Nov 2026 12:00:00 GMT", MAX_RETRY_AFTER),
            ("Mon, 99 Nov 2026 12:00:30 GMT", None),
            ("Mon, 23 Nov 99999999999 12:00:30 GMT", None),
        ],
    )
    def test_seconds_dates_and_garbage(self, value: str | None, seconds: float | None) -> None:
        assert parse_retry_after(value, now=self.NOW) == seconds

    def test_the_longest_pause_is_some_minutes(self) -> None:
        assert 60 <= MAX_RETRY_AFTER <= 600

    @settings(max_examples=300)
    @given(
        st.text(max_size=60)
        | st.floats().map(str)
        | st.from_regex(r"Mon, \d{1,3} Nov \d{1,12} \d{1,3}:\d\d:\d\d [+-]\d{1,12}", fullmatch=True)
    )
    @example("Mon, 1 Nov 99999999999 0:00:00 +0000")
    def test_any_header_gives_a_bounded_pause_or_none(self, value: str) -> None:
        seconds = parse_retry_after(value, now=self.NOW)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER

    def test_the_error_carries_it_whatever_the_case_of_the_header(self) -> None:
        assert error(429, None, Retry_After="9").retry_after == 9.0
        assert error(503, None, RETRY_AFTER="9").retry_after == 9.0
        assert error(429).retry_after is None

    def test_without_a_clock_the_real_one_is_read(self) -> None:
        assert parse_retry_after("Mon, 23 Nov 2015 12:00:00 GMT") == 0.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "status", "data", "code", "message", "detail", "request_id", "error_code"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.integers(100, 999), json_values)
def test_every_body_gives_a_short_error_of_ours(status: int, body: Any) -> None:
    found = error_from_response(status, body, headers={}, doing=DOING)
    assert isinstance(found, KirinError)
    assert len(str(found)) < 1000


@pytest.mark.parametrize(
    ("body", "from_api"),
    [
        ({"detail": "Request not found"}, True),
        ({"error": {"code": "NOT_FOUND", "message": "no such task"}}, True),
        ({"detail": "Not Found"}, True),
        ({"message": "no Route matched with those values"}, False),
        # As APISIX, Spring and a gateway that has nothing to say put it.
        ({"error_msg": "404 Route Not Found"}, False),
        ({"status": 404, "error": "Not Found", "path": "/model/v1/generation/task/x"}, False),
        ({"code": 404}, False),
        ({}, False),
        ({"status": {"code": 404, "message": "Task not found"}, "data": None}, True),
        ({"error": "generation does not exist"}, True),
        ("<html>default backend - 404</html>", False),
        ("", False),
        (None, False),
    ],
)
def test_a_404_of_the_api_is_distinguished_from_one_of_a_proxy(body: object, from_api: bool) -> None:
    found = error_from_response(404, body, doing="asking")
    assert isinstance(found, KirinNotFoundError)
    assert found.from_api is from_api


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("body", "from_api"),
    [
        ({"error": {"code": "UNAUTHORIZED", "message": "invalid token"}}, True),
        ({"detail": "Forbidden"}, True),
        ({}, True),
        ("", True),
        (None, True),
        ("<html><h1>403 Forbidden</h1><hr>nginx</html>", False),
        ("error code: 1020", False),
    ],
)
def test_a_refusal_by_the_api_is_distinguished_from_the_page_of_a_firewall(
    status: int, body: object, from_api: bool
) -> None:
    found = error_from_response(status, body, doing="asking")
    assert isinstance(found, KirinAuthError)
    assert found.from_api is from_api
