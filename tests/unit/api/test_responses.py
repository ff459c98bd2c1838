"""The bytes of any HTTP response become a task or one of our errors, and nothing else."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.requests import MAX_RESPONSE_BYTES
from airflow_provider_kirin.api.responses import parse_body, parse_task
from airflow_provider_kirin.api.sanitize import MAX_VALUES
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinConfigError,
    KirinCreditError,
    KirinError,
    KirinInputError,
    KirinNotFoundError,
    KirinResponseError,
    KirinUnavailableError,
)

GOOD = {
    "id": "d1",
    "status": "completed",
    "model": "kirin_v1_6_i2v",
    "output": [{"content": [{"type": "video", "url": "https://h/1.mp4?sig=SECRET", "duration": "5"}]}],
    "usage": {"cost": "0.28"},
}


def read(raw: bytes | Any, status: int = 200, **options: Any) -> KirinTask:
    body = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    return parse_task(status, {}, parse_body(body), doing="asking for d1", **options)


class TestSuccessfulResponses:
    @pytest.mark.parametrize("status", [200, 201, 202, 299])
    def test_a_task_object_is_a_task(self, status: int) -> None:
        assert read(GOOD, status, asked_for="d1").videos[0].duration == 5.0

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
    def test_in_every_encoding_that_json_may_have(self, encoding: str) -> None:
        raw = json.dumps(GOOD | {"model": "麒麟"}, ensure_ascii=False).encode(encoding)
        assert read(raw).model == "麒麟"

    def test_the_older_envelope_of_a_success(self) -> None:
        response = {"status": {"code": 200, "message": "ok"}, "data": {"id": "d1", "status": "in_queue"}}
        assert read(response).status == "in_progress"

    def test_an_error_field_of_a_running_task_does_not_matter(self) -> None:
        assert read({"id": "d1", "status": "in_progress", "error": None}).error is None


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, b'{"error":{"code":"UNAUTHORIZED","message":"no"}}', KirinAuthError),
            (404, b'{"detail":"Request not found"}', KirinNotFoundError),
            (404, b"<html>nginx</html>", KirinNotFoundError),
            (502, b"", KirinUnavailableError),
            (302, b"", KirinConfigError),
        ],
    )
    def test_the_http_status_says_no(self, status: int, body: bytes, kind: type[KirinError]) -> None:
        with pytest.raises(kind):
            read(body, status)

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            ({"status": {"code": 404, "message": "Task not found"}, "data": None}, KirinNotFoundError),
            ({"status": {"code": 402, "message": "x", "error_code": 40203}, "data": None}, KirinCreditError),
            ({"status": {"code": 500, "message": "x"}, "data": {"id": "d1"}}, KirinUnavailableError),
        ],
    )
    def test_an_envelope_says_no_under_http_200(self, body: Any, kind: type[KirinError]) -> None:
        with pytest.raises(kind):
            read(body, asked_for="d1")

    def test_a_submission_without_an_id_says_why(self) -> None:
        with pytest.raises(KirinInputError, match="no image") as caught:
            read({"error": {"code": "8002005001", "message": "no image"}})
        assert caught.value.code == "8002005001"

    def test_a_submission_without_an_id_and_without_a_reason(self) -> None:
        with pytest.raises(KirinResponseError, match="no task id"):
            read({"created_at": 5})

    def test_a_lookup_without_a_status_says_why(self) -> None:
        with pytest.raises(KirinAPIError, match="busy"):
            read({"message": "busy"}, asked_for="d1")

    @pytest.mark.parametrize(
        ("raw", "said"),
        [
            (b"", "an empty body"),
            (b"null", "an empty body"),
            (b"<!doctype html><title>Login", "an HTML page"),
            (b"OK", "OK"),
            (b"[]", "<list of 0>"),
            (b"5", "5"),
            (b'"text"', "text"),
            (json.dumps(GOOD).encode()[:-1], "sig"),
            (gzip.compress(b"{}", mtime=0), ""),
            (b"{'id': 'd1'}", "d1"),
            (b"\xff\xfe\x00", ""),
        ],
    )
    def test_a_response_that_is_not_the_apis_is_reported_as_such(self, raw: bytes, said: str) -> None:
        with pytest.raises(KirinResponseError) as caught:
            read(raw, asked_for="d1")
        if said != "sig":
            assert said in str(caught.value)
        assert "asking for d1" in str(caught.value)
        assert "SECRET" not in str(caught.value)
        assert caught.value.retryable

    def test_a_cut_response_is_never_a_task(self) -> None:
        raw = json.dumps(GOOD).encode()
        for length in range(len(raw)):
            with pytest.raises(KirinResponseError):
                read(raw[:length], asked_for="d1")


class TestBody:
    @pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
    def test_what_json_has_not_is_nothing(self, constant: bytes) -> None:
        assert parse_body(b'{"a":' + constant + b"}") == {"a": None}

    @pytest.mark.parametrize("body", ["[" + "[]," * 5_000 + "1]", '{"a":' * 300 + "1" + "}" * 300])
    def test_what_has_thousands_of_lists_is_not_parsed(self, body: str) -> None:
        assert isinstance(parse_body(body.encode()), str) is (body.count("[") > 2_000)

    def test_text_is_cut(self) -> None:
        assert len(parse_body(b"x" * 10**6)) == 2000


def judged(status: int, raw: bytes, asked_for: str | None = "d1") -> KirinTask | KirinError:
    refusal = None
    try:
        kirin_task = parse_task(status, {}, parse_body(raw), doing="asking for d1", asked_for=asked_for)
    except KirinError as error:
        refusal = error
    if refusal:
        assert len(str(refusal)) < 1000
        return refusal
    text = json.dumps(kirin_task.to_dict(), allow_nan=False)
    assert KirinTask.from_dict(json.loads(text)) == kirin_task
    if kirin_task.is_final:
        error_from_task(kirin_task)
    return kirin_task


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.integers(10**300, 10**310),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "status", "data", "output", "content", "url", "type", "duration", "usage", "cost", "error"]
            )
            | st.sampled_from(["message", "code", "metadata", "progress", "created_at", "external_task_id", "task_id"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
statuses = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 503])


class TestAnyResponseAtAll:
    @settings(max_examples=200)
    @given(statuses, anything, st.sampled_from([None, "d1"]))
    def test_any_json(self, status: int, value: Any, asked_for: str | None) -> None:
        judged(status, json.dumps(value).encode(), asked_for)

    @settings(max_examples=200)
    @given(st.dictionaries(st.sampled_from(list(GOOD)), anything), statuses)
    def test_a_task_object_with_anything_in_its_fields(self, changes: dict[str, Any], status: int) -> None:
        judged(status, json.dumps(GOOD | changes).encode())

    @settings(max_examples=200)
    @given(st.binary(max_size=300), statuses)
    def test_any_bytes(self, raw: bytes, status: int) -> None:
        judged(status, raw)

    @settings(max_examples=200)
    @given(st.data())
    def test_a_task_object_with_one_byte_changed(self, data: st.DataObject) -> None:
        raw = bytearray(json.dumps(GOOD).encode())
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        judged(200, bytes(raw))

    @settings(max_examples=100)
    @given(st.text(max_size=200), st.sampled_from(["utf-8", "utf-16", "utf-32-le", "latin-1", "shift_jis", "cp037"]))
    def test_any_text_in_any_encoding(self, text: str, encoding: str) -> None:
        judged(200, json.dumps({"id": text, "status": text}, ensure_ascii=False).encode(encoding, errors="replace"))

    @settings(max_examples=60)
    @given(
        st.sampled_from(["%s", '{"id":"a","status":"failed","error":{"message":%s}}', '{"detail":%s}', '{"error":%s}'])
        | st.sampled_from(['{"id":"a","status":"done","metadata":{"a":%s}}', '{"id":%s}', '{"request_id":%s}']),
        st.integers(1, 1200) | st.integers(1201, 200_000),
        st.sampled_from([200, 400]),
    )
    @example("%s", 1_000_000, 200)
    def test_any_depth_of_nesting(self, place: str, depth: int, status: int) -> None:
        judged(status, (place % ("[" * depth + "]" * depth)).encode())

    @pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 4000, "1" * 100_000, "0." + "1" * 100_000, "1e-999"])
    @pytest.mark.parametrize(
        "place",
        [
            '{"id":"a","status":"completed","created_at":%s,"progress":%s}',
            '{"id":"a","status":"completed","usage":{"cost":%s,"discount":%s}}',
            '{"id":"a","status":"failed","error":{"code":%s,"message":%s}}',
            '{"id":"a","status":"completed","metadata":{"x":%s,"y":[%s]}}',
            '{"id":%s,"status":%s}',
            '{"status":{"code":%s,"message":%s}}',
        ],
    )
    def test_excessive_numbers(self, place: str, number: str) -> None:
        judged(200, (place % (number, number)).encode())

    def test_of_the_largest_response_nothing_is_read_twice(self) -> None:
        entry = b'{"type":"video","url":"https://h/a?s=1"},'
        raw = b'{"id":"a","status":"completed","output":[{"content":[' + entry * (MAX_RESPONSE_BYTES // len(entry))
        for one in (
            raw[: MAX_RESPONSE_BYTES - 5],
            raw[:-1] + b"]}]}",
            b"{" * MAX_RESPONSE_BYTES,
            b"<" * MAX_RESPONSE_BYTES,
        ):
            read: list[int] = []
            body = parse_body(one, hide=lambda text, read=read: read.append(len(text)) or text)  # type: ignore
            assert sum(read) <= len(one)
            with suppress(KirinError):
                assert len(parse_task(200, {}, body, doing="asking for d1", asked_for="d1").videos) <= MAX_VALUES


class TestExternalTaskId:
    @pytest.mark.parametrize(
        ("response", "asked_for", "known", "external_task_id"),
        [
            ({"id": "k1"}, "mine", None, "mine"),
            ({"id": "k1"}, "k1", None, None),
            ({"id": "k1"}, "k1", "mine", "mine"),
            ({"id": "k1"}, None, "mine", "mine"),
            ({"id": "k1", "external_task_id": "mine"}, "k1", None, "mine"),
            ({"id": "k1", "external_task_id": " mine "}, None, "mine", "mine"),
        ],
        ids=["asked for", "unknown", "known beside the id", "submitted", "reported", "submitted and reported"],
    )
    def test_the_external_task_id_is_kept_if_the_gateway_does_not_repeat_it(
        self, response: dict[str, Any], asked_for: str | None, known: str | None, external_task_id: str | None
    ) -> None:
        body = {"status": "in_progress", **response}
        kirin_task = parse_task(200, {}, body, doing="asking", asked_for=asked_for, external_task_id=known)
        assert kirin_task.external_task_id == external_task_id

    @pytest.mark.parametrize(
        ("response", "asked_for"),
        [
            ({"id": "k1", "external_task_id": "bob-1"}, None),
            ({"id": "k1", "external_task_id": "bob-1"}, "k1"),
            # What a gateway makes of an id that it does not know.
            ({"id": "mine"}, None),
        ],
        ids=["submitted", "polled", "no id of its own"],
    )
    def test_another_generation_than_the_submitted_one_is_refused(
        self, response: dict[str, Any], asked_for: str | None
    ) -> None:
        body = {"status": "in_progress", **response}
        with pytest.raises(KirinResponseError, match=f"about 'mine' describes another generation: '{response['id']}'"):
            parse_task(200, {}, body, doing="asking", asked_for=asked_for, external_task_id="mine")
