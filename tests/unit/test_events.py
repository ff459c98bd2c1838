"""Trigger events survive the trip through Airflow's database unchanged; anything else is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin import exceptions
from airflow_provider_kirin.api.errors import error_from_response, error_from_task
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinConfigError,
    KirinError,
    KirinNetworkError,
    KirinNoVideoError,
    KirinPayloadError,
    KirinResponseError,
    KirinTaskFailedError,
    KirinTimeoutError,
    Problem,
)
from airflow_provider_kirin.triggers.events import (
    EventPayload,
    Outcome,
    dump_event,
    hand_back_deadline,
    hand_back_to_worker,
    load_event,
)

DONE = KirinTask.from_response(
    {
        "id": "d1",
        "status": "completed",
        "model": "kirin_v1_6_i2v",
        "output": [{"content": [{"type": "video", "url": "https://cdn.example/1.mp4?sig=SECRET", "duration": 5}]}],
        "usage": {"cost": "0.280"},
        "metadata": {"completed_at": 5},
        "external_task_id": "row-7",
    }
)
ERRORS: list[KirinError] = [
    error_from_response(429, {"error": {"code": 1303, "message": "slow"}}, headers={"X-Request-Id": "r"}, doing="d"),
    error_from_response(401, "no", doing="d"),
    error_from_response(404, {"detail": "Request not found"}, doing="d"),
    error_from_response(503, None, doing="d"),
    error_from_response(302, None, doing="d"),
    error_from_task(KirinTask.from_response({"id": "d1", "status": "failed", "error": {"code": "8002005006"}}))
    or KirinError(""),
    error_from_task(KirinTask.from_response({"id": "d1", "status": "failed", "error": "broke"})) or KirinError(""),
    KirinNoVideoError("nothing in it"),
    error_from_task(KirinTask.from_response({"id": "d2", "status": "completed", "usage": {"cost": "0.28"}}))
    or KirinError(""),
    KirinTimeoutError("it continues", kirin_task_ids=["d1"]),
    KirinNetworkError("cut"),
    KirinResponseError("html"),
    KirinConfigError("no key"),
    KirinError("x", retryable=True),
    KirinTaskFailedError("x", retryable=False),
]


def through_the_database(event: Any) -> Any:
    return json.loads(json.dumps(event, allow_nan=False))


def traits(outcome: Outcome) -> Any:
    if isinstance(outcome, KirinTask):
        return outcome
    names = ("message", "retryable", "code", "http_status", "request_id", "kirin_task_ids", "kirin_task")
    return type(outcome), str(outcome), {name: getattr(outcome, name, None) for name in names}


class TestRoundTrip:
    def test_a_finished_generation(self) -> None:
        (outcome,) = load_event(through_the_database(dump_event([DONE])), expected=1)
        assert outcome == DONE

    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    def test_every_error(self, error: KirinError) -> None:
        (outcome,) = load_event(through_the_database(dump_event([error])), expected=1)
        assert traits(outcome) == traits(error)

    def test_every_class_of_api_error(self) -> None:
        for kind in vars(exceptions).values():
            if isinstance(kind, type) and issubclass(kind, KirinAPIError):
                error = kind("x", code="014002095", http_status=418, request_id="r", retryable=True)
                (outcome,) = load_event(through_the_database(dump_event([error])), expected=1)
                assert traits(outcome) == traits(error)

    @given(st.lists(st.sampled_from([DONE, *ERRORS]), max_size=5))
    def test_outcomes_keep_their_order(self, outcomes: list[Outcome]) -> None:
        read = load_event(through_the_database(dump_event(outcomes)), expected=len(outcomes))
        assert [traits(outcome) for outcome in read] == [traits(outcome) for outcome in outcomes]

    def test_an_event_without_outcomes(self) -> None:
        assert load_event(through_the_database(dump_event([])), expected=0) == []


class TestFailsClosed:
    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_an_unexpected_number_of_outcomes_is_refused(self, expected: int) -> None:
        with pytest.raises(KirinResponseError):
            load_event(dump_event([DONE, DONE]), expected=expected)

    @pytest.mark.parametrize(
        "event",
        [
            None,
            [],
            "completed",
            {},
            {"version": 1},
            {"version": 1, "results": None},
            {"version": 1, "results": {"0": {}}},
            {"version": 1, "results": [None]},
            {"version": 1, "results": [{}]},
            {"version": 1, "results": ["d1"]},
            {"version": 2, "results": [{"kirin_task": DONE.to_dict()}]},
            {"results": [{"kirin_task": DONE.to_dict()}]},
            {"version": 1, "results": [{"kirin_task": None}]},
            {"version": 1, "results": [{"kirin_task": {}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "videos": []}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "videos": "https://h/1"}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "status": "in_progress"}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "status": "failed"}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "status": "paused"}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "id": ""}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "metadata": "abc"}}]},
            {"version": 1, "results": [{"kirin_task": {**DONE.to_dict(), "metadata": 5}}]},
            {"version": 1, "results": [{"kirin_task": DONE.to_dict(), "error": None}]},
            {"version": 1, "results": [{"error": None}]},
            {"version": 1, "results": [{"error": "KirinAuthError"}]},
            {"version": 1, "results": [{"error": {}}]},
            {"version": 1, "results": [{"error": {"type": "ValueError", "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": "KirinPayloadError", "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": "Problem", "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": "Sequence", "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": None, "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": ["KirinAuthError"], "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": {}, "message": "x"}}]},
            {"version": 1, "results": [{"error": {"type": "KirinAuthError"}}]},
            {"version": 1, "results": [{"error": {"type": "KirinAuthError", "message": None}}]},
            {"version": 1, "results": [{"error": {"type": "KirinTimeoutError", "message": "x", "kirin_task_ids": 5}}]},
            {
                "version": 1,
                "results": [{"error": {"type": "KirinTimeoutError", "message": "x", "kirin_task_ids": "d1"}}],
            },
        ],
        ids=lambda event: str(event)[:70],
    )
    def test_an_invalid_event_is_refused(self, event: Any) -> None:
        with pytest.raises(KirinResponseError):
            load_event(event, expected=1)

    def test_a_payload_error_is_refused(self) -> None:
        error = KirinPayloadError([Problem("a", "b", "c", "d")], model="m")
        with pytest.raises(KirinResponseError):
            load_event(through_the_database(dump_event([error])), expected=1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "results", "kirin_task", "error", "type", "message", "id", "status"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


def read_safely(event: Any, expected: int) -> list[Outcome] | None:
    try:
        return load_event(event, expected=expected)
    except KirinResponseError:
        return None


class TestArbitraryEvents:
    @settings(max_examples=200)
    @given(json_values)
    def test_arbitrary_json_is_refused(self, event: Any) -> None:
        assert read_safely(event, 1) is None

    @settings(max_examples=300)
    @given(st.data())
    def test_a_modified_event_is_refused_or_still_consistent(self, data: st.DataObject) -> None:
        outcome = data.draw(st.sampled_from([DONE, *ERRORS]))
        event = through_the_database(dump_event([outcome]))
        # Walk to a random place in the event, and replace its value.
        parent, place = event, data.draw(st.sampled_from(sorted(event)))
        while isinstance(parent[place], dict | list) and parent[place] and data.draw(st.booleans()):
            parent = parent[place]
            places = sorted(parent) if isinstance(parent, dict) else list(range(len(parent)))
            place = data.draw(st.sampled_from(places))
        parent[place] = data.draw(json_values)
        self.check(event)

    @given(
        st.sampled_from(["KirinAuthError", "KirinTimeoutError", "KirinNetworkError"]),
        st.dictionaries(
            st.sampled_from(["message", "retryable", "code", "http_status", "request_id", "kirin_task_ids"]),
            json_values,
        ),
    )
    @example("KirinTimeoutError", {"kirin_task_ids": 5})
    def test_an_error_with_arbitrary_fields_is_refused_or_consistent(self, kind: str, fields: dict[str, Any]) -> None:
        self.check({"version": 1, "results": [{"error": {"type": kind, **fields}}]})

    def check(self, event: Any) -> None:
        before = copy.deepcopy(event)
        outcomes = read_safely(event, 1)
        assert event == before
        if outcomes is None:
            return
        (outcome,) = outcomes
        if isinstance(outcome, KirinTask):
            assert outcome.status == "completed"
            assert outcome.videos
            assert isinstance(outcome.id, str)
            through_the_database(outcome.to_dict())
        else:
            assert isinstance(outcome, KirinError)
            assert isinstance(outcome.retryable, bool)


class TestReprInTheTriggererLog:
    def test_shows_counts_without_urls(self) -> None:
        event = dump_event([DONE, DONE, KirinAuthError("see https://h/a?sig=SECRET")])
        for shown in (repr(event), str(event), f"{event}", f"{[event]}", "%s %r" % (event, event)):  # noqa: UP031
            assert "http" not in shown
            assert "SECRET" not in shown
            assert "completed: 2" in shown
            assert "KirinAuthError: 1" in shown

    def test_of_an_event_without_outcomes(self) -> None:
        assert repr(dump_event([])) == "<Kirin generations none>"

    def test_hides_urls_inside_airflows_trigger_event(self) -> None:
        from airflow.triggers.base import TriggerEvent

        event = TriggerEvent(dump_event([DONE]))
        for shown in (repr(event), str(event)):
            assert "completed: 1" in shown
            assert "SECRET" not in shown

    def test_leaves_a_plain_dict_for_the_database(self) -> None:
        event = dump_event([DONE])
        assert isinstance(event, EventPayload)
        assert isinstance(event, dict)
        assert json.loads(json.dumps(event))["results"][0]["kirin_task"]["videos"][0]["url"].endswith("?sig=SECRET")


class TestHandBackToWorker:
    def test_keeps_the_deadline(self):
        payload = hand_back_to_worker(1234.5)
        assert hand_back_deadline(json.loads(json.dumps(payload))) == 1234.5
        assert str(payload) == "<handed back to a worker>"

    def test_is_refused_as_an_outcome(self):
        with pytest.raises(KirinResponseError):
            load_event(hand_back_to_worker(1234.5), expected=0)

    @pytest.mark.parametrize(
        "event",
        [dump_event([DONE]), None, {}, {"hand_back_deadline": 1.0}, {"version": 1, "hand_back_deadline": "soon"}],
    )
    def test_has_no_deadline_in_any_other_event(self, event):
        assert hand_back_deadline(event) is None
