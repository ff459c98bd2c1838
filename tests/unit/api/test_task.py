"""A generation as the gateway reports it, in every shape that was seen, and its way through XCom and back."""

from __future__ import annotations

import base64
import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.api.task import KirinTask, KirinTaskError, KirinUsage, KirinVideo
from airflow_provider_kirin.api.task_fields import MAX_VIDEOS, STATUSES, read_unreadable
from airflow_provider_kirin.exceptions import KirinIdError, KirinNoVideoError, KirinResponseError
from tests.support.waiting import HANG

COMPLETED = {
    "id": "d1kq2v3c4bfs73a0q5mg",
    "created_at": 1760000000,
    "status": "completed",
    "model": "kirin_v1_6_i2v",
    "output": [
        {
            "content": [
                {"type": "video", "url": "https://cdn.example/v/1.mp4?sig=SECRET", "duration": 5.04, "jobId": "job-1"}
            ]
        }
    ],
    "usage": {"cost": "0.28", "discount": 0.7},
    "metadata": {"completed_at": 1760000120, "in_queue_at": 1760000001},
    "external_task_id": "row-7",
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
urls = st.sampled_from(["https://cdn.example/a.mp4?s=1", "http://h/a", " https://h/b ", ""]) | st.text(max_size=30)
contents = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["video", "VIDEO", "image", ""]) | anything,
        "url": urls | anything,
        "duration": st.sampled_from(["5", 5, 5.04, "5.04s", "nan"]) | anything,
        "jobId": st.text(max_size=10) | anything,
        "job_id": anything,
    },
)
outputs = st.lists(st.builds(lambda inner: {"content": inner}, st.lists(contents, max_size=3)) | contents, max_size=3)
usages = st.fixed_dictionaries(
    {},
    optional={
        "cost": st.decimals(allow_nan=None, places=None).map(str)
        | st.floats()
        | st.integers()
        | st.sampled_from(["", None, "0.280", "1e3", "1E+29", "-0", "1e999999999999", 10**40]),
        "discount": st.floats() | anything,
    },
)
errors = st.text(max_size=400) | st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["8002005001", 110001, "014002095", "0", 0]) | anything,
        "message": st.text(max_size=400) | anything,
        "error_message": st.text(max_size=400) | anything,
    },
)


def can_be_an_id(text: str) -> bool:
    """Whether the gateway can be asked by it, as it came."""
    try:
        return text.isprintable() and bool(validate_task_id(text))
    except KirinIdError:
        return False


#: What a gateway might say of a generation, most of it in the right place.
responses = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=20).filter(can_be_an_id) | st.integers(-(10**29), 10**29),
        "status": st.sampled_from([*STATUSES, "paused"]),
    },
    optional={
        "model": st.just("kirin_v1_6_i2v") | anything,
        "created_at": st.integers() | st.floats() | anything,
        "progress": st.floats() | anything,
        "output": outputs | anything,
        "usage": usages | anything,
        "error": errors | anything,
        "metadata": st.dictionaries(st.text(max_size=8), anything, max_size=3) | anything,
        "external_task_id": st.text(max_size=10) | anything,
        "extra": anything,
    },
)


class TestStatuses:
    """One table for every way of waiting."""

    WORDS = (
        ("in_progress", "in_progress"),
        ("in_queue", "in_progress"),
        ("processing", "in_progress"),
        ("pending", "in_progress"),
        ("queued", "in_progress"),
        ("completed", "completed"),
        ("success", "completed"),
        ("succeed", "completed"),
        ("done", "completed"),
        ("failed", "failed"),
    )

    @pytest.mark.parametrize(("word", "status"), WORDS)
    @pytest.mark.parametrize("case", [str.lower, str.upper, str.title, str.swapcase, "  {} \n".format])
    def test_each_word_in_every_case(self, word: str, status: str, case: Any) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": case(word)})
        assert kirin_task.status == status
        assert kirin_task.is_final is (status != "in_progress")
        assert not kirin_task.has_unknown_status

    @pytest.mark.parametrize("word", STATUSES)
    def test_the_table_is_written_as_it_is_looked_up(self, word: str) -> None:
        assert word == word.strip().lower()
        assert STATUSES[word] in ("in_progress", "completed", "failed")

    @pytest.mark.parametrize("word", ["paused", "cancelled", "COMPLETE?", "complete d", "失败", "404"])
    def test_an_unknown_word_counts_as_in_progress_and_is_known_to_be_unknown(self, word: str) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": word})
        assert kirin_task.status == "in_progress"
        assert not kirin_task.is_final
        assert kirin_task.has_unknown_status
        assert kirin_task.raw_status == word

    @given(st.text())
    def test_an_unknown_status_does_not_end_a_wait(self, word: str) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": word})
        assert kirin_task.is_final == (STATUSES.get(word.strip().lower()) in ("completed", "failed"))


class TestWhatIsRead:
    def test_the_page_s_own_sample(self) -> None:
        assert KirinTask.from_response(COMPLETED) == KirinTask(
            id="d1kq2v3c4bfs73a0q5mg",
            status="completed",
            model="kirin_v1_6_i2v",
            created_at=1760000000,
            progress=None,
            videos=[KirinVideo("https://cdn.example/v/1.mp4?sig=SECRET", duration=5.04, job_id="job-1")],
            usage=KirinUsage(cost=Decimal("0.28"), discount=0.7),
            error=None,
            metadata={"completed_at": 1760000120, "in_queue_at": 1760000001},
            external_task_id="row-7",
        )

    def test_a_submission_s_response(self) -> None:
        response = {"id": "d1", "created_at": 1760000000123, "status": "in_progress", "model": "kirin_v1_6_i2v"}
        kirin_task = KirinTask.from_response(response)
        assert (kirin_task.id, kirin_task.status, kirin_task.created_at) == ("d1", "in_progress", 1760000000123)
        assert (kirin_task.videos, kirin_task.usage, kirin_task.error, kirin_task.metadata) == ([], None, None, {})

    def test_a_submission_s_response_may_lack_the_status(self) -> None:
        assert KirinTask.from_response({"id": "d1"}).status == "in_progress"

    @pytest.mark.parametrize(
        "response",
        [
            {"data": {"id": "d1", "status": "in_queue"}, "status": {"code": 200, "message": "ok"}},
            {"data": {"task_id": "d1", "status": "in_queue"}},
            {"task_id": "d1", "status": "processing"},
            {"id": "d1", "status": "processing", "data": {"id": "other"}},
        ],
    )
    def test_older_envelopes(self, response: dict[str, Any]) -> None:
        kirin_task = KirinTask.from_response(response)
        assert (kirin_task.id, kirin_task.status) == ("d1", "in_progress")

    def test_ids_given_as_numbers_are_text(self) -> None:
        kirin_task = KirinTask.from_response({"id": 12345678901234567890, "status": "done", "external_task_id": 7})
        assert (kirin_task.id, kirin_task.external_task_id) == ("12345678901234567890", "7")

    @pytest.mark.parametrize(
        "response", [{}, {"id": ""}, {"id": None, "status": "completed"}, {"id": True}, {"id": {}}]
    )
    def test_a_response_without_an_id_is_not_a_task(self, response: dict[str, Any]) -> None:
        with pytest.raises(KirinResponseError, match="no task id"):
            KirinTask.from_response(response)

    @pytest.mark.parametrize("response", [{"id": "d1"}, {"id": "d1", "status": None}, {"id": "d1", "status": {}}])
    def test_a_lookup_without_a_status_says_nothing(self, response: dict[str, Any]) -> None:
        with pytest.raises(KirinResponseError, match="d1 has no status"):
            KirinTask.from_response(response, asked_for="d1")

    @pytest.mark.parametrize("response", [None, [], "text", 5, True, [COMPLETED]])
    def test_what_is_no_object_is_no_task(self, response: Any) -> None:
        with pytest.raises(KirinResponseError, match="instead of a task object"):
            KirinTask.from_response(response)


class TestVideos:
    def read(self, output: Any, status: str = "completed") -> list[KirinVideo]:
        return KirinTask.from_response({"id": "a", "status": status, "output": output}).videos

    def test_all_videos_of_all_outputs_in_their_order(self) -> None:
        output = [
            {"content": [{"type": "video", "url": "https://h/1"}, {"type": "image", "url": "https://h/cover.png"}]},
            {"content": [{"type": "Video", "url": "https://h/2"}]},
        ]
        assert [video.url for video in self.read(output)] == ["https://h/1", "https://h/2"]

    def test_the_older_flat_output(self) -> None:
        output = [{"type": "video", "url": "https://h/1", "duration": "5", "jobId": 7}]
        assert self.read(output) == [KirinVideo("https://h/1", duration=5.0, job_id="7")]

    def test_without_a_type_a_url_is_a_video(self) -> None:
        assert self.read([{"content": [{"url": " https://h/1 "}]}]) == [KirinVideo("https://h/1")]

    @pytest.mark.parametrize(
        ("said", "read"), [(5, 5.0), ("5", 5.0), (5.04, 5.04), ("5s", None), (None, None), ([], None)]
    )
    def test_a_duration_is_a_number_or_a_text(self, said: Any, read: float | None) -> None:
        (video,) = self.read([{"content": [{"type": "video", "url": "https://h/1", "duration": said}]}])
        assert video.duration == read

    @pytest.mark.parametrize(
        "output",
        [
            None,
            {},
            [],
            [None, 5, "x", []],
            [{"content": []}],
            [{"content": [None, 5]}],
            [{"content": [{"type": "video"}]}],
            [{"content": [{"type": "video", "url": ""}]}],
            [{"content": [{"type": "video", "url": "  "}]}],
        ],
    )
    def test_a_generation_without_output_has_no_videos(self, output: Any) -> None:
        assert self.read(output) == []
        assert not KirinTask.from_response(COMPLETED | {"output": output}).error

    @pytest.mark.parametrize(
        "output",
        [
            "https://h/1?signed=SECRET",
            ["https://h/1?signed=SECRET"],
            {"videos": [{"url": "https://h/1?signed=SECRET"}]},
            [{"content": [{"type": "video", "url": ["https://h/1?signed=SECRET"]}]}],
            [{"content": [{"type": "video", "video_url": "https://h/1?signed=SECRET"}]}],
            [{"content": [{"type": "image", "url": "https://h/1?signed=SECRET"}]}],
            [{"video_url": "https://h/1/裙.mp4?signed=SECRET"}],
            ["https://h/1/my video.mp4?signed=SECRET"],
            ["s3://bucket/https://h/1?signed=SECRET"],
            ["ftp://user:SECRET@https://h/1", 'https://h/1?a="SECRET'],
        ],
    )
    @pytest.mark.parametrize("error", [None, {"code": 0, "message": "success"}])
    def test_an_output_that_cannot_be_read_is_not_taken_for_a_video_that_was_moderated(
        self, output: Any, error: Any
    ) -> None:
        kirin_task = KirinTask.from_response(COMPLETED | {"output": output, "error": error})
        assert kirin_task.videos == []
        for read in (kirin_task, KirinTask.from_dict(kirin_task.to_dict())):
            error = error_from_task(read)
            assert isinstance(error, KirinNoVideoError) and not error.retryable
            assert "no video that this provider can read" in str(error) and "https://h/1" in str(error)
            assert "before you submit another one" in str(error) and "SECRET" not in str(error)

    @pytest.mark.timeout(HANG)
    @pytest.mark.parametrize("text", ["a", "1", "a1", "?", "//", "//a", '"?', "a?b@"])
    def test_an_output_of_any_text_is_read_in_a_time_that_grows_with_its_length(self, text: str) -> None:
        long = text * (250_000 // len(text))
        assert read_unreadable([long]) == ""
        assert read_unreadable([f"s3://{long}"])

    def test_an_object_stands_for_a_list_of_one(self) -> None:
        entry = {"type": "video", "url": "https://h/1"}
        for output in (entry, {"content": entry}, {"content": [entry]}, [{"content": entry}]):
            assert self.read(output) == [KirinVideo("https://h/1")]

    @pytest.mark.parametrize("status", ["in_progress", "failed"])
    def test_only_a_completed_generation_has_videos(self, status: str) -> None:
        assert self.read(COMPLETED["output"], status) == []

    def test_the_repr_of_a_task_shows_no_signed_query(self) -> None:
        shown = repr(KirinTask.from_response(COMPLETED))
        assert "https://cdn.example/v/1.mp4" in shown
        assert "SECRET" not in shown


class TestNumbers:
    @pytest.mark.parametrize(
        ("said", "cost"),
        [
            ("0.28", "0.28"),
            ("0.280", "0.280"),
            (" 1.5 ", "1.5"),
            (0.28, "0.28"),
            (0.1, "0.1"),
            (3, "3"),
            (0, "0"),
            ("0", "0"),
            ("1e2", "100"),
            (1e-7, "0.0000001"),
            ("999.12345678901234567890123456789", "999.12345678901234567890123456789"),
            (1000, "1000"),
        ],
    )
    def test_a_cost_survives_the_round_trip_exactly(self, said: Any, cost: str) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": "completed", "usage": {"cost": said}})
        assert kirin_task.usage is not None
        assert kirin_task.usage.cost == Decimal(cost)
        written = kirin_task.to_dict()["usage"]["cost"]
        assert written == cost
        assert f"cost: {cost} USD" in kirin_task.describe_end()
        assert KirinTask.from_dict(kirin_task.to_dict()).usage == kirin_task.usage

    @pytest.mark.parametrize("said", ["", None, "free", "nan", "sNaN", "Infinity", True, [], {}, "1e999", "1e-999"])
    def test_a_cost_that_is_no_amount_is_unknown(self, said: Any) -> None:
        kirin_task = KirinTask.from_response(
            {"id": "a", "status": "completed", "usage": {"cost": said, "discount": "x"}}
        )
        assert kirin_task.usage == KirinUsage(cost=None, discount=None)

    @pytest.mark.parametrize("usage", [None, [], "0.28", 0.28])
    def test_a_usage_that_is_no_object_is_unknown(self, usage: Any) -> None:
        assert KirinTask.from_response({"id": "a", "status": "completed", "usage": usage}).usage is None

    @pytest.mark.parametrize(
        ("said", "progress"),
        [
            (0, 0.0),
            (0.35, 0.35),
            ("0.35", 0.35),
            (1, 1.0),
            (35, 1.0),
            (-1, 0.0),
            (None, None),
            ("35%", None),
            (True, None),
        ],
    )
    def test_progress_lies_between_0_and_1(self, said: Any, progress: float | None) -> None:
        assert KirinTask.from_response({"id": "a", "status": "in_progress", "progress": said}).progress == progress

    @pytest.mark.parametrize("said", [10**400, float("inf"), float("nan"), "1" * 5000, [10**400]])
    def test_an_excessive_number_is_unknown(self, said: Any) -> None:
        response = {
            "id": "a",
            "status": "in_progress",
            "created_at": said,
            "progress": said,
            "usage": {"discount": said},
        }
        kirin_task = KirinTask.from_response(response)
        assert (kirin_task.created_at, kirin_task.progress) == (None, None)
        assert kirin_task.usage == KirinUsage()


class TestErrors:
    @pytest.mark.parametrize(
        ("said", "code", "message"),
        [
            ({"code": "8002005001", "error_message": "no image"}, "8002005001", "no image"),
            ({"code": "014002095", "message": "internal"}, "014002095", "internal"),
            ({"code": 110001, "message": "sensitive"}, "110001", "sensitive"),
            ({"code": "1", "error_message": "first", "message": "second"}, "1", "first"),
            ({"code": "1", "error_message": "", "message": "second"}, "1", "second"),
            ("it broke", "", "it broke"),
            ({"message": "see https://h/a?token=SECRET\nnow"}, "", "see https://h/a now"),
        ],
    )
    def test_each_shape_of_error(self, said: Any, code: str, message: str) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": "failed", "error": said})
        assert kirin_task.error == KirinTaskError(code=code, message=message)

    @pytest.mark.parametrize("said", [None, "", [], 5, {}, {"code": 0, "message": ""}])
    def test_a_failure_without_a_reason(self, said: Any) -> None:
        assert KirinTask.from_response({"id": "a", "status": "failed", "error": said}).error is None

    @pytest.mark.parametrize("status", ["completed", "in_progress"])
    def test_a_generation_that_runs_or_has_its_video_has_none(self, status: str) -> None:
        response = COMPLETED | {"status": status, "error": "was retried inside"}
        assert KirinTask.from_response(response).error is None

    @pytest.mark.parametrize(
        "said",
        [
            {"error": {"code": "X", "message": "because"}},
            {"errors": [{"code": "X", "msg": "because"}, {"code": "Y"}]},
            {"error": {}, "errors": {"error_code": "X", "error_message": "because"}},
        ],
    )
    @pytest.mark.parametrize("status", ["failed", "cancelled", "completed"])
    def test_a_reason_reaches_the_user_from_any_field(self, said: Any, status: str) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": status, **said})
        assert kirin_task.is_final
        assert kirin_task.error == KirinTaskError(code="X", message="because")

    @pytest.mark.parametrize(
        "said", [None, "none", "OK.", "null", {"code": 200, "message": "Success"}, ["none"], {"msg": "ok"}]
    )
    @pytest.mark.parametrize("field", ["error", "errors"])
    def test_an_unknown_status_without_a_reason_is_in_progress(self, field: str, said: Any) -> None:
        kirin_task = KirinTask.from_response({"id": "a", "status": "archiving", field: said})
        assert (kirin_task.status, kirin_task.error) == ("in_progress", None)


class TestWhichGenerationItIs:
    @pytest.mark.parametrize(
        ("ids", "found"),
        [
            ({"id": "mine"}, "mine"),
            ({"task_id": "mine"}, "mine"),
            ({"id": "mine", "external_task_id": "another"}, "mine"),
            ({"id": "k1", "external_task_id": "mine"}, "k1"),
            ({"id": 7, "external_task_id": " mine "}, "7"),
            # Asked by an external task id that the gateway does not repeat.
            ({"id": "k1"}, "k1"),
            ({"id": "k1", "external_task_id": ""}, "k1"),
            # Found, and named by nothing else.
            ({"external_task_id": "mine"}, "mine"),
            ({"id": "None", "external_task_id": "mine"}, "mine"),
        ],
    )
    def test_the_one_that_was_asked_for(self, ids: dict[str, Any], found: str) -> None:
        assert KirinTask.from_response({"status": "completed", **ids}, asked_for="mine").id == found

    @pytest.mark.parametrize(
        "ids",
        [
            {"id": "bobs", "external_task_id": "bob-1"},
            {"external_task_id": "bob-1"},
            {},
            {"id": None},
            {"id": "\x00"},
            {"id": ["mine"]},
        ],
    )
    def test_another_one_or_none_is_no_answer(self, ids: dict[str, Any]) -> None:
        with pytest.raises(KirinResponseError, match="mine"):
            KirinTask.from_response({"status": "completed", **ids}, asked_for="mine")

    @pytest.mark.parametrize("said", ["None", "..", "a\x00b", "\ud83d", "x" * 600, "[1]", 10**40])
    def test_a_new_generation_whose_id_cannot_be_looked_up_is_refused(self, said: Any) -> None:
        with pytest.raises(KirinResponseError, match="no task id"):
            KirinTask.from_response({"id": said, "status": "in_progress"})


class TestBounds:
    def test_videos(self) -> None:
        content = [{"type": "video", "url": f"https://h/{number}.mp4"} for number in range(30_000)]
        kirin_task = KirinTask.from_response(COMPLETED | {"output": [{"content": content}]})
        assert [video.url for video in kirin_task.videos] == [one["url"] for one in content[:MAX_VIDEOS]]
        assert len(kirin_task.dropped) == 1

    def test_a_url(self) -> None:
        content = [{"url": "https://h/" + "x" * 10_000}, {"url": "https://h/" + "x" * 100_000}, {"url": "https://h/1"}]
        kirin_task = KirinTask.from_response(COMPLETED | {"output": [{"content": content}]})
        assert [video.url for video in kirin_task.videos] == ["https://h/1"]
        assert kirin_task.dropped == ("2 of 3 videos",)

    def test_metadata_that_repeats_the_request_holds_no_image_and_no_signature(self) -> None:
        image = base64.b64encode(random.Random(1).randbytes(3000)).decode()
        path = "p/" * 200
        params = {"image": image, "image_tail": f"https://user:SECRET@h/{path}?sig=SECRET", "note": "x" * 300}
        params |= {"a": "oss://b/v?Signature=SECRET", "b": r"https:\/\/h\/v?Signature=SECRET", "c": "pg://u:SECRET@h"}
        read = KirinTask.from_response(COMPLETED | {"metadata": {"request": {"params": [params]}}})
        shown = {"image": "<4,000 characters>", "image_tail": f"https://h/{path}", "note": "x" * 300}
        shown |= {"a": "oss://b/v", "b": r"https:\/\/h\/v", "c": "pg://h"}
        assert read.metadata == {"request": {"params": [shown]}}

    @pytest.mark.parametrize("metadata", [{"a": "x" * 20_000}, {str(key): key for key in range(5000)}])
    def test_metadata(self, metadata: Any) -> None:
        kirin_task = KirinTask.from_response(COMPLETED | {"metadata": metadata})
        assert kirin_task.metadata == {}
        assert len(kirin_task.dropped) == 1
        assert kirin_task.usage == KirinTask.from_response(COMPLETED).usage

    @pytest.mark.parametrize("cost", ["-100", -0.01, "-1e5", 1000.01, "1e25", 10**20])
    def test_a_cost_that_cannot_be_one_is_unknown(self, cost: Any) -> None:
        kirin_task = KirinTask.from_response(COMPLETED | {"usage": {"cost": cost, "discount": -1}})
        assert kirin_task.usage == KirinUsage(cost=None, discount=None)
        assert [what.partition(" = ")[0] for what in kirin_task.dropped] == ["usage.cost", "usage.discount"]

    def test_no_part_of_a_documented_response_is_dropped(self) -> None:
        assert KirinTask.from_response(COMPLETED).dropped == ()


class TestRoundTrip:
    def test_the_dict_that_goes_to_xcom(self) -> None:
        assert KirinTask.from_response(COMPLETED).to_dict() == {
            "id": "d1kq2v3c4bfs73a0q5mg",
            "status": "completed",
            "model": "kirin_v1_6_i2v",
            "created_at": 1760000000,
            "progress": None,
            "videos": [
                {
                    "url": "https://cdn.example/v/1.mp4?sig=SECRET",
                    "type": "video",
                    "duration": 5.04,
                    "job_id": "job-1",
                }
            ],
            "usage": {"cost": "0.28", "discount": 0.7},
            "error": None,
            "metadata": {"completed_at": 1760000120, "in_queue_at": 1760000001},
            "external_task_id": "row-7",
        }

    def test_an_xcom_that_was_edited_is_harmless_too(self) -> None:
        edited = {**KirinTask.from_response(COMPLETED).to_dict(), "metadata": {"__type": 2**64, "a": "\ud83d\x00"}}
        assert KirinTask.from_dict(edited).metadata == {"type": str(2**64), "a": "\ufffd\ufffd"}

    @settings(max_examples=150)
    @given(responses)
    @example({"id": "a", "status": "failed", "error": {"code": "1", "message": "http://h/" + "x" * 400}})
    @example({"id": "a", "status": "completed", "output": [{"content": [{"url": "https://h/a?b=1"}]}]})
    def test_what_was_written_as_json_reads_back_equal(self, response: dict[str, Any]) -> None:
        kirin_task = KirinTask.from_response(response)
        text = json.dumps(kirin_task.to_dict(), allow_nan=False)
        again = KirinTask.from_dict(json.loads(text))
        assert again == kirin_task
        assert not again.has_unknown_status

    @given(anything)
    @example({"id": "a", "status": "completed", "metadata": "abc"})
    @example({"id": "a", "status": "completed", "metadata": [1]})
    @example({"id": "a", "status": "completed", "metadata": 5})
    @example({"id": "a", "status": ["completed"]})
    def test_anything_else_is_refused(self, data: Any) -> None:
        try:
            kirin_task = KirinTask.from_dict(data)
        except KirinResponseError:
            return
        json.dumps(kirin_task.to_dict(), allow_nan=False)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            "text",
            {},
            {"id": "a"},
            {"status": "completed"},
            {"id": "", "status": "completed"},
            {"id": "a", "status": "paused"},
            {"id": "a", "status": "COMPLETED"},
            {"id": {}, "status": "completed"},
        ],
    )
    def test_a_dict_without_id_and_status_is_refused(self, data: Any) -> None:
        with pytest.raises(KirinResponseError):
            KirinTask.from_dict(data)

    def test_the_id_read_back_is_always_text(self) -> None:
        assert KirinTask.from_dict({"id": 7, "status": "completed"}).id == "7"


@pytest.mark.parametrize(
    "error", [{"code": 0, "message": "success"}, {"error_code": "0", "code": "", "msg": "SUCCEED"}]
)
def test_an_error_that_says_success_ends_no_wait(error: dict[str, object]) -> None:
    """A generation that counts as failed is submitted again by the next try."""
    kirin_task = KirinTask.from_response({"id": "k1", "status": "generating", "error": error}, asked_for="k1")
    assert kirin_task.status == "in_progress"


def test_a_video_may_be_named_by_its_media_type() -> None:
    output = [
        {"content": [{"type": "video/mp4", "url": "https://v/1.mp4"}, {"type": "image/png", "url": "https://v/1"}]}
    ]
    kirin_task = KirinTask.from_response({"id": "k1", "status": "completed", "output": output}, asked_for="k1")
    assert [video.url for video in kirin_task.videos] == ["https://v/1.mp4"]


def test_a_reason_beside_the_status_arrives() -> None:
    response = {"id": "k1", "status": "failed", "code": "8002005001", "message": "The image is too dark."}
    kirin_task = KirinTask.from_response(response, asked_for="k1")
    assert kirin_task.error == KirinTaskError("8002005001", "The image is too dark.")
