"""The commands, run as a person runs them: a process of its own, against the emulator and a migrated database."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.utils.session import create_session
from sqlalchemy import update

from airflow_provider_kirin import __version__
from airflow_provider_kirin.__main__ import main
from airflow_provider_kirin.api.models import model_names
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from tests.support.emulator import KEY
from tests.support.fork_server import ForkServer
from tests.support.raw_server import replying, whole
from tests.support.waiting import HANG, until

pytestmark = [pytest.mark.usefixtures("airflow_db", "conn_id")]

Kirin = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fork_server(airflow_db) -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture
def kirin(tmp_path, fork_server) -> Kirin:
    """Run a command in an empty folder: ``kirin("status", "some-id")``; ``by="airflow"`` for Airflow's own."""

    def run(*arguments: str, by: str = "airflow_provider_kirin", stdin: Any = None, input: str = "") -> Any:
        command = [*(["kirin"] if by == "airflow" else []), *arguments]
        if stdin is None:
            return fork_server.run(by, command, cwd=tmp_path, stdin=input)
        # A terminal.
        command = [sys.executable, "-m", by, *command]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG, check=False, stdin=stdin
        )

    return run


@pytest.fixture
def payload(tmp_path, image_bytes) -> dict[str, Any]:
    """A payload in ``payload.json``, its image beside it."""
    (tmp_path / "cup.jpg").write_bytes(image_bytes)
    content = {"image": "cup.jpg", "prompt": "It turns."}
    (tmp_path / "payload.json").write_text(json.dumps(content))
    return content


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """It failed as a command should: one line on stderr, nothing on stdout, no traceback and no key."""
    assert done.returncode == 1 and done.stdout == "", done
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("kirin: kirin_v1_6_i2v: ")]
    assert line.startswith("kirin: ") and "Traceback" not in done.stderr and KEY not in done.stderr
    for part in parts:
        assert part in line


class TestValidate:
    @pytest.mark.parametrize("by", ["airflow_provider_kirin", "airflow"])
    def test_says_what_would_be_sent(self, kirin, payload, by):
        done = kirin("validate", "payload.json", by=by)
        assert done.returncode == 0 and "kirin_v1_6_i2v: image=JPEG" in done.stdout and "duration='5'" in done.stdout
        assert "price: about 0.28 USD" in done.stdout

    @pytest.mark.parametrize(
        "text", ["image: cup.jpg\nprompt: It turns.\nduration: 10\n", '{"image": "cup.jpg", "duration": "10"}']
    )
    def test_takes_yaml_and_standard_input(self, kirin, payload, text):
        done = kirin("validate", "-", input=text)
        assert done.returncode == 0 and "duration='10'" in done.stdout

    def test_needs_no_connection(self, kirin, payload, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_KIRIN_DEFAULT")
        done = kirin("validate", "payload.json")
        assert done.returncode == 0 and "no price: " in done.stderr and "price" not in done.stdout

    def test_names_every_problem_on_a_line(self, kirin, payload, tmp_path):
        (tmp_path / "bad.json").write_text(json.dumps({"promt": "x", "image": "gone.jpg", "duration": 7}))
        done = kirin("validate", "bad.json")
        assert done.returncode == 1 and done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 3 and all(line.startswith("kirin: ") for line in lines)
        for part in ("promt", "gone.jpg", "duration = 7"):
            assert any(part in line for line in lines), part

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("gone.json", None, "No such file"),
            ("bad.yaml", "{a: [", "neither JSON nor YAML"),
            ("latin-1.json", '{"prompt": "\xe9"}'.encode("latin-1"), "is not text in UTF-8: byte 0xE9 at position 12"),
            ("text.json", '"just text"', "payload = 'just text': must be a mapping"),
        ],
    )
    def test_a_file_that_is_none(self, kirin, tmp_path, name, content, said):
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        assert_one_line(kirin("validate", name), said)

    def test_aliases_of_aliases(self, kirin, tmp_path):
        lines = ["k0: &k0 [x]"] + [f"k{n}: &k{n} [{','.join([f'*k{n - 1}'] * 9)}]" for n in range(1, 10)]
        (tmp_path / "aliases.yaml").write_text("\n".join(lines))
        assert_one_line(kirin("validate", "aliases.yaml"), "more than 10,000 values")


class TestSubmit:
    @pytest.mark.parametrize("by", ["airflow_provider_kirin", "airflow"])
    def test_prints_the_id_and_nothing_else(self, kirin, payload, emulator, by):
        done = kirin("submit", "payload.json", "--yes", "--external-task-id", "order-1", by=by)
        assert done.returncode == 0, done
        (row,) = emulator.ledger()["paid"]
        assert done.stdout == f"{row['id']}\n" and row["external_task_id"] == "order-1"
        assert "about 0.28 USD (according to the gateway's price preview)" in done.stderr and "order-1" in done.stderr

    def test_is_not_paid_twice_under_one_name(self, kirin, payload, emulator):
        first, again = (kirin("submit", "payload.json", "-y", "--external-task-id", "order-1") for _ in range(2))
        assert first.stdout == again.stdout and emulator.submitted == 1
        assert "submitted" in first.stderr and "adopted at no cost" in again.stderr

    def test_without_a_name_it_gets_one_and_each_is_new(self, kirin, payload, emulator):
        assert kirin("submit", "payload.json", "-y").stdout != kirin("submit", "payload.json", "-y").stdout
        names = {row["external_task_id"] for row in emulator.ledger()["paid"]}
        assert len(names) == 2 and all(name.startswith("airflow-cli-") for name in names)

    def test_does_not_ask_without_a_terminal(self, kirin, payload, emulator):
        assert_one_line(kirin("submit", "payload.json"), "give --yes", "Nothing was submitted")
        assert emulator.submitted == 0

    @pytest.mark.parametrize(("answer", "submitted"), [("y\n", 1), ("yes\n", 1), ("n\n", 0), ("\n", 0)])
    def test_asks_a_person(self, kirin, payload, emulator, answer, submitted):
        ours, theirs = pty.openpty()
        try:
            os.write(ours, answer.encode())
            done = kirin("submit", "payload.json", stdin=theirs)
        finally:
            os.close(ours)
            os.close(theirs)
        assert "[y/N]" in done.stderr and "for about 0.28 USD" in done.stderr
        assert emulator.submitted == submitted and done.returncode == (0 if submitted else 1)

    def test_a_lost_response_is_looked_up(self, kirin, payload, emulator):
        emulator.fault(on="submit", kind="lose_response")
        done = kirin("submit", "payload.json", "-y", "--external-task-id", "order-1")
        assert done.returncode == 0 and emulator.submitted == 1
        assert done.stdout.strip() == emulator.ledger()["paid"][0]["id"]

    def test_the_reason_of_a_wait_is_printed(self, kirin, payload, emulator):
        emulator.fault(on="get", kind="status", status=503, times=1)
        emulator.fault(on="submit", kind="status", status=429, times=1)
        done = kirin("submit", "payload.json", "-y")
        assert done.returncode == 0 and emulator.submitted == 1
        (first, second) = [line for line in done.stderr.splitlines() if " in " in line and " s: " in line]
        assert "503" in first and "429" in second and first.startswith("kirin: ")

    def test_where_it_cannot_be_found_the_error_names_the_id(self, kirin, payload, emulator):
        emulator.fault(on="submit", kind="lose_response")
        emulator.fault(on="get", kind="status", status=404, times=-1, body={"detail": "Request not found"})
        done = kirin("submit", "payload.json", "-y", "--external-task-id", "order-1")
        assert_one_line(
            subprocess.CompletedProcess(done.args, done.returncode, done.stdout, done.stderr.splitlines()[-1]),
            "may bill, a generation with the external task id order-1",
            "`status --conn-id kirin_default order-1`",
        )
        assert emulator.submitted == 1

    def test_a_payload_that_is_wrong_costs_nothing(self, kirin, payload, emulator):
        assert_one_line(kirin("submit", "-", "-y", input='{"prompt": "no image"}'), "nothing was spent", "image")
        assert emulator.requests("POST") == []

    def test_no_credit(self, kirin, payload, emulator):
        emulator.fault(on="submit", kind="status", status=402)
        done = kirin("submit", "payload.json", "-y")
        assert done.returncode == 1 and "Top up" in done.stderr and done.stdout == ""


class TestStatusAndDownload:
    @pytest.fixture
    def made(self, kirin, payload) -> Callable[[str], str]:
        def make(prompt: str = "It turns.") -> str:
            text = json.dumps({**payload, "prompt": prompt})
            return str(kirin("submit", "-", "-y", input=text).stdout.strip())

        return make

    def test_as_text_without_a_link(self, kirin, made):
        one = made()
        done = kirin("status", one)
        assert done.returncode == 0 and "completed" in done.stdout and "0.28 USD" in done.stdout
        assert "http" not in done.stdout

    def test_as_json_like_the_operators(self, kirin, made):
        one = made("[[fail:8002005098]]")
        said = json.loads(kirin("status", one, "-o", "json", by="airflow").stdout)
        assert (said["id"], said["status"], said["error"]["code"]) == (one, "failed", "8002005098")

    def test_as_json_it_repeats_the_external_id_it_was_asked_by(self, kirin, payload):
        one = kirin("submit", "payload.json", "-y", "--external-task-id", "order-{1}").stdout.strip()
        said = json.loads(kirin("status", "order-{1}", "-o", "json").stdout)
        assert (said["id"], said["external_task_id"]) == (one, "order-{1}")
        assert json.loads(kirin("status", one, "-o", "json").stdout)["id"] == one

    @pytest.mark.parametrize("output", ["text", "json"])
    def test_control_characters_are_escaped(self, kirin, connect, raw_server, output):
        model = "kirin\x1b]0;owned\x07\x9b31m\u202e"
        gateway = raw_server(replying(whole({"id": "one", "status": "failed", "model": model})))
        connect(gateway.url)
        done = kirin("status", "one", "-o", output)
        assert done.returncode == 0 and "kirin" in done.stdout
        assert all(char.isprintable() or char == "\n" for char in done.stdout + done.stderr)

    def test_of_one_that_runs(self, kirin, made):
        assert "progress:" in kirin("status", made("[[seconds:600]]")).stdout

    def test_of_one_that_is_not_there(self, kirin):
        assert_one_line(kirin("status", "nowhere"), "nowhere", "404")

    def test_with_a_wrong_key(self, kirin, connect, emulator):
        connect(emulator.url, key="wrong-key-of-mine-1234")
        done = kirin("status", "one")
        assert_one_line(done, "API Key")
        assert "wrong-key" not in done.stderr

    def test_without_a_connection(self, kirin):
        assert_one_line(kirin("status", "one", "--conn-id", "not_there"), "not_there")

    def test_verbose_shows_where_it_failed(self, kirin):
        done = kirin("status", "nowhere", "-v")
        assert done.returncode == 1 and "Traceback" in done.stderr and KEY not in done.stderr + done.stdout

    def test_download(self, kirin, made, tmp_path):
        one = made()
        done = kirin("download", one, "videos")
        path = tmp_path / "videos" / f"{one}-0.mp4"
        assert done.stdout == f"{path.as_uri()}\n" and path.read_bytes()[4:8] == b"ftyp"

    def test_download_leaves_a_file_alone(self, kirin, made, tmp_path):
        (tmp_path / "mine.mp4").write_text("mine")
        assert_one_line(kirin("download", made(), "mine.mp4", "--no-overwrite"), "already exists")
        assert (tmp_path / "mine.mp4").read_text() == "mine"

    @pytest.mark.parametrize(
        ("prompt", "said"), [("[[seconds:600]]", "waits for it"), ("[[no-video]]", "without a video")]
    )
    def test_download_of_what_is_not_there(self, kirin, made, prompt, said):
        assert_one_line(kirin("download", made(prompt), "videos"), said)


class TestOneGeneration:
    def test_its_price_is_shown_and_nothing_is_submitted(self, kirin, payload, emulator):
        done = kirin("price", "payload.json")
        assert (done.returncode, done.stdout) == (0, "0.28 USD\n"), done
        assert "kirin_v1_6_i2v/std/5, according to the gateway's price preview" in done.stderr
        assert emulator.submitted == 0

    def test_submit_waits_and_downloads(self, kirin, payload, emulator, tmp_path):
        done = kirin("submit", "payload.json", "-y", "--download", "videos")
        (row,) = emulator.ledger()["paid"]
        path = tmp_path / "videos" / f"{row['id']}-0.mp4"
        assert done.stdout == f"{row['id']}\n{path.as_uri()}\n", done
        assert path.read_bytes()[4:8] == b"ftyp"

    def test_wait_in_a_terminal_shows_progress(self, kirin, payload, emulator, tmp_path):
        text = json.dumps({**payload, "prompt": "[[seconds:2]]"})
        one = kirin("submit", "-", "-y", input=text).stdout.strip()
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "airflow_provider_kirin", "wait", one]
        with subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=theirs, stdout=subprocess.PIPE, text=True
        ) as process:
            os.close(theirs)
            shown, (said, _) = read_all(ours), process.communicate(timeout=HANG)
        assert process.returncode == 0 and "status:   completed" in said and "cost:     0.28 USD" in said
        assert f"{one}: completed" in shown and "100%" in shown

    def test_wait_for_one_that_fails(self, kirin, payload):
        text = json.dumps({**payload, "prompt": "[[fail:8002005098]]"})
        assert_one_line(kirin("wait", kirin("submit", "-", "-y", input=text).stdout.strip()), "8002005098")


class TestModels:
    def test_all_and_one(self, kirin):
        rows = json.loads(kirin("models", "-o", "json").stdout)
        assert [row["model"] for row in rows] == list(model_names())
        assert {row["model"]: row["required"] for row in rows}["kirin_v1_6_i2v"] == "image or image_tail"
        rows = {row["parameter"]: row for row in json.loads(kirin("models", "kirin_v1_6_i2v", "-o", "json").stdout)}
        assert rows["duration"]["type"] == "string"
        assert rows["duration"]["limits"] == 'one of "5" "10"' and rows["duration"]["default"] == '"5"'
        assert rows["prompt"]["limits"] == "at most 2500 characters"

    def test_one_that_does_not_exist(self, kirin):
        assert_one_line(kirin("models", "kirin_v1_7"), "kirin_v1_7", "Did you mean")


class TestBatch:
    @pytest.fixture
    def table(self, tmp_path, image_bytes) -> Callable[..., None]:
        """Write ``products.csv``: rows s0, s1 and so on."""

        def write(rows: int = 6, **durations: str) -> None:
            (tmp_path / "cup.jpg").write_bytes(image_bytes)
            lines = [f"s{n},cup.jpg,{n} [[seconds:0.2]],{durations.get(f's{n}', '')}" for n in range(rows)]
            (tmp_path / "products.csv").write_text("\n".join(["sku,image,prompt,duration", *lines]))

        return write

    ARGUMENTS = ("batch", "products.csv", "--destination", "videos", "--key", "sku", "--max-in-flight", "3")

    @pytest.mark.parametrize("by", ["airflow_provider_kirin", "airflow"])
    def test_from_a_table_to_videos(self, kirin, table, emulator, tmp_path, by):
        table(4, s2="10")
        done = kirin(*self.ARGUMENTS, "--yes", by=by)
        assert done.returncode == 0, done
        assert done.stdout == f"{(tmp_path / 'videos' / 'manifest.jsonl').as_uri()}\n"
        assert {path.name for path in (tmp_path / "videos").glob("*.mp4")} == {f"s{n}-0.mp4" for n in range(4)}
        price = sum(Decimal(row["cost"]) for row in emulator.ledger()["paid"])
        lines = done.stderr.splitlines()
        assert lines[0].startswith(f"kirin: submitting 4 rows of products.csv for about {price} USD (according to")
        assert lines[-1] == f"kirin: 4 of 4 done, 0 in flight, 0 failed, {price} USD"

    def test_interrupted_and_resumed_each_row_is_paid_once(self, kirin, table, emulator, tmp_path):
        table(6)
        emulator.fault(on="submit", kind="directive", directive="[[seconds:600]]", times=3)
        command = [sys.executable, "-m", "airflow_provider_kirin", *self.ARGUMENTS, "-y"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            # Some are accepted, and perhaps one is just being sent.
            until(lambda: emulator.submitted >= 2, "two submissions")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=HANG)
        assert process.returncode == 130 and "Traceback" not in said, said
        submitted = emulator.submitted
        assert 2 <= submitted <= 3
        *_, interrupted, to_continue = said.splitlines()
        assert "interrupted: 0 of 6 done" in interrupted and "are billed" in interrupted
        resume = to_continue.partition(" twice: python -m airflow_provider_kirin ")[2].split()
        assert resume == [*self.ARGUMENTS, "-y", "--resume"]

        refused = kirin(*self.ARGUMENTS, "-y")
        assert_one_line(refused, "holds a batch already", "--resume")
        emulator.call("DELETE", "/emulator/faults")
        emulator.finish()
        done = kirin(*resume, "-o", "json")
        assert done.returncode == 0 and json.loads(done.stdout)["counts"] == {"saved": 6}, done
        assert f"{6 - submitted} of 6 rows" in done.stderr
        names = [row["external_task_id"] for row in emulator.ledger()["paid"]]
        assert len(names) == len(set(names)) == 6

    def test_a_table_is_not_replaced_by_the_manifest(self, kirin, tmp_path):
        (tmp_path / "manifest.jsonl").write_text(text := '{"image": "cup.jpg", "prompt": "a"}')
        done = kirin("batch", "manifest.jsonl", "--destination", ".", "-y", "--resume")
        assert_one_line(done, "manifest.jsonl is where this batch would write its manifest")
        assert (tmp_path / "manifest.jsonl").read_text() == text

    def test_a_journal_that_is_lost_or_moved_costs_lookups(self, kirin, table, emulator, tmp_path):
        table(4)
        assert kirin(*self.ARGUMENTS, "-y").returncode == 0
        shutil.rmtree(tmp_path / "videos" / "_journal")
        (tmp_path / "videos" / "manifest.jsonl").unlink()
        done = kirin(*self.ARGUMENTS, "-y", "--resume")
        assert done.returncode == 0 and "missing or damaged" in done.stderr, done
        assert emulator.submitted == 4

        # In another place the journal says what is there; one more row is submitted.
        (tmp_path / "videos").rename(tmp_path / "moved")
        table(5)
        done = kirin(*self.ARGUMENTS, "-y", "--resume", "--destination", "moved")
        assert done.returncode == 0 and "submitting 1 of 5 rows" in done.stderr, done
        assert emulator.submitted == 5

    def test_a_bad_table_costs_nothing_and_once_corrected_needs_no_resume(self, kirin, table, emulator):
        table(3, s1="7")
        done = kirin(*self.ARGUMENTS, "-y")
        assert done.returncode == 1 and done.stdout == "" and "kirin:   - s1: duration = '7'" in done.stderr
        assert emulator.submitted == 0
        table(3)
        assert kirin(*self.ARGUMENTS, "-y").returncode == 0
        assert emulator.submitted == 3

    def test_bad_rows_and_a_budget(self, kirin, table, emulator):
        table(4, s1="7")
        done = kirin(*self.ARGUMENTS, "-y", "--on-bad-row", "skip", "--max-cost-usd", "0.60", "-o", "json")
        assert done.returncode == 1 and emulator.submitted == 2
        assert json.loads(done.stdout)["counts"] == {"todo": 1, "saved": 2, "refused": 1}
        assert "1 not submitted" in done.stderr and "--resume" in done.stderr

    def test_it_does_not_ask_without_a_terminal(self, kirin, table, emulator):
        table(2)
        assert_one_line(kirin(*self.ARGUMENTS), "give --yes", "Nothing was submitted")
        assert emulator.submitted == 0

    def test_in_a_terminal_it_asks_and_shows_a_bar(self, kirin, table, emulator, tmp_path):
        table(3)
        ours, theirs = pty.openpty()
        os.write(ours, b"y\n")
        command = [sys.executable, "-m", "airflow_provider_kirin", *self.ARGUMENTS]
        with subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE) as process:
            os.close(theirs)
            shown = read_all(ours)
        assert process.returncode == 0 and "submit 3 rows" in shown and "[y/N]" in shown
        assert "100%" in shown and "3 of 3 done, 0 in flight, 0 failed, 0.84 USD" in shown
        assert emulator.submitted == 3

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--resume",), "is empty"),
            (("--destination", "one.mp4"), "must be a folder"),
        ],
    )
    def test_arguments_that_are_wrong(self, kirin, table, emulator, more, said):
        table(2)
        assert_one_line(kirin(*self.ARGUMENTS, "-y", *more), said)
        assert emulator.submitted == 0

    def test_the_folder_of_a_dag_is_not_its_business(self, kirin, table, emulator, tmp_path):
        table(2)
        (tmp_path / "videos" / "_journal").mkdir(parents=True)
        (tmp_path / "videos" / "_journal" / "head.json").write_text('{"batch": "airflow-abc", "try_number": 1}')
        assert_one_line(kirin(*self.ARGUMENTS, "-y", "--resume"), "belongs to a task of a DAG")
        assert emulator.submitted == 0


def read_all(terminal: int) -> str:
    """Return what a program wrote to its terminal until it ended."""
    parts = []
    with contextlib.suppress(OSError):
        # Linux reports the end of the other side as an error.
        while part := os.read(terminal, 65536):
            parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode()


def test_a_database_that_is_not_migrated(kirin, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/empty.db")
    assert_one_line(kirin("list", stdin=subprocess.DEVNULL), "airflow db migrate", "no such table")


class TestCosts:
    @pytest.fixture
    def dag_id(self) -> str:
        return f"costs_{datetime.now(UTC):%H%M%S%f}"

    @pytest.fixture
    def spent(self, dag_id, run, image_file, emulator) -> str:
        """One run: two mapped generations, a submit and a sensor for 'pro', and one that never ends."""
        with DAG(dag_id, schedule=None) as dag:
            payload = {"image": image_file, "prompt": "x"}
            KirinGenerateVideoOperator.partial(task_id="mapped").expand(payload=[payload, {**payload, "prompt": "y"}])
            submit = KirinSubmitOperator(task_id="submit", payload={**payload, "mode": "pro"})
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            KirinTaskSensor(task_id="wait_too", kirin_task_id=submit.output, poke_interval=0.1)
            KirinSubmitOperator(task_id="endless", payload={**payload, "prompt": "[[seconds:600]]"})
        assert run(dag).state == "success"
        return dag_id

    def test_are_what_the_ledger_says(self, kirin, spent, emulator, run):
        done = kirin("costs", "--dag-id", spent, "-o", "json", "--by", "dag,task,model", by="airflow")
        report = json.loads(done.stdout)
        keys = {"dag": spent, "model": "kirin_v1_6_i2v"}
        assert report["groups"] == [
            {**keys, "task": "endless", "generations": 1, "usd": "0", "unknown": 1},
            {**keys, "task": "mapped", "generations": 2, "usd": "0.56", "unknown": 0},
            {**keys, "task": "submit", "generations": 1, "usd": "0.49", "unknown": 0},
        ], "counted where it was submitted, and once for two sensors"
        assert report["total"] == {"generations": 4, "usd": "1.05", "unknown": 1}
        ledger = [row for row in emulator.ledger()["paid"] if row["status"] == "completed"]
        assert sum(Decimal(row["cost"]) for row in ledger) == Decimal(report["total"]["usd"])

        table = kirin("costs", "--dag-id", spent, by="airflow").stdout
        assert "4 generations, 1.05 USD, and 1 whose cost is not on record (--ask)" in table and "mapped" in table

        rows = list(csv.DictReader(kirin("costs", "--dag-id", spent, "-o", "csv", "--by", "day").stdout.splitlines()))
        assert sum(Decimal(row["usd"]) for row in rows) == Decimal("1.05")
        days, day, today = [date.fromisoformat(row["day"]) for row in rows], timedelta(days=1), datetime.now(UTC).date()
        assert set(days) <= {today - day, today}, "both, if midnight has passed meanwhile"

        for period, generations in (
            (["--from", min(days).isoformat()], 4),
            (["--from", (max(days) + day).isoformat()], 0),
            (["--to", (min(days) - day).isoformat()], 0),
            (["--run-id", "another"], 0),
        ):
            said = json.loads(kirin("costs", "--dag-id", spent, "-o", "json", *period).stdout)
            assert said["total"]["generations"] == generations, period

    def test_the_list_has_each_generation_with_its_task_and_files(self, kirin, dag_id, run, image_file, tmp_path):
        payload = {"image": image_file, "prompt": "x"}
        with DAG(dag_id, schedule=None) as dag:
            KirinGenerateVideoOperator.partial(task_id="mapped", destination=str(tmp_path)).expand(payload=[payload])
            KirinSubmitOperator(task_id="endless", payload={**payload, "prompt": "[[seconds:600]]"})
        ended = run(dag)
        result = ended.result("mapped", 0)
        done = kirin("list", "--dag-id", dag_id, "-o", "json", by="airflow")
        found = {row["task_id"]: row for row in json.loads(done.stdout)}
        assert found["mapped[0]"] == {
            "id": result["id"],
            "external_task_id": result["external_task_id"],
            "dag_id": dag_id,
            "run_id": ended.run_id,
            "task_id": "mapped[0]",
            "status": "completed",
            "code": None,
            "cost": "0.28",
            "at": found["mapped[0]"]["at"],
            "files": result["files"],
        }
        assert found["endless"]["status"] == "in_progress" and found["endless"]["files"] == []
        only = kirin("list", "--dag-id", dag_id, "--limit", "1", "-o", "plain")
        assert len(only.stdout.splitlines()) == 2 and "the latest 1 of 2" in only.stderr

    def test_of_two_dags_belong_to_the_one_that_submitted(self, kirin, dag_id, run, image_file):
        with DAG(f"{dag_id}_submits", schedule=None) as submits:
            KirinSubmitOperator(task_id="submit", payload={"image": image_file, "prompt": "x"})
        submitted = run(submits)
        with DAG(f"{dag_id}_waits", schedule=None) as waits:
            KirinTaskSensor(task_id="wait", kirin_task_id=submitted.result("submit"), poke_interval=0.1)
        waited = run(waits)
        whole = {"generations": 1, "usd": "0.28", "unknown": 0}
        nothing = {"generations": 0, "usd": "0", "unknown": 0}
        for only, total in (
            (["--dag-id", submits.dag_id], whole),
            (["--dag-id", submits.dag_id, "--run-id", submitted.run_id], whole),
            (["--run-id", submitted.run_id], whole),
            (["--dag-id", waits.dag_id], nothing),
            (["--run-id", waited.run_id], nothing),
        ):
            assert json.loads(kirin("costs", *only, "-o", "json").stdout)["total"] == total, only

    def test_of_a_day_stay_there_when_the_records_are_rewritten(self, kirin, dag_id, run, image_file):
        store = pytest.importorskip("airflow.models.task_state_store", reason="Airflow 3.3 and later")
        with DAG(f"{dag_id}_cleared", schedule=None) as dag:
            KirinGenerateVideoOperator(task_id="generate", payload={"image": image_file}, deferrable=False)
        assert run(dag).state == "success"
        today = datetime.now(UTC)
        with create_session() as session:
            # What clearing the task a month later does to the rows.
            for model, at in ((XComModel, "timestamp"), (store.TaskStateStoreModel, "updated_at")):
                later = {at: today + timedelta(days=30)}
                assert session.execute(update(model).where(model.dag_id == dag.dag_id).values(later)).rowcount
        arguments = ("costs", "--dag-id", dag.dag_id, "-o", "json")
        for option, day in (("--from", today - timedelta(days=1)), ("--to", today + timedelta(days=1))):
            said = json.loads(kirin(*arguments, option, day.date().isoformat()).stdout)
            assert said["total"] == {"generations": 1, "usd": "0.28", "unknown": 0}, option

    def test_ask_finds_out_what_is_not_on_record(self, kirin, dag_id, run, image_file, emulator):
        with DAG(f"{dag_id}_ask", schedule=None) as dag:
            KirinSubmitOperator(task_id="submit", payload={"image": image_file})
        assert run(dag).state == "success"
        arguments = ("costs", "--dag-id", dag.dag_id, "-o", "json")
        assert json.loads(kirin(*arguments).stdout)["total"] == {"generations": 1, "usd": "0", "unknown": 1}
        assert json.loads(kirin(*arguments, "--ask").stdout)["total"] == {"generations": 1, "usd": "0.28", "unknown": 0}
        emulator.reset()
        forgotten = kirin(*arguments, "--ask")
        assert json.loads(forgotten.stdout)["total"]["unknown"] == 1 and "404" in forgotten.stderr

    @pytest.mark.parametrize(
        ("arguments", "said"), [(["--by", "week"], "dag, run, task, model, day"), (["--from", "soon"], "2026-11-25")]
    )
    def test_arguments_that_are_wrong(self, kirin, arguments, said):
        assert_one_line(kirin("costs", *arguments), said)


@pytest.mark.parametrize("arguments", [[], ["submit"], ["dance"], ["status", "one", "-o", "yaml"]])
def test_wrong_usage_is_exit_code_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "command", ["models", "validate", "price", "submit", "status", "wait", "download", "batch", "costs"]
)
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert not caught.value.code and f"python -m airflow_provider_kirin {command}" in capsys.readouterr().out


class TestPlan:
    def test_of_a_table_names_bad_rows_and_submits_nothing(self, kirin, payload, tmp_path, emulator):
        rows = ["image,prompt,mode,duration", "a.jpg,x,std,5", "b.jpg,x,std,5", "c.jpg,x,pro,10", "d.jpg,x,std,7"]
        (tmp_path / "rows.csv").write_text("\n".join(rows))
        done = kirin("plan", "rows.csv", "-o", "json", by="airflow")
        assert done.returncode == 1 and "row 4: duration = " in done.stderr
        assert done.stderr.splitlines()[-1] == "kirin: 1 of 4 rows cannot be used."
        assert [(row["priced_by"], row["generations"], row["usd"]) for row in json.loads(done.stdout)] == [
            ("kirin_v1_6_i2v/std/5", "2", "0.56"),
            ("kirin_v1_6_i2v/pro/10", "1", "0.98"),
        ]
        assert emulator.submitted == 0

    def test_of_a_table_with_a_column_that_names_the_rows(self, kirin, tmp_path):
        (tmp_path / "rows.csv").write_text("sku,image,prompt\nmug,a.jpg,x\n")
        done = kirin("plan", "rows.csv")
        assert (done.returncode, done.stdout) == (1, "") and "If sku names the rows, give it as --key." in done.stderr
        assert kirin("plan", "rows.csv", "--key", "sku").returncode == 0
        done = kirin("batch", "rows.csv", "--destination", "videos", "--yes")
        assert done.returncode == 1 and "If sku names the rows, give it as --key." in done.stderr

    def test_a_model_that_is_not_known(self, kirin, payload, tmp_path):
        (tmp_path / "rows.csv").write_text("prompt\nx\n")
        for arguments in (["plan", "rows.csv"], ["validate", "payload.json"]):
            done = kirin(*arguments, "--model", "kirin_v9_i2v")
            assert done.returncode == 1 and "To send it unchecked, give --allow-unknown-model." in done.stderr
            assert kirin(*arguments, "--model", "kirin_v9_i2v", "--allow-unknown-model").returncode == 0

    def test_all_missing_connections_are_named(self, kirin, tmp_path):
        (tmp_path / "shop.py").write_text(
            "from airflow.sdk import DAG\n"
            "from airflow_provider_kirin.operators.kirin import KirinSubmitOperator\n"
            "with DAG('shop', schedule=None):\n"
            "    for name in ('mugs', 'kirin_default', 'pots'):\n"
            "        KirinSubmitOperator(task_id=name, kirin_conn_id=name, payload={'image': 'a.jpg', 'prompt': 'x'})\n"
        )
        done = kirin("plan", "shop.py")
        assert (done.returncode, done.stdout) == (1, "")
        mugs, pots = done.stderr.splitlines()
        assert "no Airflow connection 'mugs'" in mugs and "no Airflow connection 'pots'" in pots

    def test_of_a_dag_file(self, kirin, tmp_path, emulator):
        (tmp_path / "shop.py").write_text(
            "from airflow.sdk import DAG\n"
            "from airflow_provider_kirin.operators.kirin import KirinSubmitOperator\n"
            "payload = {'image': '{{ params.image }}', 'prompt': 'x'}\n"
            "with DAG('shop', schedule=None):\n"
            "    KirinSubmitOperator.partial(task_id='many').expand(payload=[payload] * 3)\n"
            "    KirinSubmitOperator(task_id='mode', payload={**payload, 'mode': '{{ params.mode }}'})\n"
        )
        done = kirin("plan", "shop.py")
        assert done.returncode == 0, done
        assert "4 generations, at least 0.84 USD" in done.stdout and "many" in done.stdout and "mode" in done.stdout
        assert emulator.submitted == 0


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"airflow-provider-kirin {__version__}\n"
