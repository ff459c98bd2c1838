"""What an operator shows of its payload: images are taken out wherever they stand, everything else stays."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from airflow_provider_kirin.api.payload import prepare
from airflow_provider_kirin.exceptions import KirinPayloadError
from airflow_provider_kirin.operators.payloads import refuse_images, take_out_images
from tests.family import png

BYTES = png()
TEXT = base64.b64encode(BYTES).decode()
MANY = {"image_list": [{"image": TEXT}, {"image": BYTES}, {"image": "https://h.example/a.png"}], "prompt": "p"}


@pytest.mark.parametrize(
    "given", [MANY, json.dumps({"image_list": [{"image": TEXT}], "prompt": "p"})], ids=["dict", "json"]
)
def test_images_are_replaced_by_descriptions_and_come_back(given: Any) -> None:
    shown, found = take_out_images(given)
    assert TEXT[:40] not in str(shown) and str(BYTES)[2:40] not in str(shown)
    assert shown["image_list"][0]["image"].startswith("<PNG image")
    again = prepare(shown, "kirin_v1_6_multi_i2v", replacing=found)
    assert again.params == prepare(given, "kirin_v1_6_multi_i2v").params


def test_a_list_that_a_template_rendered_to_text_is_read() -> None:
    shown, found = take_out_images({"image_list": json.dumps([{"image": TEXT}]), "prompt": "[a text]", "x": "{}"})
    assert list(found) == [("image_list", 0, "image")]
    assert TEXT[:40] not in str(shown)
    assert (shown["prompt"], shown["x"]) == ("[a text]", "{}")


@pytest.mark.parametrize("payload", [None, 5, "text", "{{ template }}", [BYTES], {"prompt": "p"}, {"image": "a.png"}])
def test_what_holds_none_stays_as_it_is(payload: Any) -> None:
    assert take_out_images(payload) == (payload, {})


def test_a_long_template_is_no_image_before_it_is_rendered() -> None:
    payload = {"prompt": "word " * 1000 + "{{ params.end }}"}
    assert take_out_images(payload) == (payload, {})


def test_the_user_s_own_payload_is_left_alone() -> None:
    take_out_images(MANY)
    assert MANY["image_list"][1] == {"image": BYTES}  # type: ignore[index]


def test_a_mapped_task_s_images_are_refused_by_their_places() -> None:
    with pytest.raises(KirinPayloadError) as caught:
        refuse_images(MANY, "kirin_v1_6_multi_i2v")
    assert [problem.field for problem in caught.value.problems] == ["image_list.0.image", "image_list.1.image"]
    refuse_images({"image": "a.png"}, "kirin_v1_6_i2v")
