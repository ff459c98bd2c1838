"""Trouble on request: what the client sees, and whether it was paid."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.waiting import HANG


def test_status_is_answered_before_anything_is_accepted(emulator, image):
    emulator.fault(on="submit", kind="status", status=503, retry_after=2, times=2)
    for _ in range(2):
        refused = emulator.submit(image=image)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "2"
    assert emulator.ledger()["paid"] == []
    assert emulator.submit(image=image).status_code == 200


@pytest.mark.parametrize(
    ("kind", "paid"), [("cut_before", 0), ("lose_response", 1), ("cut_mid_response", 1)], ids=lambda value: str(value)
)
def test_cut_sockets(emulator, image, kind, paid):
    emulator.fault(on="submit", kind=kind)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        emulator.submit(image=image, external_task_id="mine")
    ledger = emulator.ledger()
    assert len(ledger["paid"]) == paid
    assert ledger["submits"] == 1
    assert emulator.request("GET", "/model/v1/generation/task/mine").status_code == (200 if paid else 404)
    entry = emulator.request("GET", "/emulator/requests").json()["requests"][0]
    assert entry["status"] is None
    assert entry["fault"] == kind


def test_half_a_response_is_half_a_response(emulator, image):
    id_ = emulator.submitted_id(image=image)
    emulator.fault(on="get", kind="cut_mid_response")
    with emulator.request("GET", f"/model/v1/generation/task/{id_}", stream=True) as response:
        promised = int(response.headers["Content-Length"])
        received = b""

        def receive():
            nonlocal received
            for chunk in response.iter_content(1):
                received += chunk

        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            receive()
    assert len(received) == promised // 2
    assert received.startswith(b'{"id"')


def test_half_a_video(emulator, image):
    url = emulator.video_url(emulator.submitted_id(image=image))
    emulator.fault(on="video", kind="cut_mid_response")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(url, timeout=HANG)
    assert requests.get(url, timeout=HANG).status_code == 200


def test_accepted_and_yet_a_bad_status(emulator, image):
    emulator.fault(on="submit", kind="accepted_status", status=502, body="<html>", content_type="text/html")
    response = emulator.submit(image=image)
    assert (response.status_code, response.text, response.headers["Content-Type"]) == (502, "<html>", "text/html")
    assert len(emulator.ledger()["paid"]) == 1


def test_slow(emulator, image):
    emulator.fault(on="get", kind="slow", seconds=0.4)
    id_ = emulator.submitted_id(image=image)
    started = time.monotonic()
    emulator.task(id_)
    slow = time.monotonic() - started
    assert slow >= 0.4


def test_hang_until_the_client_leaves(emulator, image, until):
    emulator.fault(on="submit", kind="hang")
    with pytest.raises(requests.ReadTimeout):
        emulator.request("POST", "/model/v1/generation", json={}, timeout=0.3)
    emulator.http.close()
    entries = until(
        lambda: emulator.request("GET", "/emulator/requests").json()["requests"], lambda rows: len(rows) == 1
    )
    assert entries[0]["status"] is None
    assert emulator.ledger()["paid"] == []


def test_garbage(emulator, image):
    id_ = emulator.submitted_id(image=image)
    emulator.fault(on="get", kind="garbage", body="<html>Sign in</html>", content_type="text/html")
    response = emulator.request("GET", f"/model/v1/generation/task/{id_}")
    assert (response.status_code, response.text) == (200, "<html>Sign in</html>")


@pytest.mark.parametrize("after", [True, False])
def test_hold_and_release(emulator, image, until, after):
    emulator.fault(on="submit", kind="hold", after=after)
    responses = []
    thread = threading.Thread(target=lambda: responses.append(emulator.submit(image=image, external_task_id="held-1")))
    thread.start()
    held = until(lambda: emulator.request("GET", "/emulator/held").json()["held"], bool)
    assert held[0]["on"] == "submit"
    assert "held-1" in held[0]["about"]
    assert len(emulator.ledger()["paid"]) == (1 if after else 0)
    assert responses == []
    released = emulator.request("POST", "/emulator/release", json={"numbers": [held[0]["number"]]})
    assert released.json() == {"released": 1}
    thread.join(HANG)
    assert responses[0].status_code == 200
    assert len(emulator.ledger()["paid"]) == 1


def test_a_held_client_that_dies_has_paid(emulator, image, until):
    emulator.fault(on="submit", kind="hold")
    body = json.dumps({"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image}}]})
    headers = {"Authorization": f"Bearer {emulator.api_key}", "Content-Type": "application/json"}
    with closing(HTTPConnection(urlsplit(emulator.url).netloc, timeout=HANG)) as client:
        client.request("POST", "/model/v1/generation", body, headers)
        until(lambda: emulator.request("GET", "/emulator/held").json()["held"], bool)
    assert len(emulator.ledger()["paid"]) == 1


def test_a_full_account(emulator, image):
    emulator.fault(on="submit", kind="full")
    refused = emulator.submit(image=image)
    assert (refused.status_code, refused.json()["error"]["code"], refused.headers["Retry-After"]) == (429, 1303, "1")
    assert emulator.ledger()["paid"] == []
    assert emulator.submit(image=image).status_code == 200


def test_a_directive_without_a_prompt(emulator, image):
    emulator.fault(on="submit", kind="directive", directive="[[fail:8002005098]]", match="second")
    first = emulator.submitted_id(image=image, external_task_id="first", prompt="[[no-video]]")
    second = emulator.submitted_id(image=image, external_task_id="second", prompt="[[no-video]]")
    assert emulator.ended(first)["status"] == "completed"
    assert emulator.ended(second)["error"]["code"] == "8002005098"


def test_lag(emulator, image, until):
    def status(ref):
        return emulator.request("GET", f"/model/v1/generation/task/{ref}").status_code

    emulator.fault(on="submit", kind="lag", seconds=600)
    id_ = emulator.submitted_id(image=image, external_task_id="late")
    assert [status(ref) for ref in (id_, "late")] == [404, 404]
    emulator.fault(on="submit", kind="lag", seconds=0.4)
    emulator.submitted_id(image=image, external_task_id="sooner")
    assert until(lambda: status("sooner"), lambda seen: seen != 404) == 200


def test_match_skip_and_times(emulator, image):
    first, second = (emulator.submitted_id(image=image, external_task_id=f"row-{number}") for number in (1, 2))
    emulator.fault(on="get", kind="status", status=500, match="row-2", skip=1, times=-1)

    def statuses(ref):
        return [emulator.request("GET", f"/model/v1/generation/task/{ref}").status_code for _ in range(3)]

    assert statuses(first) == [200, 200, 200]
    assert statuses(second) == [200, 500, 500]
    assert emulator.request("GET", "/emulator/faults").json()["faults"][0]["times"] == -1
    assert emulator.request("DELETE", "/emulator/faults").json() == {"faults": []}
    assert statuses(second) == [200, 200, 200]


def test_any_meets_every_request_but_not_the_control_plane(emulator, image):
    id_ = emulator.submitted_id(image=image)
    url = emulator.video_url(id_)
    emulator.fault(on="any", kind="status", status=500, times=3)
    assert emulator.submit(image=image).status_code == 500
    assert emulator.request("GET", f"/model/v1/generation/task/{id_}").status_code == 500
    assert requests.get(url, timeout=HANG).status_code == 500
    assert emulator.request("GET", "/emulator/ledger").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"on": "submit"},
        {"on": "submit", "kind": "explode"},
        {"on": "post", "kind": "slow"},
        {"on": "get", "kind": "lag"},
        {"on": "video", "kind": "full"},
        {"on": "callback", "kind": "hang"},
        {"on": "get", "kind": "slow", "seconds": -1},
        {"on": "get", "kind": "slow", "times": True},
        {"on": "get", "kind": "status", "status": 99},
        {"on": "get", "kind": "garbage", "content_type": "a\r\nX: y"},
        {"on": "get", "kind": "slow", "typo": 1},
    ],
    ids=str,
)
def test_wrong_faults_are_refused_whole(emulator, fault):
    good = {"on": "get", "kind": "slow"}
    response = emulator.request("POST", "/emulator/faults", json={"faults": [good, fault]})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "INVALID_FAULT"
    assert emulator.request("GET", "/emulator/faults").json() == {"faults": []}


def test_the_journal_knows_no_secrets(emulator, image):
    emulator.request("GET", "/model/v1/generation/task/x?token=hidden")
    response = emulator.request("GET", "/emulator/requests")
    assert emulator.api_key not in response.text
    assert "hidden" not in response.text
    entry = response.json()["requests"][0]
    assert (entry["method"], entry["path"]) == ("GET", "/model/v1/generation/task/x")
    assert (entry["status"], entry["authorization"]) == (404, True)
    assert emulator.ledger()["gets"] == 1
