"""The generation API over real sockets: responses, keys, lookups, errors."""

from __future__ import annotations

import json
import re
import socket

import pytest
import requests

from tests.support.waiting import HANG


def test_submit_answers_with_an_xid_and_the_model(emulator, image):
    response = emulator.submit(image=image, prompt="a cup turns")
    body = response.json()
    assert response.status_code == 200
    assert re.fullmatch(r"[0-9a-v]{20}", body["id"])
    assert isinstance(body["created_at"], int)
    assert body["created_at"] > 1_600_000_000_000
    assert (body["model"], body["status"]) == ("kirin_v1_6_i2v", "in_progress")
    assert set(body) == {"id", "created_at", "status", "model"}


def test_a_running_task_has_progress_and_no_output(emulator, image):
    task = emulator.task(emulator.submitted_id(image=image, prompt="[[seconds:60]]"))
    assert task["status"] == "in_progress"
    assert 0 <= task["progress"] < 1
    assert "output" not in task
    assert "usage" not in task
    assert "error" not in task
    assert set(task["metadata"]) == {"in_queue_at"}


def test_a_completed_task_has_output_usage_and_metadata(emulator, image):
    task = emulator.ended(emulator.submitted_id(image=image, duration="10", mode="pro"))
    content = task["output"][0]["content"][0]
    assert task["status"] == "completed"
    assert content["type"] == "video"
    assert content["duration"] == 10
    assert content["jobId"].isdigit()
    assert content["url"].startswith(emulator.url + "/cdn/")
    assert task["usage"] == {"cost": "0.98", "discount": 1}
    assert set(task["metadata"]) == {"in_queue_at", "upload_at", "completed_at"}
    assert "progress" not in task
    assert "error" not in task


@pytest.mark.parametrize(
    ("mode", "duration", "cost"), [("std", "5", "0.28"), ("std", "10", "0.56"), ("pro", "5", "0.49")]
)
def test_precharge_costs_what_the_generation_costs(emulator, image, mode, duration, cost):
    params = {"image": image, "mode": mode, "duration": duration}
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": params}]}
    preview = emulator.request("POST", "/model/v1/generation/precharge", json=body).json()
    assert preview["status"] == "success"
    assert preview["data"]["cost"] == cost
    assert preview["data"]["currency"] == "USD"
    assert emulator.ledger()["paid"] == []
    assert emulator.ended(emulator.submitted_id(**params))["usage"]["cost"] == cost


@pytest.mark.parametrize("mode", ["std", "pro"])
def test_precharge_may_miss_with_http_200(emulator, image, mode):
    body = {
        "model": "kirin_v1_6_i2v",
        "input": [{"params": {"image": image, "mode": mode, "prompt": "[[price:miss]]"}}],
    }
    response = emulator.request("POST", "/model/v1/generation/precharge", json=body)
    assert response.status_code == 200
    said = response.json()
    assert said["status"] == "failed"
    assert (said["data"]["cost"], said["data"]["reason"]) == (None, "COST_CACHE_MISS")


def test_precharge_may_speak_in_credits(emulator, image):
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image, "prompt": "[[price:credit]]"}}]}
    data = emulator.request("POST", "/model/v1/generation/precharge", json=body).json()["data"]
    assert data["currency"] == "credit"


def test_precharge_meets_faults(emulator, image):
    emulator.fault(on="price", kind="status", status=503)
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image}}]}
    assert emulator.request("POST", "/model/v1/generation/precharge", json=body).status_code == 503
    assert emulator.request("POST", "/model/v1/generation/precharge", json=body).status_code == 200


def test_precharge_judges_as_a_submit_does(emulator, image):
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image, "duration": 5}}]}
    response = emulator.request("POST", "/model/v1/generation/precharge", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "8002005004"


def test_the_model_may_come_in_a_header(emulator, image):
    body = {"input": [{"params": {"image": image}}]}
    response = emulator.request("POST", "/model/v1/generation", json=body, headers={"X-Model": "kirin_v1_6_i2v"})
    assert response.status_code == 200
    assert response.json()["model"] == "kirin_v1_6_i2v"


def test_a_model_in_the_body_counts_more_than_one_in_the_header(emulator, image):
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image}}]}
    response = emulator.request("POST", "/model/v1/generation", json=body, headers={"X-Model": "kirin_v9"})
    assert response.json()["model"] == "kirin_v1_6_i2v"


def test_an_unknown_model_is_not_found(emulator, image):
    body = {"model": "kirin_v9", "input": [{"params": {"image": image}}]}
    response = emulator.request("POST", "/model/v1/generation", json=body)
    assert (response.status_code, response.json()) == (404, {"detail": "App not found: kirin_v9"})


@pytest.mark.parametrize("external", ["dag/run 2026-01-01T00:00:00+00:00/ü%2F", "order-{1}", "{}", "{ref}/{id:.*}?#"])
def test_lookup_by_external_id_even_an_awkward_one(emulator, image, external):
    id_ = emulator.submitted_id(image=image, external_task_id=external)
    assert emulator.task(requests.utils.quote(external, safe=""))["id"] == id_


def test_no_external_lookup(start_emulator, image):
    emulator = start_emulator("--seconds", "0", "--no-external-lookup")
    id_ = emulator.submitted_id(image=image, external_task_id="mine")
    assert emulator.request("GET", "/model/v1/generation/task/mine").status_code == 404
    assert emulator.task(id_)["id"] == id_


def test_unknown_tasks_and_paths(emulator):
    task = emulator.request("GET", "/model/v1/generation/task/nothing")
    path = emulator.request("GET", "/model/v1/nothing")
    method = emulator.request("PUT", "/model/v1/generation")
    assert (task.status_code, task.json()) == (404, {"detail": "Request not found"})
    assert (path.status_code, path.json()) == (404, {"detail": "Not Found"})
    assert (method.status_code, method.json(), method.headers["Allow"]) == (
        405,
        {"detail": "Method Not Allowed"},
        "POST",
    )


def test_keys(emulator, image):
    id_ = emulator.submitted_id(image=image)
    url = f"{emulator.url}/model/v1/generation/task/{id_}"
    missing = requests.get(url, timeout=HANG)
    wrong = requests.get(url, headers={"Authorization": "Bearer other"}, timeout=HANG)
    assert (missing.status_code, missing.json()) == (401, {"error": "Missing Token"})
    assert wrong.status_code == 401
    assert wrong.json()["error"]["code"] == "UNAUTHORIZED"
    assert wrong.json()["request_id"] == wrong.headers["X-Request-Id"]
    assert requests.get(emulator.url + "/emulator/ledger", timeout=HANG).status_code == 401


def test_a_task_belongs_to_the_key_that_made_it(start_emulator, image):
    emulator = start_emulator("--seconds", "0", "--api-key", "second-key")
    id_ = emulator.submitted_id(image=image, external_task_id="same")
    other = {"Authorization": "Bearer second-key"}
    for ref in (id_, "same"):
        assert emulator.request("GET", f"/model/v1/generation/task/{ref}", headers=other).status_code == 404
    body = {"model": "kirin_v1_6_i2v", "input": [{"params": {"image": image, "external_task_id": "same"}}]}
    assert emulator.request("POST", "/model/v1/generation", json=body, headers=other).status_code == 200


def test_every_response_has_a_request_id_and_keeps_the_clients(emulator):
    for path in ("/model/nothing", "/model/api/v1/user/balance", "/cdn/x.mp4"):
        assert len(emulator.request("GET", path).headers["X-Request-Id"]) >= 16
    kept = emulator.request("GET", "/model/nothing", headers={"X-Request-Id": "my-own-1"})
    assert kept.headers["X-Request-Id"] == "my-own-1"


def test_head_and_keep_alive(emulator, image):
    id_ = emulator.submitted_id(image=image)
    host, port = emulator.url.removeprefix("http://").split(":")
    lines = f"Host: {host}\r\nAuthorization: Bearer {emulator.api_key}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=HANG) as connection:
        reader = connection.makefile("rb")
        for _ in range(3):
            connection.sendall(f"HEAD /model/v1/generation/task/{id_} HTTP/1.1\r\n{lines}".encode())
            assert reader.readline().startswith(b"HTTP/1.1 200")
            while reader.readline() != b"\r\n":
                pass


@pytest.mark.parametrize("raw", [b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"9" * 10_000, b""])
def test_broken_json(emulator, raw):
    response = emulator.request("POST", "/model/v1/generation", data=raw, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert "error" in response.json()


def test_other_content_types_are_refused(emulator):
    response = emulator.request("POST", "/model/v1/generation", data={"model": "x"})
    assert response.status_code == 415


def test_a_body_above_the_limit(emulator):
    body = json.dumps({"model": "kirin_v1_6_i2v", "input": [{"params": {"image": "A" * (97 * 1024 * 1024)}}]})
    headers = {"Content-Type": "application/json"}
    response = emulator.request("POST", "/model/v1/generation", data=body, headers=headers)
    assert response.status_code == 413
    assert "detail" in response.json()


@pytest.mark.parametrize("policy", ["reject", "return", "bill"])
def test_duplicate_external_ids(start_emulator, image, policy):
    emulator = start_emulator("--seconds", "0", "--duplicates", policy)
    first = emulator.submitted_id(image=image, external_task_id="twice")
    second = emulator.submit(image=image, external_task_id="twice")
    paid = [row["id"] for row in emulator.ledger()["paid"]]
    if policy == "reject":
        assert second.status_code == 409
        assert second.json()["error"]["code"] == "EXTERNAL_TASK_ID_EXISTS"
        assert paid == [first]
    elif policy == "return":
        assert second.json()["id"] == first
        assert paid == [first]
    else:
        newest = second.json()["id"]
        assert newest != first
        assert paid == [first, newest]
        assert emulator.task("twice")["id"] == newest


def test_balance_is_held_paid_and_given_back(start_emulator, image):
    emulator = start_emulator("--seconds", "0", "--balance", "0.60")

    def left() -> str:
        bodies = [emulator.request("GET", f"{p}/api/v1/user/balance").json()["data"]["balance"] for p in ("", "/model")]
        assert bodies[0] == bodies[1]
        return str(bodies[0])

    emulator.submitted_id(image=image)
    assert left() == "0.32"
    emulator.ended(emulator.submitted_id(image=image, prompt="[[fail:8002005098]]"))
    assert left() == "0.32"
    refused = emulator.submit(image=image, duration="10")
    assert refused.status_code == 402
    assert refused.json()["status"]["error_code"] == 40201
    assert refused.json()["data"] is None
    assert emulator.submit(image=image).status_code == 200
    assert left() == "0.04"


def test_too_many_at_once(start_emulator, image):
    emulator = start_emulator("--seconds", "600", "--max-concurrent", "1")
    emulator.ended(emulator.submitted_id(image=image, prompt="[[seconds:0]]"))
    assert emulator.submit(image=image).status_code == 200
    refused = emulator.submit(image=image)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == 1303
    assert float(refused.headers["Retry-After"]) >= 1


def test_public_url_and_host(start_emulator, image):
    emulator = start_emulator("--seconds", "0", "--public-url", "https://emulator.example/base/")
    assert emulator.video_url(emulator.submitted_id(image=image)).startswith("https://emulator.example/base/cdn/")
