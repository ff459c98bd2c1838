"""What an operator shows of its payload: images are taken out wherever they stand, everything else stays."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_provider_kirin.api.idempotency import payload_fingerprint
from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.api.payload.paths import replace_at
from airflow_provider_kirin.exceptions import KirinPayloadError
from airflow_provider_kirin.operators.payload_templates import extract_inline_images, reject_inline_images
from tests.support.payloads import png

BYTES = png()
TEXT = base64.b64encode(BYTES).decode()
MANY = {"image_list": [{"image": TEXT}, {"image": BYTES}, {"image": "https://h.example/a.png"}], "prompt": "p"}


@pytest.mark.parametrize(
    "given", [MANY, json.dumps({"image_list": [{"image": TEXT}], "prompt": "p"})], ids=["dict", "json"]
)
def test_images_are_replaced_by_descriptions_and_come_back(given: Any) -> None:
    shown, found = extract_inline_images(given)
    assert TEXT[:40] not in str(shown) and str(BYTES)[2:40] not in str(shown)
    assert shown["image_list"][0]["image"].startswith("<PNG image")
    again = prepare_payload(shown, "kirin_v1_6_multi_i2v", replacing=found)
    assert again.params == prepare_payload(given, "kirin_v1_6_multi_i2v").params


SIGNED = [
    "https://bucket.s3.amazonaws.com/a.png?X-Amz-Signature=secret",
    "http://reader:secret@h.example/a.png",
    "https://reader@h.example/a.png",
    "https://h.example/a.png#secret",
    "s3://key:secret@bucket/a.png",
]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("url", SIGNED)
def test_a_url_that_may_be_signed_is_shown_without_its_secret(url: str, as_json: bool) -> None:
    payload = {"image_list": [{"image": url}], "callback_url": SIGNED[0], "prompt": f"Like {url}"}
    shown, found = extract_inline_images(json.dumps(payload) if as_json else payload)
    assert found == {("image_list", 0, "image"): url, ("callback_url",): SIGNED[0]}
    assert extract_inline_images(shown) == (shown, {}), "rendering goes over it again"
    assert "secret" not in str(shown["image_list"]) + shown["callback_url"] and "bucket" in shown["callback_url"]
    assert replace_at(shown, found) == payload


@pytest.mark.parametrize("url", ["https://h.example/a.png", "s3://aws_default@bucket/a.png", "{{ x }}?y", "a.png?b"])
def test_unsigned_url_is_shown(url: str) -> None:
    assert extract_inline_images({"image": url, "external_task_id": SIGNED[0]})[1] == {}


def test_fingerprint_uses_the_url_itself() -> None:
    payload = {"image": SIGNED[0], "prompt": "p"}
    shown, found = extract_inline_images(payload)
    again = prepare_payload(shown, "kirin_v1_6_i2v", replacing=found)
    assert (
        payload_fingerprint(again) == payload_fingerprint(prepare_payload(payload, "kirin_v1_6_i2v"))
        and "secret" not in again.describe()
    )


def test_a_list_that_a_template_rendered_to_text_is_read() -> None:
    shown, found = extract_inline_images({"image_list": json.dumps([{"image": TEXT}]), "prompt": "[a text]", "x": "{}"})
    assert list(found) == [("image_list", 0, "image")]
    assert TEXT[:40] not in str(shown)
    assert (shown["prompt"], shown["x"]) == ("[a text]", "{}")


@pytest.mark.parametrize("payload", [None, 5, "text", "{{ template }}", [BYTES], {"prompt": "p"}, {"image": "a.png"}])
def test_payload_without_images_is_unchanged(payload: Any) -> None:
    assert extract_inline_images(payload) == (payload, {})


def test_a_long_template_is_not_an_image_before_rendering() -> None:
    payload = {"prompt": "word " * 1000 + "{{ params.end }}"}
    assert extract_inline_images(payload) == (payload, {})


def test_the_user_s_own_payload_is_left_alone() -> None:
    extract_inline_images(MANY)
    assert MANY["image_list"][1] == {"image": BYTES}  # type: ignore[index]


def test_a_mapped_task_s_images_are_refused_by_their_places() -> None:
    with pytest.raises(KirinPayloadError) as caught:
        reject_inline_images(MANY, "kirin_v1_6_multi_i2v")
    assert [problem.field for problem in caught.value.problems] == ["image_list.0.image", "image_list.1.image"]
    reject_inline_images({"image": "a.png"}, "kirin_v1_6_i2v")
