"""What the emulator refuses, with which code; and that nothing whatever makes it answer 5xx."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def code_of(response) -> str:
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert response.json()["request_id"] == response.headers["X-Request-Id"]
    return str(error["code"])


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"image": None}, "INVALID_PARAMETER"),
        ({"image": ""}, "8002005001"),
        ({"prompt": ""}, "8002005003"),
        ({"prompt": "x" * 2501}, "8002005003"),
        ({"prompt": 5}, "INVALID_PARAMETER"),
        ({"prompt": "\ud800"}, "INVALID_PARAMETER"),
        ({"negative_prompt": "x" * 2501}, "8002005003"),
        ({"duration": 5}, "8002005004"),
        ({"duration": "7"}, "8002005004"),
        ({"mode": "ultra"}, "INVALID_PARAMETER"),
        ({"cfg_scale": True}, "INVALID_PARAMETER"),
        ({"cfg_scale": 1.01}, "INVALID_PARAMETER"),
        ({"cfg_scale": "0.5"}, "INVALID_PARAMETER"),
        ({"watermark_info": [{"enabled": True}]}, "INVALID_PARAMETER"),
        ({"watermark_info": {"enabled": 1}}, "INVALID_PARAMETER"),
        ({"watermark_info": {}}, "INVALID_PARAMETER"),
        ({"callback_url": "ftp://x"}, "INVALID_PARAMETER"),
        ({"external_task_id": ""}, "INVALID_PARAMETER"),
        ({"aspect_ratio": "16:9"}, "INVALID_PARAMETER"),
        ({"image": "data:image/png;base64,AAAA"}, "8002005002"),
        ({"image": "http://"}, "8002005002"),
        ({"image": "not base64!"}, "8002005002"),
        ({"image": encoded(b"GIF89a" + bytes(100))}, "8002005002"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_parameters(emulator, image, params, code):
    assert code_of(emulator.submit(**{"image": image, **params})) == code
    assert emulator.ledger()["paid"] == []


def test_a_limit_without_an_upper_end(emulator, image):
    message = emulator.submit(image=image, external_task_id="").json()["error"]["message"]
    assert message == "external_task_id: has 0 characters, at least 1 is allowed"


def test_an_unknown_parameter_is_named(emulator, image):
    assert "params.camera" in emulator.submit(image=image, camera=1).json()["error"]["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": "x" * 2500, "negative_prompt": ""},
        {"cfg_scale": 0},
        {"cfg_scale": 1.0, "duration": "10"},
        {"watermark_info": {"enabled": False}},
        {"mode": "std", "external_task_id": "x" * 300},
    ],
    ids=str,
)
def test_the_edges_are_allowed(emulator, image, params):
    assert emulator.submit(image=image, **params).status_code == 200


@pytest.mark.parametrize(
    ("width", "height", "code"), [(299, 400, "8002005002"), (300, 751, "8002005005"), (300, 750, None)]
)
def test_image_limits(emulator, picture, width, height, code):
    response = emulator.submit(image=encoded(picture(width, height)))
    assert (code_of(response) == code) if code else (response.status_code == 200)


def test_the_last_frame_has_no_ratio_but_needs_mode_pro(emulator, picture):
    tall = encoded(picture(300, 900, "PNG"))
    assert emulator.submit(image_tail=tall, mode="pro").status_code == 200
    assert code_of(emulator.submit(image_tail=tall)) == "INVALID_PARAMETER"
    assert code_of(emulator.submit(mode="pro")) == "8002005001"


def test_a_cut_image_and_a_heavy_one_are_refused(emulator, picture):
    whole = picture(800, 600)
    assert code_of(emulator.submit(image=encoded(whole[: len(whole) // 2]))) == "8002005002"
    assert code_of(emulator.submit(image=encoded(whole + bytes(10_000_000)))) == "8002005002"
    assert emulator.submit(image=encoded(whole + bytes(9_900_000 - len(whole)))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"model": "kirin_v1_6_i2v"},
        {"model": "kirin_v1_6_i2v", "input": []},
        {"model": "kirin_v1_6_i2v", "input": [{}, {}]},
        {"model": "kirin_v1_6_i2v", "input": [{"params": {}}], "surprise": 1},
        {"model": 5, "input": [{"params": {}}]},
        {"input": [{"params": {}}]},
    ],
    ids=str,
)
def test_wrong_bodies(emulator, body):
    response = emulator.request("POST", "/model/v1/generation", json=body)
    assert response.status_code == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
texts = ["image", "image_tail", "prompt", "negative_prompt", "callback_url", "callback", "external_task_id"]
names = st.sampled_from([*texts, "mode", "duration", "cfg_scale", "watermark_info"])
likely = st.sampled_from(
    ["5", "10", "std", "pro", "http://", "http://[", "http://a:99999/", "[[fail:x:int]]", "\udfff"]
)
quick = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@quick
@given(params=st.dictionaries(names, likely | json_values, max_size=5))
def test_no_parameters_make_it_stumble(shared_emulator, params):
    response = shared_emulator.submit(**params)
    assert response.status_code in (200, 400, 409), response.text
    response.json()


@quick
@given(body=json_values | st.fixed_dictionaries({"model": json_values, "input": st.lists(json_values, max_size=2)}))
def test_no_body_makes_it_stumble(shared_emulator, body):
    for path in ("/model/v1/generation", "/model/v1/generation/precharge", "/emulator/faults"):
        headers = {"Content-Type": "application/json"}
        response = shared_emulator.request("POST", path, data=json.dumps(body), headers=headers)
        assert response.status_code in (400, 404), response.text
