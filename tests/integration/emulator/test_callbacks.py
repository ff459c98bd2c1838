"""Status changes sent to a callback URL."""

from __future__ import annotations

import json


def bodies(posts):
    return [json.loads(body) for _, _, body in posts]


def test_both_changes_are_sent_without_the_key(emulator, image, receiver):
    url = f"{receiver.url}/hook?id=1"
    id_ = emulator.submitted_id(image=image, callback_url=url, callback=url, prompt="[[seconds:600]]")
    receiver.wait_for(1)
    emulator.finish()
    posts = receiver.wait_for(2)
    first, last = bodies(posts)
    assert [path for path, _, _ in posts] == ["/hook?id=1"] * 2
    assert (first["id"], first["status"]) == (id_, "in_progress")
    assert "progress" in first
    assert (last["id"], last["status"]) == (id_, "completed")
    sent, asked = dict(last), emulator.task(id_)
    sent.pop("output"), asked.pop("output")
    assert sent == asked
    for _, headers, body in posts:
        assert "authorization" not in headers
        assert emulator.api_key.encode() not in body
        assert headers["content-type"] == "application/json"


def test_even_an_instant_generation_ran(emulator, image, receiver):
    emulator.submitted_id(image=image, callback_url=receiver.url)
    assert sorted(body["status"] for body in bodies(receiver.wait_for(2))) == ["completed", "in_progress"]


def test_both_fields_are_served(emulator, image, receiver):
    emulator.submitted_id(image=image, callback_url=f"{receiver.url}/a", callback=f"{receiver.url}/b")
    assert sorted(path for path, _, _ in receiver.wait_for(4)) == ["/a", "/a", "/b", "/b"]


def test_a_callback_that_the_receiver_fails_is_sent_again(emulator, image, receiver):
    receiver.answers = [200, 503]
    emulator.submitted_id(image=image, callback_url=receiver.url, prompt="[[fail:8002005098]] [[seconds:600]]")
    receiver.wait_for(1)
    emulator.finish()
    statuses = [body["status"] for body in bodies(receiver.wait_for(3))]
    assert statuses == ["in_progress", "failed", "failed"]


def test_faults_lose_double_and_garble(emulator, image, receiver, until):
    emulator.fault(on="callback", kind="cut_before")
    emulator.fault(on="callback", kind="lose_response")
    emulator.submitted_id(image=image, callback_url=receiver.url, prompt="[[seconds:600]]")
    until(lambda: emulator.call("GET", "/emulator/faults")["faults"], lambda left: len(left) == 1)
    emulator.finish()
    assert [body["status"] for body in bodies(receiver.wait_for(2))] == ["completed", "completed"]
    emulator.fault(on="callback", kind="garbage", body="not json")
    emulator.submitted_id(image=image, callback_url=receiver.url)
    assert b"not json" in [body for _, _, body in receiver.wait_for(4)]


def test_a_callback_may_come_before_the_status_says_so(emulator, image, receiver):
    emulator.fault(on="callback", kind="early")
    id_ = emulator.submitted_id(image=image, callback_url=receiver.url, prompt="[[seconds:600]]")
    (sent,) = bodies(receiver.wait_for(1))
    assert (sent["id"], sent["status"]) == (id_, "completed") and sent["output"]
    assert emulator.task(id_)["status"] == "in_progress"


def test_the_kling_style(start_emulator, image, receiver):
    emulator = start_emulator("--seconds", "0", "--callback-style", "kling")
    id_ = emulator.submitted_id(image=image, callback_url=receiver.url, external_task_id="mine")
    running, done = sorted(bodies(receiver.wait_for(2)), key=lambda body: body["task_status"])
    assert (running["task_status"], done["task_status"]) == ("processing", "succeed")
    assert done["task_id"] != id_
    assert done["task_info"]["external_task_id"] == "mine"
    assert done["task_result"]["videos"][0]["duration"] == "5"


def test_what_runs_ends_on_request_and_is_called_back(emulator, image, receiver):
    prompt = "[[seconds:600]] [[fail:8002005098]]"
    id_ = emulator.submitted_id(image=image, callback_url=receiver.url, prompt=prompt)
    assert [body["status"] for body in bodies(receiver.wait_for(1))] == ["in_progress"]
    assert emulator.call("POST", "/emulator/finish") == {"finished": 1}
    assert [body["status"] for body in bodies(receiver.wait_for(2))] == ["in_progress", "failed"]
    assert emulator.task(id_)["status"] == "failed"
    assert emulator.call("POST", "/emulator/finish") == {"finished": 0}
