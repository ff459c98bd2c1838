"""What generations cost: in XComs, and as metrics that a StatsD server on a real socket receives."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from tests.support.emulator import KEY

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

WAYS = {"deferrable": {"deferrable": True}, "on a worker": {"deferrable": False}}
MODEL = "kirin_v1_6_i2v"


@pytest.fixture
def dag(request) -> DAG:
    return DAG("costs_" + "".join(char if char.isalnum() else "_" for char in request.node.name), schedule=None)


class StatsD:
    """A StatsD server: keeps every line that Kirin's metrics send, as name, value, kind and tags."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def lines(self) -> list[tuple[str, str, str, dict[str, str]]]:
        """Return what has arrived: what this process sends over loopback is there when send() has returned."""
        found = []
        while True:
            try:
                line = self.socket.recv(65536).decode()
            except BlockingIOError:
                return found
            head, _, rest = line.partition(":")
            name, *tags = head.split(",")
            value, _, kind = rest.partition("|")
            if name.startswith("airflow.kirin."):
                pairs = dict(tag.split("=", 1) for tag in tags)
                found.append((name.removeprefix("airflow.kirin."), value, kind, pairs))


@pytest.fixture
def statsd(monkeypatch) -> Iterator[StatsD]:
    """A StatsD server that Airflow's own Stats sends to, as a deployment would configure it."""
    server = StatsD()
    settings = {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": server.port}
    for name, value in {**settings, "STATSD_INFLUXDB_ENABLED": "True"}.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", str(value))
    stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
    yield server
    monkeypatch.undo()
    stats.initialize(factory=get_stats_factory(), export_legacy_names=True)
    server.socket.close()


Counts = Callable[[], dict[str, int]]


def named(lines: list[Any], name: str) -> list[tuple[str, dict[str, str]]]:
    return [(value, tags) for found, value, _, tags in lines if found == name]


class TestMetrics:
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_of_a_generation(self, dag, run, image_file, statsd, way):
        with dag:
            KirinGenerateVideoOperator(
                task_id="generate", payload={"image": image_file, "prompt": "[[seconds:0.3]]"}, **way
            )
        assert run(dag).state == "success"
        lines = statsd.lines()
        tags = {"dag_id": dag.dag_id, "task_id": "generate", "conn_id": "kirin_default", "model": MODEL}
        assert named(lines, "submissions") == [("1", tags)]
        assert named(lines, "completions") == [("1", tags)]
        assert named(lines, "cost_usd") == [("0.28", tags)]
        assert named(lines, "failures") == []
        ((milliseconds, wait_tags),) = named(lines, "wait")
        assert wait_tags == tags and 0 < float(milliseconds) < 60_000

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_of_three_steps_each_reported_once(self, dag, run, image_file, statsd, way):
        with dag:
            submit = KirinSubmitOperator.partial(task_id="submit").expand(
                payload=[{"image": image_file, "mode": mode, "prompt": "[[seconds:0.3]]"} for mode in ("std", "pro")]
            )
            KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1, **way)
        assert run(dag).state == "success"
        lines = statsd.lines()
        assert [(value, tags["task_id"]) for value, tags in named(lines, "submissions")] == [("1", "submit")] * 2
        assert [(value, tags["task_id"]) for value, tags in named(lines, "completions")] == [("1", "wait")] * 2
        assert sorted(value for value, _ in named(lines, "cost_usd")) == ["0.28", "0.49"]

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_of_an_id_that_is_given_twice_once(self, dag, run, image_file, statsd, way):
        one = KirinHook("kirin_default").submit({"image": image_file, "prompt": "[[seconds:0.3]]"}).id
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=[one, one], poke_interval=0.1, **way)
        ended = run(dag)
        assert [video["id"] for video in ended.result("wait")] == [one, one]
        assert [entry["kirin_task_id"] for entry in ended.xcoms()["wait", -1, "kirin_usage"]] == [one]
        lines = statsd.lines()
        assert len(named(lines, "completions")) == 1 and [value for value, _ in named(lines, "cost_usd")] == ["0.28"]

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    @pytest.mark.parametrize(
        ("prompt", "code", "error", "cost"),
        [
            ("[[fail:8002005098]]", "8002005098", "KirinTaskFailedError", []),
            ("[[fail:99999]]", "unknown", "KirinTaskFailedError", []),
            ("[[no-video]]", "none", "KirinNoVideoError", ["0.28"]),
        ],
    )
    def test_of_a_generation_that_gives_no_video(self, dag, run, image_file, statsd, way, prompt, code, error, cost):
        with dag:
            KirinGenerateVideoOperator(task_id="g", payload={"image": image_file, "prompt": prompt}, **way)
        assert run(dag).state == "failed"
        lines = statsd.lines()
        assert [(tags["code"], tags["error"]) for _, tags in named(lines, "failures")] == [(code, error)]
        assert [value for value, _ in named(lines, "cost_usd")] == cost, "a video that is withheld is paid"
        assert named(lines, "completions") == []

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_a_generation_in_progress_has_not_failed(self, dag, run, image_file, statsd, way):
        hook = KirinHook("kirin_default")
        prompts = ("[[fail:8002005098]]", "[[seconds:600]]")
        ids = [hook.submit({"image": image_file, "prompt": prompt}).id for prompt in prompts]
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=ids, fail_fast=True, poke_interval=0.1, **way)
        assert run(dag).state == "failed"
        assert [tags["error"] for _, tags in named(statsd.lines(), "failures")] == ["KirinTaskFailedError"]

    def test_of_a_submission_that_is_refused(self, dag, run, image_file, statsd, emulator):
        emulator.fault(on="submit", kind="status", status=402)
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": image_file})
        assert run(dag).state == "failed"
        lines = statsd.lines()
        assert [(tags["code"], tags["error"]) for _, tags in named(lines, "failures")] == [
            ("http_402", "KirinCreditError")
        ]
        assert named(lines, "submissions") == []

    def test_what_a_lost_response_submitted_is_counted_once(self, dag, run, image_file, statsd, emulator):
        emulator.fault(on="submit", kind="lose_response")
        with dag:
            KirinSubmitOperator(task_id="submit", payload={"image": image_file})
        assert run(dag).state == "success"
        assert len(named(statsd.lines(), "submissions")) == emulator.submitted == 1

    def test_what_a_later_try_adopts_is_not_counted_again(self, dag, run, image_file, statsd, emulator):
        payload = {"image": image_file, "prompt": "[[seconds:600]]"}
        with dag:
            KirinGenerateVideoOperator(
                task_id="g",
                payload=payload,
                timeout=0.2,
                deferrable=False,
                retries=2,
                retry_delay=timedelta(0),
                on_retry_callback=lambda _: emulator.finish(),
            )
        ended = run(dag)
        assert ended.state == "success" and ended.ti("g").try_number > 1
        lines = statsd.lines()
        assert [value for value, _ in named(lines, "submissions")] == ["1"]
        assert [value for value, _ in named(lines, "cost_usd")] == ["0.28"]

    def test_no_tag_holds_a_secret_or_an_id(self, dag, run, image_file, statsd, emulator):
        with dag:
            KirinGenerateVideoOperator(task_id="g", payload={"image": image_file})
        ended = run(dag)
        said = repr(statsd.lines())
        for secret in (KEY, ended.run_id, ended.result("g")["id"], "Signature", image_file, "airflow-"):
            assert secret not in said


class TestXComs:
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_the_sum_of_a_list_is_exact_and_there_when_one_of_them_failed(self, dag, run, image_file, way):
        hook = KirinHook("kirin_default")
        ids = [hook.submit({"image": image_file, "prompt": f"{n}"}).id for n in range(3)]
        ids.append(hook.submit({"image": image_file, "prompt": "[[fail:8002005098]]"}).id)
        ids.append(hook.submit({"image": image_file, "prompt": "[[no-video]]"}).id)
        with dag:
            KirinTaskSensor(task_id="wait", kirin_task_id=ids, poke_interval=0.1, **way)
        ended = run(dag)
        assert ended.state == "failed"
        usage = ended.xcoms()["wait", -1, "kirin_usage"]
        assert [(one["kirin_task_id"], one["status"], one["cost"]) for one in usage] == [
            *((one, "completed", "0.28") for one in ids[:3]),
            (ids[3], "failed", None),
            (ids[4], "completed", "0.28"),
        ]
        assert sum(Decimal(one["cost"] or 0) for one in usage) == Decimal("1.12")

    def test_of_a_generate_operator(self, dag, run, image_file):
        with dag:
            KirinGenerateVideoOperator(task_id="g", payload={"image": image_file})
        ended = run(dag)
        (usage,) = ended.xcoms()["g", -1, "kirin_usage"]
        submission = ended.xcoms()["g", -1, "kirin_submission"]
        assert datetime.fromisoformat(usage.pop("at")).utcoffset() == timedelta(0)
        assert usage.pop("created_at") <= usage.pop("completed_at")
        assert usage == {
            "kirin_task_id": ended.result("g")["id"],
            "model": MODEL,
            "status": "completed",
            "cost": ended.result("g")["usage"]["cost"],
        }
        assert submission["kirin_task_id"] == usage["kirin_task_id"]
        assert submission["price_key"] == f"{MODEL}/std/5" and submission["kirin_conn_id"] == "kirin_default"


def test_nothing_is_sent_where_metrics_are_off(dag, run, image_file):
    with dag:
        KirinGenerateVideoOperator(task_id="g", payload={"image": image_file}, start_date=datetime(2026, 1, 1))
    assert run(dag).state == "success"
