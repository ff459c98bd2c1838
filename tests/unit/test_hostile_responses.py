"""Whatever a gateway answers, what leaves the reader can be stored and sent by Airflow, and holds no key."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.responses import parse_body, parse_task
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.compat import supervisor_encoder
from airflow_provider_kirin.connection import KirinConnection
from airflow_provider_kirin.exceptions import KirinAPIError, KirinError, KirinNoVideoError, KirinResponseError
from airflow_provider_kirin.hooks.transport import _safe_headers
from airflow_provider_kirin.triggers.encoding import limit_size, make_event, serialize
from airflow_provider_kirin.triggers.events import Outcome, load_event

KEY = 'sk-KEY/M+A\\RK"1'
CONNECTION = KirinConnection("https://cloud.vtrix.ai/model", KEY)
VIDEO = {"output": [{"content": [{"type": "video", "url": "http://127.0.0.1/v.mp4"}]}]}
DONE = {"id": "d1", "status": "completed", **VIDEO}


def outcome_of(raw: bytes, status: int = 200, asked_for: str | None = "d1", **headers: str) -> Outcome:
    """Return how a wait ends that gets this response."""
    try:
        body = parse_body(raw, hide=CONNECTION.hide_key)
        kirin_task = parse_task(
            status, _safe_headers(headers, CONNECTION), body, doing="asking for d1", asked_for=asked_for
        )
        return error_from_task(kirin_task) or kirin_task if kirin_task.is_final else kirin_task
    except KirinError as error:
        return error


def through_airflow(outcome: Outcome) -> Any:
    """Return an event after its trip from the trigger to the task: msgpack, serde, PostgreSQL's JSON."""
    event = make_event([outcome])
    assert "cannot encode the outcome" not in str(event.payload["results"])
    sent = event.payload
    if (encoder := supervisor_encoder()) is not None:
        msgpack = importlib.import_module("msgspec.msgpack")
        sent = msgpack.decode(encoder.encode(TriggerEvent(event.payload).model_dump()))["payload"]
    stored = json.dumps(serialize(sent), allow_nan=False, ensure_ascii=False).encode()
    assert b"\\u0000" not in stored
    return importlib.import_module(serialize.__module__).deserialize(json.loads(stored))


def judge(outcome: Outcome) -> None:
    arrived = through_airflow(outcome)
    assert KEY not in json.dumps(arrived, ensure_ascii=False).replace("\\\\", "\\").replace('\\"', '"')
    if isinstance(outcome, KirinTask) and not outcome.is_final:
        return
    (read,) = load_event(arrived, expected=1)
    assert str(read) == str(outcome)


class TestCases:
    """What was tried by hand, see docs/reference/sensor.md."""

    @pytest.mark.parametrize("note", ["cut emoji \ud83d", 18446744073709551616, "NUL \x00", {"__classname__": "x"}])
    def test_a_value_that_airflow_cannot_encode(self, note: Any) -> None:
        outcome = outcome_of(json.dumps({**DONE, "metadata": {"note": note}}).encode())
        assert isinstance(outcome, KirinTask)
        assert "note" in outcome.metadata
        judge(outcome)

    def test_an_integer_of_more_digits_than_python_reads(self) -> None:
        raw = json.dumps({**DONE, "metadata": {"note": 1}}).encode().replace(b'"note": 1', b'"note": ' + b"9" * 5_000)
        outcome = outcome_of(raw)
        assert isinstance(outcome, KirinTask)
        assert outcome.metadata == {"note": None}

    def test_a_key_that_is_echoed_with_json_escapes(self) -> None:
        raw = rb'{"error":{"message":"bad header: Bearer \u0073k-KEY\/M\u002bA\\RK\"1"}}'
        outcome = outcome_of(raw, 401)
        assert "bad header: Bearer ***" in str(outcome)
        judge(outcome)

    def test_completed_and_empty_with_a_reason_beside_it(self) -> None:
        error = {"code": 110001, "error_message": "image judged sensitive"}
        outcome = outcome_of(json.dumps({"id": "d1", "status": "completed", "output": [], "error": error}).encode())
        assert isinstance(outcome, KirinNoVideoError)
        assert outcome.code == "110001"
        assert "image judged sensitive" in str(outcome)
        judge(outcome)

    @pytest.mark.parametrize(
        ("status", "body", "code", "words"),
        [
            (401, {"msg": "token expired", "code": 4001}, "4001", "token expired"),
            (400, {"errors": [{"message": "bad id"}]}, None, "bad id"),
            (400, {"errors": ["bad id", "and more"]}, None, "bad id"),
        ],
    )
    def test_a_reason_under_other_names(self, status: int, body: Any, code: str | None, words: str) -> None:
        outcome = outcome_of(json.dumps(body).encode(), status)
        assert isinstance(outcome, KirinAPIError)
        assert outcome.code == code
        assert words in str(outcome)

    def test_a_final_word_that_is_not_documented(self) -> None:
        error = {"code": "X", "message": "cancelled in the console"}
        outcome = outcome_of(json.dumps({"id": "d1", "status": "cancelled", "error": error}).encode())
        assert isinstance(outcome, KirinAPIError)
        assert outcome.code == "X"
        assert "cancelled in the console" in str(outcome)
        assert "billed" not in str(outcome)

    def test_a_negative_cost(self) -> None:
        outcome = outcome_of(json.dumps({**DONE, "usage": {"cost": "-100"}}).encode())
        assert isinstance(outcome, KirinTask)
        assert outcome.usage is not None
        assert outcome.usage.cost is None
        assert outcome.dropped == ("usage.cost = -100",)

    @pytest.mark.parametrize("asked_for", ["d1", "airflow-x"])
    @pytest.mark.parametrize("more", [{}, {"message": "ok"}, {"code": "1"}])
    def test_another_generation_than_the_one_asked_for(self, asked_for: str, more: Any) -> None:
        body = {**DONE, "id": "bobs", "external_task_id": "bob-1", **more}
        outcome = outcome_of(json.dumps(body).encode(), asked_for=asked_for)
        assert type(outcome) is KirinResponseError
        assert outcome.retryable

    @pytest.mark.parametrize("body", [{"id": "a\x00b", "status": "in_progress", "message": "ok"}, {"id": "None"}])
    def test_a_new_generation_without_a_usable_id(self, body: Any) -> None:
        assert type(outcome_of(json.dumps(body).encode(), asked_for=None)) is KirinResponseError


class TestTheKey:
    @given(st.data(), st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
    def test_is_hidden_in_any_json_spelling(self, data: st.DataObject, encoding: str) -> None:
        forms = [
            lambda char: json.dumps(char)[1:-1],
            lambda char: f"\\u{ord(char):04x}",
            lambda char: f"\\u{ord(char):04X}",
            lambda char: "\\/" if char == "/" else json.dumps(char)[1:-1],
        ]
        spelt = "".join(data.draw(st.sampled_from(forms))(char) for char in KEY)
        raw = f'{{"{spelt}": ["x{spelt}y"], "error": "Bearer {spelt}"}}'.encode(encoding)
        assert parse_body(raw, hide=CONNECTION.hide_key) == {"***": ["x***y"], "error": "Bearer ***"}

    @pytest.mark.parametrize(
        "spelt",
        [
            "sk-KEY%2FM%2bA%5CRK%221",
            r"\u0073k-KEY\/M+A\\RK\"1",
            "&#115;k-KEY&#x2F;M+A\\RK&#34;1",
            r"\x73k-KEY/M+A\\RK\"1",
        ],
    )
    def test_is_hidden_in_text_that_is_escaped_otherwise(self, spelt: str) -> None:
        assert CONNECTION.hide_key(f"no such key: {spelt}!") == "no such key: ***!"
        assert parse_body(f"<p>{spelt}</p>".encode(), hide=CONNECTION.hide_key) == "<p>***</p>"


odd_text = st.text(max_size=12) | st.sampled_from(
    ["\ud83d", "a\x00b", "\x1b[2J", KEY, "__classname__", "airflow.sdk.definitions.asset.Asset", "x" * 20_000]
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**63, 2**70) | st.floats() | odd_text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["__classname__", "__id__", "__version__", "__data__", "__type", "__var", "code", "message"]
            )
            | odd_text,
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


class TestAnythingAnywhere:
    @settings(max_examples=100)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["id", "status", "model", "created_at", "progress", "output", "usage", "error", "errors", "metadata"]
            )
            | st.sampled_from(["external_task_id", "request_id", "data", "msg", "detail"]),
            odd,
        ),
        st.sampled_from([200, 200, 400, 401, 404, 429, 500]),
        st.sampled_from([None, "d1"]),
        odd_text,
    )
    @example({"created_at": 1e300}, 200, "d1", "")
    @example({"metadata": {"__classname__": "x", "__version__": 1}}, 200, "d1", "")
    @example({"request_id": "\ud83d"}, 500, "d1", "")
    @example({}, 500, "d1", "\udc80")
    def test_in_a_task_object(self, changes: Any, status: int, asked_for: str | None, header: str) -> None:
        raw = json.dumps({**DONE, **changes}).encode()
        judge(outcome_of(raw, status, asked_for, **{"X-Request-Id": header}))

    @settings(max_examples=100)
    @given(st.data())
    def test_at_any_place_of_a_response(self, data: st.DataObject) -> None:
        body: Any = json.loads(
            json.dumps({**DONE, "usage": {"cost": "1"}, "metadata": {"a": [1]}, "error": {"code": "1", "message": "m"}})
        )
        parent, place = body, data.draw(st.sampled_from(sorted(body)))
        while isinstance(parent[place], dict | list) and data.draw(st.booleans()):
            parent = parent[place]
            place = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        parent[place] = data.draw(odd)
        judge(outcome_of(json.dumps(body).encode(), data.draw(st.sampled_from([200, 400, 503]))))


class TestTheProof:
    def test_an_outcome_that_airflow_cannot_encode_is_an_error_of_its_own(self) -> None:
        fine = KirinTask.from_response(DONE)
        # JSON has integers of any size, which is all that Airflow before 3.1 encodes events with.
        too_large = [{"a": 2**64}] if supervisor_encoder() is not None else []
        for metadata in (*too_large, {"a": "\ud83d"}, {"a": "\x00"}, {"__classname__": "x"}, {"a": object()}):
            bad = KirinTask(id="d2", status="completed", videos=fine.videos, metadata=metadata)
            first, second = load_event(make_event([fine, bad]).payload, expected=2)
            assert first == fine
            assert isinstance(second, KirinResponseError)
            assert second.retryable
            assert "cannot encode" in str(second)


class TestTheSize:
    def test_of_one_generation_is_no_matter(self) -> None:
        large = KirinTask.from_response({**DONE, "metadata": {"a": "x" * 16_000}})
        assert limit_size([large]) == [large]

    def test_of_many_is_bounded_by_dropping_metadata(self, caplog: pytest.LogCaptureFixture) -> None:
        small = KirinTask.from_response(DONE)
        large = KirinTask.from_response({**DONE, "id": "d2", "metadata": {"a": "x" * 16_000}})
        failed = error_from_task(KirinTask("d3", "failed", metadata=large.metadata))
        assert isinstance(failed, KirinAPIError)
        assert limit_size([small, large, failed] * 200) == [small, replace(large, metadata={}), failed] * 200
        assert failed.kirin_task == KirinTask("d3", "failed")
        assert "metadata of Kirin generation d2" in caplog.text

    def test_a_generation_with_too_many_long_links_is_an_error_of_its_own(self) -> None:
        small = KirinTask.from_response(DONE)
        link = {"content": [{"type": "video", "url": "http://127.0.0.1/" + "v" * 2_400}]}
        huge = KirinTask.from_response({**DONE, "id": "d2", "output": [link] * 100})
        first, second, *_ = limit_size([small, huge] * 200)
        assert first == small
        assert isinstance(second, KirinResponseError)
        assert "d2" in str(second) and "wait for it alone" in str(second)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("shift", range(0, 44, 3))
def test_a_key_that_is_repeated_beyond_the_cut_leaves_no_part_of_it(shift: int, as_json: bool) -> None:
    """Hiding shortens the text, so that what lay at the cut may move to where it is kept."""
    key = "sk-" + "abcdefghij" * 4
    text = "-" * shift + key * 2000
    raw = json.dumps({"note": text}) if as_json else text
    read = parse_body(raw.encode(), hide=KirinConnection("https://cloud.vtrix.ai/model", key).hide_key)
    assert "abcde" not in json.dumps(read)
