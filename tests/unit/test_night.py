"""The pure parts of ``make bench-night``: what its figures are made of."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS
from benchmarks.night import capacity, full_account
from benchmarks.night.costs import Measured, WorkerRuns, above_idle, blocked, cpu_of, worker_runs
from benchmarks.night.full_account import WAYS
from benchmarks.night.report import Row, airflow_cpu, figures, ideal
from benchmarks.night.stage import new_lines
from benchmarks.night.ways import PLACES, build

MEASURED = Measured(
    way="operator",
    generations=200,
    seconds=60.0,
    makespan=150.0,
    worker_runs=200,
    worker_seconds=300.0,
    cpu={"scheduler": 20.0, "workers and tasks": 80.0, "PostgreSQL": 7.0, "gateway": 3.0},
    posts=200,
    lost=0,
    gets=2000,
    blocked=[],
    others=0.25,
    load=(1.0, 2.0),
    ended_at="2026-11-25 01:00",
)
TRIVIAL = replace(MEASURED, way="trivial", makespan=40.0, worker_seconds=100.0, posts=0, gets=0)


def finished(duration, kind="ExecuteTask"):
    return json.dumps({"event": "Workload finished", "workload_type": kind, "duration": duration})


def cells(text, title):
    row = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the night is one of Airflow 3.3")
def test_each_pair_of_the_night_has_a_sensor_without_a_worker():
    dag = build("night", "pairs", 60, "cup.png")
    assert [dag.get_task(f"wait_{number}").start_from_trigger for number in range(60)] == [True] * 60


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the night is one of Airflow 3.3")
def test_a_dag_run_for_each_generation_has_a_sensor_without_a_worker():
    dag = build("night", "runs", 200, "cup.png")
    assert dag.max_active_runs == 200
    assert set(dag.task_ids) == {"submit", "wait"}
    assert dag.get_task("wait").start_from_trigger is True


class TestWorkerRuns:
    def test_each_run_of_a_task_process_counts_with_the_time_it_held_a_worker(self):
        lines = [finished(1.5), '{"event": "Worker starting up"}', "plain text", finished(2.0)]
        assert worker_runs(lines) == WorkerRuns(2, 3.5)

    def test_a_callback_is_no_task(self):
        assert worker_runs([finished(9.0, kind="ExecuteCallback")]) == WorkerRuns(0, 0.0)

    def test_another_log_format_is_an_error_and_not_a_zero(self):
        with pytest.raises(ValueError, match="not the JSON"):
            worker_runs(["[info] Workload finished duration=1.5"])


class TestCpu:
    burn = "import time\nwhile time.process_time() < 0.3: pass"

    @pytest.fixture
    def parent(self):
        """A process whose child has used CPU, and has ended."""
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {self.burn!r}]); print(); input()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
            process.stdout.readline()
            yield process
            process.communicate(b"\n")

    def test_what_ended_children_used_counts(self, parent):
        assert cpu_of({"dag-processor": parent.pid})["dag-processor"] >= 0.25

    def test_the_schedulers_children_are_workers(self, parent):
        used = cpu_of({"scheduler": parent.pid})
        assert used["workers and tasks"] >= 0.25
        assert used["scheduler"] >= 0


def test_only_what_a_log_grew_by_is_read(tmp_path):
    log = tmp_path / "scheduler.log"
    log.write_text("before\n")
    read = new_lines(log)
    with log.open("a") as file:
        file.write("after\nand more\n")
    assert read() == ["after", "and more"]


def test_the_triggerers_complaints_are_found_with_their_seconds():
    lines = [
        '{"event": "Triggerer\'s async thread was blocked for 0.31 seconds, exceeding the configured ..."}',
        '{"event": "5 triggers currently running"}',
        '{"event": "Triggerer\'s async thread was blocked for 12.00 seconds, exceeding the configured ..."}',
    ]
    assert blocked(lines) == [0.31, 12.0]


def test_what_would_have_been_used_in_any_case_is_not_counted():
    used = above_idle({"scheduler": 10.0, "gateway": 1.0}, {"scheduler": 16.0, "gateway": 3.0}, {"scheduler": 0.05}, 40)
    assert used == pytest.approx({"scheduler": 4.0, "gateway": 2.0})


class TestIdeal:
    def test_it_is_the_trivial_tasks_before_and_after_and_one_generation(self):
        assert ideal(MEASURED, TRIVIAL, replace(TRIVIAL, makespan=60.0)) == 50.0 + 60.0

    def test_of_a_way_with_places_it_fills_each_place_again_at_once(self):
        batch = replace(MEASURED, way="batch", generations=2 * PLACES)
        assert ideal(batch, TRIVIAL, TRIVIAL) == 2 * batch.seconds

    def test_of_varied_seconds_the_last_one_may_end_late(self):
        batch = replace(MEASURED, way="batch-varied", generations=200)
        assert 200 * 60 / PLACES < ideal(batch, TRIVIAL, TRIVIAL) < 200 * 60 / PLACES + 90

    def test_the_makespan_is_shown_beside_it(self):
        assert cells(figures([Row(MEASURED, 100.0, "")]), "KirinGenerateVideoOperator, mapped")[2] == "1.50"


class TestComparingWithTheBlockingWay:
    blocking = replace(MEASURED, way="sdk", generations=24, worker_seconds=24 * 60.0)

    def by_blocking(self, *rows):
        text = figures([Row(one, 100.0, "") for one in rows])
        return cells(text, "KirinGenerateVideoOperator, mapped")[6]

    def test_it_is_compared_by_generation_since_fewer_may_have_been_measured(self):
        assert self.by_blocking(MEASURED, self.blocking) == "0.025"

    def test_generations_of_another_length_are_not_compared(self):
        assert self.by_blocking(MEASURED, replace(self.blocking, seconds=5.0)) == "-"

    def test_without_it_there_is_nothing_to_compare_with(self):
        assert self.by_blocking(MEASURED) == "-"

    def test_the_size_that_was_measured_is_shown(self):
        text = figures([Row(self.blocking, 100.0, "")])
        assert cells(text, "@task with seaart-sdk, which waits")[0] == "24 x 60 s"


def test_database_and_gateway_are_no_part_of_airflow():
    assert airflow_cpu(MEASURED) == 100.0


class TestWaitsForAPlace:
    def night(self, way, worker_seconds, refused):
        return capacity.Night(way, 900.0, WorkerRuns(400, worker_seconds), refused, 2, ["queued"], (1.0, 2.0))

    def test_the_cost_of_waiting_is_what_exceeds_the_pool(self):
        nights = [self.night("deferred", 400.0, 250), self.night("pool", 300.0, 0), self.night("worker", 2300.0, 900)]
        nights.append(self.night("empty", 90.0, 0))
        text = capacity.figures(nights, rows=200, ideal=800.0)
        assert cells(text, "wait for a place in the triggerer") == [
            *("900", "1.12", "400", "400", "100", "5%", "1.25", "2", "queued", "1 / 2"),
        ]
        assert cells(text, WAYS["empty"].title)[3:6] == ["90", "-", "-"]

    def test_one_way_alone_has_nothing_to_be_compared_with(self):
        text = capacity.figures([self.night("deferred", 400.0, 250)], rows=200, ideal=800.0)
        assert cells(text, "wait for a place in the triggerer")[4:6] == ["-", "-"]

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the night is one of Airflow 3.3")
    @pytest.mark.parametrize("way", WAYS)
    def test_only_the_pool_s_dag_names_the_pool(self, way):
        (mapped,) = full_account.build(way, 3, "/cup.png").tasks
        assert (mapped.partial_kwargs.get("pool") == full_account.POOL) == (way == "pool")

    def test_only_the_worker_s_operator_waits_on_the_worker(self):
        assert WAYS["worker"].operator(task_id="a", payload={"image": "/cup.png"})._submit_spec().waiting is None
        assert WAYS["deferred"].operator(task_id="a", payload={"image": "/cup.png"})._submit_spec().waiting is not None
