"""The name of a step's generation: what it depends on, and what it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_kirin.api.idempotency import StepIdentity, attempt_id, payload_fingerprint
from airflow_provider_kirin.api.payload import PreparedPayload, prepare_payload

MODEL = "kirin_v1_6_i2v"
STEP: dict[str, Any] = {
    "conn_id": "kirin_default",
    "dag_id": "videos",
    "run_id": "manual__1",
    "task_id": "generate",
    "map_index": -1,
    "take": 1,
    "payload": "digest",
}


def picture(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (400, 300), colour).save(file, "PNG")
    return file.getvalue()


def prepared(**payload: object) -> PreparedPayload:
    return prepare_payload({"image": "https://example.com/teapot.jpg", "prompt": "Steam rises."} | payload, MODEL)


class TestDigest:
    def test_is_the_same_for_the_same_payload_however_it_is_written(self) -> None:
        assert payload_fingerprint(prepared(duration=5, mode=None)) == payload_fingerprint(
            prepared(duration="5", mode="std")
        )

    @pytest.mark.parametrize(
        "change",
        [{"prompt": "Steam sinks."}, {"mode": "pro"}, {"duration": 10}, {"cfg_scale": 0.6}, {"negative_prompt": "x"}],
    )
    def test_differs_with_every_parameter(self, change: dict[str, object]) -> None:
        assert payload_fingerprint(prepared(**change)) != payload_fingerprint(prepared())

    def test_an_image_counts_by_its_bytes_not_by_where_it_lies(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(picture())
        as_path, moved = prepared(image=tmp_path / "a.png"), prepared(image=str(tmp_path / "b.png"))
        assert (
            payload_fingerprint(as_path) == payload_fingerprint(moved) == payload_fingerprint(prepared(image=picture()))
        )
        assert payload_fingerprint(prepared(image=picture("blue"))) != payload_fingerprint(as_path)

    def test_an_image_that_was_made_to_fit_counts_as_it_was_given(self) -> None:
        small = BytesIO()
        Image.new("RGB", (100, 100), "red").save(small, "PNG")
        prepared = prepare_payload({"image": small.getvalue(), "prompt": "p"}, MODEL, fit_images="auto")
        image = prepared.images["image"]
        # As another Pillow might have made it.
        other = replace(
            prepared, params=prepared.params | {"image": "other"}, images={"image": replace(image, sha256="x")}
        )
        assert image.fitted and payload_fingerprint(other) == payload_fingerprint(prepared)
        another = prepare_payload({"image": picture(), "prompt": "p"}, MODEL, fit_images="auto")
        assert (
            payload_fingerprint(another)
            == payload_fingerprint(prepare_payload({"image": picture(), "prompt": "p"}, MODEL))
            != payload_fingerprint(prepared)
        )

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"cfg_scale": 1}, {"cfg_scale": 1.0}),
            ({"cfg_scale": "1"}, {"cfg_scale": 1}),
            ({"cfg_scale": 0}, {"cfg_scale": -0.0}),
            ({"prompt": "Caf\u00e9"}, {"prompt": "Cafe\u0301"}),
            (
                {"image": "https://h.example/a.jpg?Expires=1&Signature=x&Key-Pair-Id=K"},
                {"image": "https://h.example/a.jpg?Expires=2&Signature=y&Key-Pair-Id=K"},
            ),
        ],
    )
    def test_equivalent_payloads_have_the_same_fingerprint(
        self, one: dict[str, object], other: dict[str, object]
    ) -> None:
        assert payload_fingerprint(prepared(**one)) == payload_fingerprint(prepared(**other))

    def test_a_signed_url_in_a_list_counts_without_its_signature(self) -> None:
        def of(query: str, path: str = "a.mp4") -> str:
            videos = [{"video_url": f"https://h.example/{path}?{query}"}]
            payload = {"prompt": "p", "video_list": videos, "mode": "pro"}
            return payload_fingerprint(prepare_payload(payload, "kirin_v3_omni_video", allow_unknown_model=True))

        assert of("sv=1&se=2&sig=3") == of("sv=1&se=9&sig=8") != of("sv=1&se=2&sig=3", "b.mp4")

    def test_a_query_that_is_not_a_signature_counts(self) -> None:
        one, other = (prepared(image=f"https://h.example/a.jpg?versionId={version}") for version in (1, 2))
        assert payload_fingerprint(one) != payload_fingerprint(other)

    def test_the_external_task_id_itself_does_not_count(self) -> None:
        assert payload_fingerprint(prepared(external_task_id="mine")) == payload_fingerprint(prepared())

    def test_the_model_counts(self) -> None:
        assert payload_fingerprint(replace(prepared(), model="other")) != payload_fingerprint(prepared())


def step_id(*, payload: str, **step: Any) -> str:
    return StepIdentity(**step).external_task_id(payload)


class TestStepIdentity:
    def test_an_external_task_id_is_short_and_opaque(self) -> None:
        assert re.fullmatch(r"airflow-[a-z2-7]{26}", step_id(**STEP))

    @pytest.mark.parametrize("part", sorted(STEP))
    def test_differs_with_every_part(self, part: str) -> None:
        changed = STEP | {part: 2 if isinstance(STEP[part], int) else "other"}
        assert step_id(**changed) != step_id(**STEP)

    @pytest.mark.parametrize("take", [" 2 ", 2.0, "2.0", Decimal("2.00")])
    def test_a_take_from_a_template_is_the_same_as_a_number(self, take: object) -> None:
        assert step_id(**STEP | {"take": take}) == step_id(**STEP | {"take": 2})

    def test_a_take_may_be_any_text(self) -> None:
        takes = ["a", "b", "1.5", "2", "Infinity", "1e99", ""]
        assert len({step_id(**STEP | {"take": take}) for take in takes}) == len(takes)

    def test_a_namespace_distinguishes_deployments(self) -> None:
        ids = {step_id(**STEP, namespace=name) for name in ("", "staging", "kirin_default")}
        assert len(ids) == 3 and step_id(**STEP) in ids

    @given(first=st.text(), second=st.text(), third=st.text(), fourth=st.text())
    def test_neighbouring_parts_never_run_into_one(self, first: str, second: str, third: str, fourth: str) -> None:
        one = step_id(**STEP | {"dag_id": first, "run_id": second})
        other = step_id(**STEP | {"dag_id": third, "run_id": fourth})
        assert (one == other) == ((first, second) == (third, fourth))

    def test_the_external_task_id_is_pinned(self) -> None:
        """A change would make every step that is under way pay again after an upgrade."""
        assert step_id(**STEP) == "airflow-sxickf4jmffmrkbkzapyrl73x7"


def test_the_series_of_a_step() -> None:
    assert [attempt_id("airflow-x", number) for number in (1, 2, 3)] == ["airflow-x", "airflow-x-2", "airflow-x-3"]


def test_an_external_task_id_is_sent_as_it_is_looked_up() -> None:
    assert prepared(external_task_id=" mine\n").params["external_task_id"] == "mine"
