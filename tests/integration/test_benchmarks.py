"""The benchmarks still run, and measure what they claim to. No test measures speed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("psutil")

from benchmarks import downloading, frontier, importing, submitting, waiting
from benchmarks.gateway import gateway, kirin_task, running_ids
from benchmarks.goals import goals
from benchmarks.report import Results, figures, renew

#: Milliseconds of CPU for each poll.
COSTS = {"kirin": 0.6, "http": 1.0}


@pytest.fixture(scope="module")
def at():
    with gateway() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(scope="module")
def measured(at, tmp_path_factory, image_file):
    folder = tmp_path_factory.mktemp("bench")
    return Results(
        machine="a test",
        importing={name: importing.measured(code, repeats=1) for name, code in list(importing.CODE.items())[:2]},
        submitting={"small": submitting.measured(image_file, at.url, repeats=1)},
        waiting=[waiting.measured(peer, 5, 0.2, at, seconds=0.6) for peer in ("kirin", "sdk")],
        hostile=waiting.measured("hostile", 5, 0.2, at, seconds=0.6),
        unable=["somebody, 9 waits: too many"],
        downloading=downloading.measured(f"{at.url}/video/100000", folder, repeats=1),
        video_size=100_000,
        frontier={"one length": frontier.table([60.0, 70.0])},
    )


@pytest.fixture(scope="module")
def image_file():
    return Path(__file__).parents[2] / "example_dags" / "images" / "teapot.jpg"


class TestMeasuring:
    def test_every_wait_is_polled_and_counted(self, measured):
        for one in measured.waiting:
            assert one.polls_per_second > 0
            assert one.cpu_per_poll > 0

    def test_both_ways_of_submitting_are_measured(self, measured):
        assert set(measured.submitting["small"]) == {"kirin", "bare"}

    def test_both_ways_of_downloading_are_measured(self, measured):
        assert set(measured.downloading) == {"kirin", "curl"}

    def test_every_figure_has_its_place_in_the_page(self, measured, tmp_path):
        page = tmp_path / "comparison.md"
        page.write_text((Path(__file__).parents[2] / "docs" / "explanation" / "comparison.md").read_text())
        renew(page, figures(measured))
        renew(page, text := figures(measured))
        assert page.read_text().count(text) == 1
        assert all(name in text for name in ("KirinTaskTrigger", "seaart-sdk", "curl", "one length", "requests.post"))

    def test_a_page_without_marks_is_left_alone(self, tmp_path):
        page = tmp_path / "comparison.md"
        page.write_text("mine")
        with pytest.raises(ValueError, match="lacks the marks"):
            renew(page, "figures")
        assert page.read_text() == "mine"


class TestGoals:
    def test_what_was_measured_is_judged_by_its_peer_of_the_same_run(self, measured):
        ours, theirs = (waiting.Waiting(peer, 1000, 2.0, 500, cpu, 7, 9, 20, 0, 0.1) for peer, cpu in COSTS.items())
        of = {goal.title: goal for goal in goals(dataclasses.replace(measured, waiting=[ours, theirs]))}
        cpu = of["CPU a poll by HttpSensorTrigger's, 1,000 waits"]
        assert (cpu.measured, cpu.most, cpu.is_met) == (0.6, 0.5, False)
        assert of["lag of the event loop, ms (p99), 1,000 waits"].is_met
        times = measured.submitting["small"]
        assert of["submit by requests.post, time, small"].measured == times["kirin"].seconds / times["bare"].seconds

    def test_a_missed_goal_shows_in_the_page(self, measured):
        slow = importing.Importing(16, 9)
        results = dataclasses.replace(measured, importing=dict.fromkeys(measured.importing, slow))
        assert "| import of operators and sensor, ms beyond airflow.sdk | 16.00 | 15 | NO |" in figures(results)


class TestTheGateway:
    def test_the_status_follows_from_the_id(self):
        (running,), done = running_ids(1, 60), "bench-0-0-1000"
        assert kirin_task(running)["status"] == "in_progress"
        assert kirin_task(done)["status"] == "completed"


class TestTheSimulation:
    def test_a_fixed_interval_is_as_late_as_arithmetic_says(self):
        at = frontier.simulate(lambda: frontier.Fixed(10), [60.0, 65.0], frontier.PROGRESS["no progress"])
        # At 0, 10, ... 60; and at 0, 10, ... 70.
        assert dataclasses.asdict(at) == pytest.approx(
            {"requests": 7.5, "delay": 2.5, "delay_share": (0 + 5 / 65) / 2, "worst_share": 5 / 65}
        )

    def test_a_backoff_grows_to_its_limit(self):
        schedule = frontier.Backoff(2.0, 2.0, 5.0)
        running = frontier.KirinTask("a", "in_progress")
        assert [schedule.on_response(running, 0).delay for _ in range(4)] == [2, 4, 5, 5]
