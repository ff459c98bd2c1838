"""The process itself: its ready line, its end, its state, invalid arguments, and its durations."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest
import requests

from tests.support.waiting import HANG


def test_sigterm_ends_it_cleanly_even_with_waiting_clients(start_emulator, image, until):
    emulator = start_emulator("--seconds", "3600")
    emulator.fault(on="submit", kind="hang")
    emulator.fault(on="submit", kind="hold")
    cuts: list[str] = []

    def submit() -> None:
        try:
            emulator.submit(image=image)
        except requests.ConnectionError as error:
            cuts.append(type(error).__name__)

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: emulator.request("GET", "/emulator/held").json()["held"], bool)
    emulator.process.terminate()
    assert emulator.process.wait(HANG) == 0
    assert emulator.process.stdout.read() == ""
    assert emulator.process.stderr.read() == ""
    for thread in threads:
        thread.join(HANG)
    assert len(cuts) == 2


def test_the_access_log_has_no_secrets(start_emulator, small_image):
    image = small_image
    emulator = start_emulator("-v", "--seconds", "0")
    url = emulator.video_url(emulator.submitted_id(image=image, prompt="a cup"))
    requests.head(url, timeout=HANG)
    code, log = emulator.stop()
    assert code == 0
    assert "POST /model/v1/generation 200" in log
    assert "HEAD /cdn/" in log
    for secret in (emulator.api_key, image[:40], "Signature", url.split("Signature=")[1]):
        assert secret not in log


def test_a_range_of_seconds(start_emulator, image):
    emulator = start_emulator("--seconds", "0.1-0.4")
    tasks = [emulator.ended(emulator.submitted_id(image=image)) for _ in range(8)]
    spans = {task["metadata"]["completed_at"] - task["created_at"] for task in tasks}
    assert len(spans) > 2
    assert min(spans) >= 100
    assert max(spans) <= 400


def test_everything_continues_after_sigkill(start_emulator, small_image, receiver, tmp_path, until):
    image = small_image
    arguments = ("--state-dir", str(tmp_path / "state"), "--seconds", "0")
    first = start_emulator(*arguments)
    done = first.submitted_id(image=image, external_task_id="done")
    url = first.video_url(done)
    running = first.submitted_id(image=image, prompt="[[seconds:2]]", callback_url=receiver.url)
    receiver.wait_for(1)
    before = first.ledger()["paid"]
    first.kill()
    second = start_emulator(*arguments, port=int(first.url.rsplit(":", 1)[1]))
    assert [row["id"] for row in second.ledger()["paid"]] == [row["id"] for row in before]
    assert second.task("done")["id"] == done
    assert requests.head(url, timeout=HANG).status_code == 200, "a link from before must still be good"
    ended = second.ended(running)
    assert ended["metadata"]["completed_at"] - ended["created_at"] == 2000
    # "in progress" may come twice: the first process may have died before it recorded that it was sent.
    until(lambda: [json.loads(body)["status"] for _, _, body in receiver.posts][-1], lambda last: last == "completed")


def test_an_unfetched_image_is_fetched_after_a_restart(start_emulator, picture, receiver, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        first = start_emulator("--state-dir", str(tmp_path), "--seconds", "0")
        id_ = first.submitted_id(image=f"http://127.0.0.1:{port}/late.png")
        assert first.task(id_)["status"] == "in_progress"
        first.kill()
    second = start_emulator("--state-dir", str(tmp_path), "--seconds", "0")
    assert second.ended(id_)["error"]["code"] == "8002005002"


def test_a_folder_of_an_older_emulator_starts_empty(start_emulator, image, tmp_path):
    with sqlite3.connect(tmp_path / "kirin.sqlite3") as old:
        old.execute("CREATE TABLE generations (seq INTEGER PRIMARY KEY, image TEXT)")
        old.execute("INSERT INTO generations (image) VALUES ('digest')")
    old.close()
    emulator = start_emulator("--state-dir", str(tmp_path), "--seconds", "0")
    assert emulator.ledger()["paid"] == []
    assert emulator.task(emulator.submitted_id(image=image))["status"] == "completed"


def test_no_key_on_disk(start_emulator, image, tmp_path):
    emulator = start_emulator("--state-dir", str(tmp_path))
    emulator.submitted_id(image=image)
    emulator.stop()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not any(emulator.api_key.encode() in path.read_bytes() for path in files)


def refused(*arguments: str) -> str:
    command = [sys.executable, "-m", "airflow_provider_kirin.emulator", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_unusable_arguments(start_emulator, emulator, tmp_path):
    port = emulator.url.rsplit(":", 1)[1]
    assert refused("--port", port).count("\n") == 1
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert str(blocked) in refused("--state-dir", str(blocked / "below"))
    other = start_emulator("--state-dir", str(tmp_path / "state"))
    assert "in use" in refused("--port", "0", "--state-dir", str(tmp_path / "state"))
    assert other.process.poll() is None


@pytest.mark.parametrize(
    "arguments",
    [("--seconds", "fast"), ("--seconds", "3-2"), ("--port", "70000"), ("--balance", "0.001"), ("--api-key", "")],
    ids=lambda value: "=".join(value),
)
def test_wrong_arguments(arguments):
    assert arguments[0] in refused(*arguments)


def test_a_missing_av_is_one_line(tmp_path):
    code = (
        "import runpy, sys\nsys.modules['av'] = None\n"
        "runpy.run_module('airflow_provider_kirin.emulator', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "emulator]" in ended.stderr


def test_it_imports_nothing_of_the_client_and_no_airflow():
    code = (
        "import sys, pkgutil, importlib, airflow_provider_kirin.emulator as e\n"
        "for m in pkgutil.iter_modules(e.__path__):\n"
        "    if m.name != '__main__': importlib.import_module(e.__name__ + '.' + m.name)\n"
        "print([m for m in sys.modules if m == 'airflow' or m.startswith('airflow.')"
        " or (m.startswith('airflow_provider_kirin.') and not m.startswith('airflow_provider_kirin.emulator'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True)
    assert ended.stdout.strip() == "[]"
