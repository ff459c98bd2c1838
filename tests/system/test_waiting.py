"""Every way to wait in a real Airflow: the same result, and no more workers than it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.emulator import KEY, picture
from tests.support.system.deployment import Deployment
from tests.support.system.gateway import Gateway
from tests.support.system.waiting_dags import CONN_ID, KNOWN
from tests.support.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]

RUN = "one"
#: Task ids by how often a worker runs for them.
WORKERLESS = ("static", "static_list", "by_param", "by_conf", "by_variable", "by_output", "by_outputs", "no_xcom")
ENDED_BY_A_WORKER = ("callback", "outlet", "ends_on_worker", "mapped_over")
STARTED_BY_A_WORKER = ("by_pull", "of_mapped", "starts_on_worker", "timed", "generate")
BY_WORKERS_ONLY = ("ordinary", "generate_download")


class Waited:
    """The run, when it has ended."""

    def __init__(self, airflow: Deployment) -> None:
        self.airflow = airflow
        self.tis = {(ti["task_id"], ti["map_index"]): ti for ti in airflow.tis("waiting", RUN)}

    def state(self, task_id: str, map_index: int = -1) -> str:
        return str(self.tis[task_id, map_index]["state"])

    def result(self, task_id: str, map_index: int = -1) -> Any:
        """What downstream sees, less the signature of the link, which differs from second to second."""
        text = json.dumps(self.airflow.xcom("waiting", RUN, task_id, map_index))
        return json.loads(re.sub(r"\?Expires=[^\"]*", "", text))

    def log(self, task_id: str, map_index: int = -1, *, of: str = "attempt=*") -> str:
        folder = self.airflow.home / "logs" / "dag_id=waiting" / f"run_id={RUN}" / f"task_id={task_id}"
        folder = folder / f"map_index={map_index}" if map_index >= 0 else folder
        return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob(of)))

    def worker_runs(self, task_id: str, map_index: int = -1) -> int:
        """Each run on a worker says so at its beginning."""
        return self.log(task_id, map_index, of="attempt=*[0-9].log").count("::group::Pre Execute")


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waited]:
    home = tmp_path_factory.mktemp("waiting")
    image = home / "cup.jpg"
    image.write_bytes(picture(320, 320))
    gateway = Gateway(home / "gateway")
    airflow = Deployment(home / "airflow")
    (airflow.dags / "waiting.py").write_text(
        f'"""An Airflow DAG."""\nfrom tests.support.system.waiting_dags import build\n\ndag = build({str(image)!r})\n'
    )
    try:
        airflow.start()
        airflow.connect(CONN_ID, gateway.url, KEY, "{}")
        airflow.call("POST", "/variables", json={"key": "kirin_wanted", "value": KNOWN})
        airflow.wait_for_dags(["waiting"])
        airflow.start_run("waiting", RUN, {"wanted": KNOWN, "videos": str(home / "videos")})
        until(lambda: airflow.run_state("waiting", RUN) in ("success", "failed"), "the run has ended", pause=1)
        yield Waited(airflow)
    finally:
        gateway.stop()
        airflow.stop()


@pytest.mark.parametrize("task_id", WORKERLESS)
def test_no_worker_runs_where_nothing_needs_one(waited, task_id):
    assert waited.state(task_id) == "success"
    assert waited.worker_runs(task_id) == 0
    assert "is done; cost: 0.28 USD" in waited.log(task_id)


@pytest.mark.parametrize("task_id", [*ENDED_BY_A_WORKER, *STARTED_BY_A_WORKER])
def test_a_worker_starts_it_or_ends_it_where_one_has_to(waited, task_id):
    assert waited.state(task_id) == "success"
    assert waited.worker_runs(task_id) == 1


@pytest.mark.parametrize("task_id", BY_WORKERS_ONLY)
def test_the_ordinary_way_takes_two_workers(waited, task_id):
    assert waited.state(task_id) == "success"
    assert waited.worker_runs(task_id) == 2


@pytest.mark.parametrize("task_id", ["mapped", "each.in_group"])
@pytest.mark.parametrize("map_index", range(3))
def test_what_is_mapped_starts_on_a_worker_and_ends_in_the_triggerer(waited, task_id, map_index):
    assert waited.state(task_id, map_index) == "success"
    assert waited.worker_runs(task_id, map_index) == 1
    assert waited.result(task_id, map_index)["id"] == waited.result("submit_many", map_index)


@pytest.mark.parametrize(
    "task_id",
    [
        "static",
        "by_param",
        "by_conf",
        "by_variable",
        "by_output",
        "callback",
        "outlet",
        "ends_on_worker",
        "by_pull",
        "starts_on_worker",
        "timed",
    ],
)
def test_the_result_is_the_same_dict_in_every_way(waited, task_id):
    ordinary = waited.result("ordinary")
    assert ordinary["id"] == waited.result("submit") and ordinary["status"] == "completed"
    by_external_id = task_id in ("static", "by_param", "by_conf", "by_variable")
    assert waited.result(task_id) == ordinary | ({"external_task_id": KNOWN} if by_external_id else {})


@pytest.mark.parametrize(
    ("task_id", "asked_for"),
    [("static_list", [KNOWN, KNOWN]), ("by_outputs", [None, KNOWN]), ("mapped_over", [None, KNOWN])],
)
def test_a_list_gives_a_list(waited, task_id, asked_for):
    assert waited.result(task_id) == [waited.result("ordinary") | {"external_task_id": one} for one in asked_for]


def test_the_outputs_of_a_mapped_task_keep_their_order(waited):
    # The first one takes longest.
    assert [one["id"] for one in waited.result("of_mapped")] == [waited.result("submit_many", n) for n in range(3)]


def test_no_result_where_none_is_wanted(waited):
    path = f"/dags/waiting/dagRuns/{RUN}/taskInstances/no_xcom/xcomEntries"
    # What it cost is no result: it is on record in any case.
    assert [entry["key"] for entry in waited.airflow.call("GET", path)["xcom_entries"]] == ["kirin_usage"]


@pytest.mark.parametrize("task_id", ["static", "by_output", "callback", "by_pull", "generate", "ordinary", "no_xcom"])
def test_what_it_cost_is_on_record_in_every_way(waited, task_id):
    (usage,) = waited.airflow.xcom("waiting", RUN, task_id, key="kirin_usage")
    assert (usage["status"], usage["cost"]) == ("completed", "0.28")


def test_a_callback_runs_and_an_outlet_has_its_event(waited):
    assert "the callback of callback ran" in waited.log("callback")
    events = waited.airflow.call("GET", "/assets/events")["asset_events"]
    assert [event["source_task_id"] for event in events] == ["outlet"]


def test_a_task_is_mapped_over_the_result(waited):
    assert [waited.result("length", index) for index in range(2)] == [5.0, 5.0]


def test_generate_returns_what_it_submitted(waited):
    result = waited.result("generate")
    assert result["status"] == "completed" and result["external_task_id"].startswith("airflow-")
    assert "files" in waited.result("generate_download")


class TestWhatGoesWrong:
    @pytest.mark.parametrize("task_id", ["failed", "fast", "late"])
    def test_fails_the_task_at_once_whatever_its_retries(self, waited, task_id):
        assert waited.state(task_id) == "failed"
        assert waited.tis[task_id, -1]["try_number"] == 1
        assert waited.worker_runs(task_id) == 1

    def test_says_why(self, waited):
        assert "8002005098" in waited.log("failed")
        # Six seconds, or a few more on a machine that is busy.
        assert re.search(r"did not finish within \d+ s", waited.log("late"))

    def test_a_list_that_fails_fast_names_who_failed_and_how_many_continue(self, waited):
        log = waited.log("fast")
        assert "1 of 2 Kirin generations have no video" in log and "8002005098" in log
        assert "1 more may continue at Kirin" in log

    def test_soft_fail_skips(self, waited):
        assert waited.state("skipped") == "skipped"


def test_no_key_and_no_signature_in_any_log(waited):
    for task_id in {task_id for task_id, _ in waited.tis}:
        for path in (waited.airflow.home / "logs").rglob(f"task_id={task_id}/**/attempt=*"):
            text = path.read_text(errors="replace")
            assert KEY not in text and "Signature=" not in text
