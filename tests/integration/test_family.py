"""Client and emulator read the models' facts independently of each other: over HTTP they agree on every payload."""

from __future__ import annotations

import io
from typing import Any

import av
import pytest
import requests
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from airflow_provider_kirin.api.models import load_schema, model_names
from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.api.payload.normalize import normalize
from airflow_provider_kirin.exceptions import KirinPayloadError
from airflow_provider_kirin.hooks.kirin import KirinHook
from tests.support.emulator import KEY, Emulator
from tests.support.payloads import BETWEEN, LEAST, SHOTS, limits, payloads, png, with_bad
from tests.support.waiting import HANG

MODELS = model_names()


@pytest.fixture(scope="module")
def clip(running_emulator: Emulator) -> str:
    """The id of a finished clip that may be extended."""
    params = {"prompt": "The sun rises.", "aspect_ratio": "1:1"}
    body = {"model": "kirin_v1_6_t2v", "input": [{"params": params}]}
    id_ = running_emulator.call("POST", "/model/v1/generation", json=body)["id"]
    task = running_emulator.call("GET", f"/model/v1/generation/task/{id_}")
    return str(task["output"][0]["content"][0]["jobId"])


@pytest.fixture(scope="module")
def says_yes(running_emulator: Emulator, clip: str) -> Any:
    """Ask the emulator what it thinks of some params: True for 200, False for 400."""
    http = requests.Session()
    http.trust_env = False
    http.headers["Authorization"] = f"Bearer {KEY}"

    def ask(model: str, params: dict[str, Any]) -> bool:
        # An external id may be used once.
        params = {name: value for name, value in params.items() if name not in ("external_task_id", "model")}
        if params.get("video_id") and isinstance(params["video_id"], str):
            params["video_id"] = clip
        body = {"model": model, "input": [{"params": params}]}
        response = http.post(f"{running_emulator.url}/model/v1/generation", json=body, timeout=HANG)
        assert response.status_code in (200, 400), response.text
        return response.status_code == 200

    yield ask
    http.close()


def is_taken(payload: dict[str, Any], model: str) -> bool:
    try:
        prepare_payload(payload, model)
    except KirinPayloadError:
        return False
    return True


def as_sent(payload: dict[str, Any], model: str) -> dict[str, Any]:
    return normalize(payload, load_schema(model))


@pytest.mark.parametrize("model", MODELS)
def test_the_least_payload_is_taken_by_both(model: str, says_yes: Any) -> None:
    assert says_yes(model, prepare_payload(LEAST[model], model).params)


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_both_take_and_refuse_the_same_payloads(model: str, says_yes: Any, data: st.DataObject) -> None:
    payload = data.draw(payloads(model))
    taken = is_taken(payload, model)
    event("taken" if taken else "refused")
    assert says_yes(model, as_sent(payload, model)) is taken


@pytest.mark.parametrize(("model", "added", "fields"), BETWEEN, ids=lambda value: str(value)[:60])
def test_both_know_the_rules_between_fields(
    model: str, added: dict[str, Any], fields: list[str], says_yes: Any
) -> None:
    assert says_yes(model, as_sent({**LEAST[model], **added}, model)) is (not fields)


@pytest.mark.parametrize("model", MODELS)
def test_both_refuse_what_breaks_a_documented_limit(model: str, says_yes: Any) -> None:
    for name, place, value in limits(model):
        if name == "external_task_id":
            continue
        payload = with_bad(model, name, place, value)
        assert not is_taken(payload, model), (name, place)
        assert not says_yes(model, as_sent(payload, model)), (name, place, str(value)[:60])


MULTI = {"multi_shot": True, "shot_type": "customize", "multi_prompt": SHOTS, "aspect_ratio": "9:16", "mode": "std"}
GREEN, BLUE = ({"image": png(colour, (320, 320))} for colour in ("green", "blue"))
#: Model, payload, size and frames a second of the video, whether it has sound.
KINDS: list[tuple[str, dict[str, Any], tuple[int, int], int, bool]] = [
    ("kirin_v1_6_i2v", {"image": png()}, (720, 720), 30, False),
    (
        "kirin_v2_6_t2v",
        {"prompt": "Rain.", "sound": "on", "mode": "pro", "aspect_ratio": "1:1"},
        (1080, 1080),
        30,
        True,
    ),
    ("kirin_v3_omni_video", MULTI, (720, 1280), 30, False),
    ("kirin_v3_motion_control", {"image_url": png(), "seed": 3}, (1280, 720), 30, False),
]


@pytest.mark.parametrize(("model", "payload", "size", "fps", "has_sound"), KINDS, ids=lambda value: str(value)[:24])
def test_each_kind_of_task_ends_with_a_video_that_plays(
    conn_id: str, model: str, payload: dict[str, Any], size: tuple[int, int], fps: int, has_sound: bool, tmp_path: Any
) -> None:
    hook = KirinHook(conn_id)
    task = hook.submit(payload, model=model, allow_unknown_model=model not in MODELS)
    done = hook.wait(task.id, timeout=HANG)
    hook.download(done.videos[0].url, tmp_path / "video.mp4")
    hook.close()
    with av.open(str(tmp_path / "video.mp4")) as container:
        video = container.streams.video[0]
        assert (video.codec_context.width, video.codec_context.height) == size
        assert video.average_rate == fps
        assert len(container.streams.audio) == has_sound
        counts = {"video": 0, "audio": 0}
        for frame in container.decode():
            counts["video" if isinstance(frame, av.VideoFrame) else "audio"] += 1
    assert counts["video"] == 5 * fps
    assert (counts["audio"] > 100) is has_sound


def test_an_extension_begins_where_a_clip_ends(conn_id: str, tmp_path: Any) -> None:
    hook = KirinHook(conn_id)
    first = hook.wait(hook.submit({"prompt": "Snow.", "aspect_ratio": "1:1"}, model="kirin_v1_t2v").id, timeout=HANG)
    extension = {"video_id": first.videos[0].job_id, "prompt": "It melts."}
    longer = hook.wait(hook.submit(extension, model="kirin_duration_extension").id, timeout=HANG)
    assert longer.videos[0].duration == 10
    hook.download(longer.videos[0].url, tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 300
    with pytest.raises(Exception, match="no such video"):
        hook.submit({"video_id": "81234"}, model="kirin_duration_extension")
    hook.close()


def test_several_images_are_seen_one_after_the_other(conn_id: str, tmp_path: Any) -> None:
    payload = {"image_list": [{"image": png("red")}, GREEN, BLUE], "prompt": "p", "aspect_ratio": "1:1"}
    hook = KirinHook(conn_id)
    done = hook.wait(hook.submit(payload, model="kirin_v1_6_multi_i2v").id, timeout=HANG)
    hook.download(done.videos[0].url, tmp_path / "video.mp4")
    hook.close()
    with av.open(io.BytesIO((tmp_path / "video.mp4").read_bytes()), "r") as container:
        frames = [frame.to_image().getpixel((360, 360)) for frame in container.decode(video=0)]
    brightest = [pixel.index(max(pixel)) for pixel in (frames[0], frames[75], frames[149])]
    assert brightest == [0, 1, 2]


def test_the_gateway_s_own_descriptions_agree_with_the_schemas(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check_schemas = pytest.importorskip("scripts.check_schemas", reason="a checkout has the scripts")
    monkeypatch.setenv("KIRIN_API_KEY", KEY)
    with requests.Session() as http:
        http.headers["Authorization"] = f"Bearer {KEY}"
        assert len(check_schemas.descriptions(http, emulator.url, MODELS[0])) == 2
    assert check_schemas.main(["--url", emulator.url]) == 0
    assert check_schemas.main(["--url", f"{emulator.url}/nowhere", "kirin_v3_t2v"]) == 2
    said = capsys.readouterr().out
    assert "kirin_v3_t2v: " in said and "does not describe it" in said and KEY not in said
