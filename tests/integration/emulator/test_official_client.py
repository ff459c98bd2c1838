"""SeaArt's own client, unchanged, against the emulator."""

from __future__ import annotations

import pytest

from tests.support.waiting import HANG

sdk = pytest.importorskip("seaart_sdk")


@pytest.fixture
def client(emulator):
    return sdk.new(sdk.ClientConfig(api_key=emulator.api_key, base_url=emulator.url, timeout=HANG))


def body(**params):
    return {"model": "kirin_v1_6_i2v", "input": [{"params": params}]}


def test_success(client, image, emulator):
    task = client.modal.create(body(image=image, prompt="[[seconds:600]]"))
    seen = []

    def on_poll(status, progress):
        seen.append((status, progress))
        emulator.finish()

    done = task.wait(
        sdk.with_poll_interval(0.05),
        sdk.with_poll_timeout(HANG),
        sdk.with_poll_callback(on_poll),
    )
    assert done.status == "completed"
    assert seen[0][0] == "in_progress"
    assert 0 <= seen[0][1] < 1
    assert len(done.urls()) == 1
    assert "/cdn/" in done.urls()[0]
    assert done.output[0].content[0].job_id
    assert done.usage.cost_float64() == 0.28
    assert done.metadata.completed_at >= done.metadata.in_queue_at > 0


def test_failure(client, image):
    task = client.modal.create(body(image=image, prompt="[[fail:8002005098]]"))
    with pytest.raises(sdk.SeaArtError) as caught:
        task.wait(sdk.with_poll_interval(0.05), sdk.with_poll_timeout(HANG))
    assert caught.value.kind == sdk.ERR_TASK_FAILED
    assert caught.value.task_id == task.id
    assert "generation process failed" in caught.value.message
    assert client.modal.get(task.id).error.code == "8002005098"


def test_a_plain_string_as_error(client, image):
    task = client.modal.create(body(image=image, prompt="[[fail:out of luck:text]]"))
    assert client.modal.get(task.id).error == "out of luck"


def test_wrong_key(emulator, image):
    client = sdk.new(sdk.ClientConfig(api_key="wrong", base_url=emulator.url))
    with pytest.raises(sdk.SeaArtError) as caught:
        client.modal.create(body(image=image))
    assert (caught.value.kind, caught.value.status) == (sdk.ERR_AUTH, 401)


def test_refused_parameters(client, image):
    with pytest.raises(sdk.SeaArtError) as caught:
        client.modal.create(body(image=image, duration="7"))
    assert caught.value.status == 400
    assert "duration" in caught.value.message
