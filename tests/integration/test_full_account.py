"""A full account: the task waits for a place without a try, and pays once, whichever way it waits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import task

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.triggers.capacity import deferral_until_place, resumed_wait
from tests.support.emulator import KEY

pytestmark = pytest.mark.usefixtures("conn_id", "kirin_fast_retries")

AGAIN = {"retries": 2, "retry_delay": timedelta(0)}
DEFERS = "Nothing was submitted: the account is full. Waiting for a place"


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "The sun goes round. [[seconds:0.3]]"}


def fill(emulator: Any, times: int) -> None:
    """Refuse this many submissions, as a full account does; -1 for all."""
    emulator.fault(on="submit", kind="full", times=times)


class WithAReport(KirinSubmitOperator):
    """A user's own subclass."""

    def execute(self, context: Any) -> str:
        kirin_task_id = super().execute(context)
        self.log.info("Reported %s.", kirin_task_id)
        return kirin_task_id


class TestTheTaskDefers:
    @pytest.mark.parametrize("shape", ["submit", "generate", "download", "taskflow", "subclass"])
    def test_a_task_submits_when_there_is_a_place(self, dag, run, payload, emulator, tmp_path, shape):
        fill(emulator, 2)
        with dag:
            if shape == "submit":
                KirinSubmitOperator(task_id="video", payload=payload)
            elif shape == "generate":
                KirinGenerateVideoOperator(task_id="video", payload=payload, poll_interval=0.1)
            elif shape == "download":
                KirinGenerateVideoOperator(
                    task_id="video", payload=payload, poll_interval=0.1, destination=str(tmp_path)
                )
            elif shape == "taskflow":
                task.kirin(task_id="video", poll_interval=0.1)(lambda: payload)()
            else:
                WithAReport(task_id="video", payload=payload)
        ended = run(dag)
        assert ended.states() == {"video": "success"}, ended.log
        assert ended.ti("video").try_number == 1
        (paid,) = emulator.ledger()["paid"]
        result = ended.result("video")
        assert (result if isinstance(result, str) else result["id"]) == paid["id"]
        assert len(emulator.requests("POST", "/generation")) == 3
        assert ended.log.count(DEFERS) == 2
        assert "refusals so far: 2. Submitting again, as it is time to ask again" in ended.log
        assert ("Reported" in ended.log) == (shape == "subclass")
        assert KEY not in ended.log + ended.everything_stored()

    def test_each_mapped_task_for_itself(self, dag, run, payload, emulator):
        fill(emulator, 2)
        with dag:
            KirinGenerateVideoOperator.partial(task_id="video", poll_interval=0.1).expand(
                payload=[{**payload, "prompt": f"Cup {number}. [[seconds:0.1]]"} for number in range(3)]
            )
        ended = run(dag)
        assert set(ended.states().values()) == {"success"}
        assert [ended.ti("video", number).try_number for number in range(3)] == [1, 1, 1]
        assert len(emulator.ledger()["paid"]) == 3

    def test_a_refusal_holds_nothing_of_the_budget(self, dag, run, payload, emulator):
        fill(emulator, 2)
        with dag:
            KirinSubmitOperator(task_id="video", payload=payload, max_cost_usd="0.28")
        assert run(dag).states() == {"video": "success"}

    def test_exactly_one_lookup_comes_before_each_submission(self, dag, run, payload, emulator):
        fill(emulator, 3)
        with dag:
            KirinSubmitOperator(task_id="video", payload=payload)
        run(dag)
        asked = [one["method"] for one in emulator.requests() if "/generation" in one["path"]]
        assert asked == ["GET", "POST"] * 4

    def test_until_the_wait_is_over_and_says_that_nothing_was_submitted(self, dag, run, payload, emulator):
        fill(emulator, -1)
        with dag:
            KirinGenerateVideoOperator(task_id="video", payload=payload, capacity_timeout=1.0, **AGAIN)
        ended = run(dag)
        assert ended.states() == {"video": "failed"}
        assert ended.ti("video").try_number == 1, "another try would wait as long again"
        assert "nothing was submitted by this try. Increase capacity_timeout" in ended.log
        assert emulator.submitted == 0

    def test_a_request_rate_limit_is_waited_out_at_once(self, dag, run, payload, emulator):
        emulator.fault(on="submit", kind="status", status=429, body={"error": {"code": 1302, "message": "too fast"}})
        with dag:
            KirinSubmitOperator(task_id="video", payload=payload)
        ended = run(dag)
        assert ended.states() == {"video": "success"}
        assert DEFERS not in ended.log


class TestTheWorkerWaits:
    def test_if_the_task_may_not_defer(self, dag, run, payload, emulator):
        fill(emulator, 4)
        with dag:
            KirinSubmitOperator(task_id="video", payload=payload, deferrable=False)
        ended = run(dag)
        assert ended.states() == {"video": "success"}
        assert ended.ti("video").try_number == 1
        assert DEFERS not in ended.log
        assert ended.log.count("The account is full; submitting again in") == 4

    def test_as_long_as_a_deferred_task_would(self, dag, run, payload, emulator, monkeypatch):
        monkeypatch.setattr("airflow_provider_kirin.api.capacity.MAX_PAUSE", 60.0)
        fill(emulator, -1)
        with dag:
            KirinSubmitOperator(
                task_id="video", payload=payload, deferrable=False, capacity_timeout=timedelta(minutes=2), **AGAIN
            )
        ended = run(dag)
        assert ended.states() == {"video": "failed"}
        assert ended.ti("video").try_number == 1
        assert "The account was full for 120 s, and nothing was submitted by this try" in ended.log


@pytest.mark.parametrize("deferrable", [True, False])
def test_no_capacity_timeout_leaves_it_to_the_retries(dag, run, payload, emulator, deferrable):
    fill(emulator, 2)
    with dag:
        KirinSubmitOperator(task_id="video", payload=payload, deferrable=deferrable, capacity_timeout=0, **AGAIN)
    ended = run(dag)
    assert ended.states() == {"video": "success"}
    assert ended.ti("video").try_number == 3


@pytest.mark.parametrize("wrong", [-1, "6h", None, True])
def test_an_invalid_capacity_timeout_is_refused(payload, wrong):
    with pytest.raises(ValueError, match=r"capacity_timeout = .* must be a number of seconds"):
        KirinSubmitOperator(task_id="video", payload=payload, capacity_timeout=wrong)


def test_a_wait_belongs_to_the_try_that_began_it():
    """A clear of a running task hands the arguments of its last deferral on to the next try."""
    from airflow_provider_kirin.api.capacity import CapacityWait

    wait = CapacityWait(since=1.0, deadline=2.0, refusals=3)
    deferral = deferral_until_place(wait, kirin_conn_id="c", try_number=1, retry_after=None)
    trigger = deferral["trigger"]
    event = {"reason": "time", **{name: getattr(trigger, name) for name in ("since", "deadline", "refusals")}}
    assert resumed_wait({**event, "try_number": trigger.try_number}, try_number=1) == wait
    assert resumed_wait({**event, "try_number": trigger.try_number}, try_number=2) is None
