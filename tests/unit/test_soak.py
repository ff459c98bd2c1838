"""The pure parts of ``make soak``: what it reads in Airflow's logs, and how it shows that."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import Soaked, deferrals, first_reports

REPORT = (
    "2026-11-28T11:16:{at}Z [info     ] Received executor event with state success for task instance "
    "TaskInstanceKey(dag_id='soak', task_id='generate', run_id='run-000', try_number={attempt}, map_index=1) [...]"
)


def test_the_first_report_of_each_try_is_that_of_the_deferral() -> None:
    lines = [REPORT.format(at=at, attempt=attempt) for at, attempt in (("52.5", 1), ("59", 1), ("59.5", 2))]
    reported = first_reports([*lines, "2026-11-28T11:16:52.6Z [info     ] something else"])
    assert reported.keys() == {("run-000", 1, 1), ("run-000", 1, 2)}
    assert reported["run-000", 1, 2] - reported["run-000", 1, 1] == pytest.approx(7)


def test_deferrals_are_read_from_the_logs_of_workers(tmp_path: Path) -> None:
    folder = tmp_path / "task_id=generate" / "map_index=13"
    folder.mkdir(parents=True)
    said = '{"timestamp":"2026-11-28T11:20:56Z","event":"Pausing task as DEFERRED. "}'
    (folder / "attempt=2.log").write_text(f"no JSON\n{said}\n")
    (folder / "attempt=2.log.trigger.5.log").write_text(said)
    assert deferrals(tmp_path).keys() == {(13, 2)}


def test_a_row_says_what_was_lost_and_how_late_workers_reported() -> None:
    soaked = Soaked(
        deferrals=4, mismatches=["queued", "queued"], lost=2, failed=0, lags=[1, 1, 6, 7], seconds=60, load=(2, 8, 9)
    )
    header, _, row = soaked.table().splitlines()
    assert header.count("|") == row.count("|")
    assert row == "| 4 | 2 queued | 2 | 0 | 6.0 s / 7.0 s / 7.0 s / 7.0 s | 50% | 60 s | 2 / 8 / 9 |"
