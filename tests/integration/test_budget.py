"""``max_cost_usd`` in real DAG runs: what is refused, what is not, and that a refusal never reaches the paid call."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_kirin.api.submission import Submission
from airflow_provider_kirin.exceptions import KirinBudgetError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.generation_client import HookClient
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.operators.run_budget import BudgetedClient, RunBudget
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.state.submission_record import SubmissionRecord
from tests.support.emulator import KEY, Emulator
from tests.support.waiting import HANG

pytestmark = [pytest.mark.usefixtures("conn_id", "kirin_fast_retries")]


@pytest.fixture
def dag(request) -> DAG:
    return DAG("budget_" + "".join(char if char.isalnum() else "_" for char in request.node.name), schedule=None)


@pytest.fixture
def payload(image_file) -> dict[str, Any]:
    return {"image": image_file, "prompt": "A prompt."}


def spent(emulator: Emulator) -> Decimal:
    return sum((Decimal(row["cost"]) for row in emulator.ledger()["paid"]), Decimal(0))


class TestTheBudgetOfARun:
    @pytest.mark.parametrize("budget", ["0.84", 0.84, Decimal("0.84"), "{{ 0.84 }}"])
    def test_a_submission_beyond_the_budget_is_refused_and_never_sent(self, dag, run, payload, emulator, budget):
        with dag:
            steps = [
                KirinGenerateVideoOperator(
                    task_id=f"g{n}", payload=payload, max_cost_usd=budget, retries=2, deferrable=False
                )
                for n in range(4)
            ]
            for first, then in itertools.pairwise(steps):
                first >> then
        ended = run(dag)
        assert list(ended.states().values()) == ["success"] * 3 + ["failed"]
        assert ended.ti("g3").try_number == 1, "another try cannot help"
        assert spent(emulator) == Decimal("0.84")
        assert len(emulator.requests("POST", "/v1/generation")) - len(emulator.requests("POST", "/precharge")) == 3
        for part in (
            "max_cost_usd = 0.84",
            "has spent 0.84 USD (3 generations)",
            "would cost 0.28 USD",
            "price preview",
        ):
            assert part in ended.log
        assert KEY not in ended.log

    def test_a_submission_that_has_not_finished_counts_by_its_estimate(self, dag, run, payload, emulator):
        running = {**payload, "prompt": "[[seconds:600]]"}
        with dag:
            first = KirinSubmitOperator(task_id="first", payload=running, max_cost_usd="0.55")
            first >> KirinSubmitOperator(task_id="second", payload=payload, max_cost_usd="0.55")
        ended = run(dag)
        assert ended.states() == {"first": "success", "second": "failed"}
        assert "1 generation, 1 of which at an estimated cost" in ended.log and emulator.submitted == 1

    def test_an_unfinished_submission_of_a_task_without_a_budget_counts_too(self, dag, run, payload, emulator):
        with dag:
            first = KirinSubmitOperator(task_id="first", payload={**payload, "prompt": "[[seconds:600]]"})
            first >> KirinSubmitOperator(task_id="second", payload=payload, max_cost_usd="0.55")
        assert run(dag).states() == {"first": "success", "second": "failed"}
        assert emulator.submitted == 1

    def test_a_failed_generation_is_refunded(self, dag, run, payload, emulator):
        failing = {**payload, "prompt": "[[fail:8002005098]]"}
        with dag:
            first = KirinSubmitOperator(task_id="first", payload=failing, max_cost_usd="0.28")
            first >> KirinSubmitOperator(task_id="second", payload=payload, max_cost_usd="0.28")
        assert run(dag).states() == {"first": "success", "second": "success"}
        assert spent(emulator) == Decimal("0.28")

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_failed_generations_that_cost_something_use_up_the_budget(self, dag, run, payload, emulator, deferrable):
        """Two tries of a step, each of which cost something for nothing, leave no room for a third."""
        with dag:
            KirinGenerateVideoOperator(
                task_id="g",
                payload={**payload, "prompt": "[[fail:8002005098:charged]]"},
                max_cost_usd="0.83",
                deferrable=deferrable,
                retries=5,
                retry_delay=timedelta(0),
            )
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("g").try_number == 3 and emulator.submitted == 2
        assert "has spent 0.56 USD (2 generations)" in ended.log

    def test_what_a_sensor_saw_counts_by_its_cost(self, dag, run, payload):
        with dag:
            submit = KirinSubmitOperator(task_id="submit", payload={**payload, "mode": "pro"}, max_cost_usd="0.77")
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.1)
            again = KirinSubmitOperator(task_id="again", payload=payload, max_cost_usd="0.77")
            wait >> again >> KirinSubmitOperator(task_id="more", payload=payload, max_cost_usd="0.77")
        ended = run(dag)
        assert ended.states() == {"submit": "success", "wait": "success", "again": "success", "more": "failed"}

    def test_another_run_has_a_budget_of_its_own(self, dag, run, payload, emulator):
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, max_cost_usd="0.28")
        assert [run(dag).state, run(dag).state] == ["success", "success"]
        assert emulator.submitted == 2

    def test_mapped_instances_share_it(self, dag, run, payload, emulator):
        with dag:
            KirinGenerateVideoOperator.partial(task_id="g", max_cost_usd="0.60", deferrable=False).expand(
                payload=[{**payload, "prompt": f"{n}"} for n in range(4)]
            )
        states = run(dag).states()
        assert sorted(states.values()) == ["failed", "failed", "success", "success"]
        assert spent(emulator) == Decimal("0.56")

    def test_an_adopted_generation_is_neither_refused_nor_counted_twice(self, dag, run, payload, emulator):
        """The first try submits and gives up waiting; the budget is used up, and the second try adopts all the same."""
        with dag:
            KirinGenerateVideoOperator(
                task_id="g",
                payload={**payload, "prompt": "[[seconds:600]]"},
                max_cost_usd="0.28",
                timeout=0.2,
                deferrable=False,
                retries=2,
                retry_delay=timedelta(0),
                on_retry_callback=lambda _: emulator.finish(),
            )
        ended = run(dag)
        assert ended.state == "success" and ended.ti("g").try_number > 1
        assert emulator.submitted == 1
        (held,) = ended.xcoms()["g", -1, "kirin_budget"]
        assert held["usd"] == "0.28" and held["kirin_task_id"] == ended.result("g")["id"], "written down again"

    def test_after_a_lost_response_the_generation_is_found_not_refused(self, dag, run, payload, emulator):
        emulator.fault(on="submit", kind="lose_response")
        with dag:
            KirinSubmitOperator(task_id="submit", payload=payload, max_cost_usd="0.28")
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        (held,) = ended.xcoms()["submit", -1, "kirin_budget"]
        assert held["usd"] == "0.28" and held["external_task_id"].startswith("airflow-")

    def test_a_submission_that_was_refused_holds_nothing(self, dag, run, payload, emulator):
        emulator.fault(on="submit", kind="status", status=402)
        with dag:
            first = KirinSubmitOperator(task_id="first", payload=payload, max_cost_usd="0.28")
            first >> KirinSubmitOperator(
                task_id="second", payload=payload, max_cost_usd="0.28", trigger_rule="all_done"
            )
        ended = run(dag)
        assert ended.states() == {"first": "failed", "second": "success"}
        assert ended.xcoms()["first", -1, "kirin_budget"] == []


class TestWhatItWouldCost:
    def test_the_preview_that_misses_gives_way_to_the_connections_prices(self, dag, run, payload, connect, emulator):
        connect(emulator.url, prices={"kirin_v1_6_i2v/pro": "9", "kirin_v1_6_i2v/std/5": "0.50"})
        with dag:
            KirinSubmitOperator(task_id="s", payload={**payload, "prompt": "[[price:miss]]"}, max_cost_usd="0.49")
        ended = run(dag)
        assert ended.state == "failed" and "0.50 USD (according to the connection's prices)" in ended.log
        assert emulator.submitted == 0

    @pytest.mark.parametrize("directive", [{"prompt": "[[price:credit]]"}, {"prompt": "[[price:miss]]"}])
    def test_without_a_known_price_it_is_refused_with_a_remedy(self, dag, run, payload, emulator, directive):
        with dag:
            KirinSubmitOperator(task_id="s", payload=payload | directive, max_cost_usd="100", retries=2)
        ended = run(dag)
        assert ended.state == "failed" and ended.ti("s").try_number == 1 and emulator.submitted == 0
        assert "the cost of kirin_v1_6_i2v/std/5 is unknown" in ended.log and '"prices"' in ended.log

    def test_the_cost_of_an_earlier_run_is_the_estimate(self, dag, run, payload, emulator):
        with dag:
            submit = KirinSubmitOperator(
                task_id="s", payload={**payload, "prompt": "[[price:miss]]"}, max_cost_usd="{{ params.budget }}"
            )
            submit >> KirinTaskSensor(task_id="w", kirin_task_id=submit.output, poke_interval=0.1)
        dag.params = {"budget": "0.30"}
        assert run(dag).states()["s"] == "failed"
        # A run without a budget: its cost is the estimate of later ones.
        submit.max_cost_usd = None
        assert run(dag).state == "success"
        submit.max_cost_usd = "{{ params.budget }}"
        assert run(dag).state == "success"
        dag.params = {"budget": "0.27"}
        refused = run(dag)
        assert (
            refused.states()["s"] == "failed"
            and "0.28 USD (according to what such a generation cost before)" in refused.log
        )
        assert emulator.submitted == 2

    @pytest.mark.parametrize("kind", ["status", "cut_before", "garbage"])
    def test_an_error_of_the_price_preview_is_retried_and_is_not_an_unknown_submission(
        self, dag, run, payload, emulator, kind
    ):
        emulator.fault(on="price", kind=kind, times=2, body="<html>")
        with dag:
            KirinSubmitOperator(task_id="s", payload=payload, max_cost_usd="0.28")
        ended = run(dag)
        assert ended.state == "success" and emulator.submitted == 1
        assert "may have submitted" not in ended.log

    @pytest.mark.parametrize("budget", ["a lot", -1, "NaN", True])
    def test_an_invalid_budget_is_an_import_error(self, payload, budget):
        with pytest.raises(KirinBudgetError, match=r"max_cost_usd = .* must be an amount of US dollars"):
            KirinSubmitOperator(task_id="s", payload=payload, max_cost_usd=budget)

    def test_no_price_is_requested_without_a_budget(self, dag, run, payload, emulator):
        with dag:
            KirinSubmitOperator(task_id="s", payload=payload)
        assert run(dag).state == "success" and emulator.requests("POST", "/precharge") == []


class SharedXComs:
    """What the XComs of one run are to many workers at once, as a database serves them: one operation at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, int, str], Any] = {}

    def push(self, task_id: str, map_index: int, key: str, value: Any) -> None:
        with self._lock:
            self._rows[task_id, map_index, key] = value

    def pull(self, task_ids: list[str], key: str) -> list[Any]:
        with self._lock:
            return [value for (task_id, _, found), value in self._rows.items() if task_id in task_ids and found == key]


class Instance:
    """One mapped task instance on a worker of its own."""

    try_number, task_id, dag_id, run_id = 1, "g", "d", "r"

    def __init__(self, xcoms: SharedXComs, map_index: int, together: threading.Barrier) -> None:
        self.xcoms, self.map_index = xcoms, map_index
        self._together: threading.Barrier | None = together

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.push(self.task_id, self.map_index, key, value)

    def xcom_pull(self, *, task_ids: Any, key: str, **how: Any) -> list[Any]:
        rows = self.xcoms.pull([task_ids] if isinstance(task_ids, str) else task_ids, key)
        if self._together:
            # The worst moment: all have read what the others hold before any of them continues.
            self._together.wait()
            self._together = None
        return rows


class NoDag:
    tasks: tuple[Any, ...] = ()


class TestAllAtOnce:
    @pytest.mark.parametrize("workers", [8])
    def test_together_they_never_exceed_it_and_none_is_refused_that_fits(self, payload, emulator, workers):
        """Eight workers, money for three: the emulator's ledger says three, and the others get the reason."""
        xcoms, together = SharedXComs(), threading.Barrier(workers)
        ended: list[Any] = []

        def work(map_index: int) -> None:
            context: Any = {"ti": Instance(xcoms, map_index, together), "dag": NoDag()}
            hook = KirinHook()
            prepared = hook.prepare({**payload, "prompt": f"{map_index}"})
            record = SubmissionRecord(context)
            budget = RunBudget(Decimal("1.00"), context, record, hook, prepared)
            gateway = BudgetedClient(HookClient(hook, prepared), budget.reserve, budget.withdraw)
            try:
                ended.append(
                    Submission(gateway, record, external_task_id=f"row-{map_index}", sleep=time.sleep).submit_or_adopt()
                )
            except KirinBudgetError as error:
                ended.append(error)
            finally:
                hook.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        refused = [one for one in ended if isinstance(one, KirinBudgetError)]
        assert len(ended) == workers and len(refused) == workers - 3
        assert spent(emulator) == Decimal("0.84")
        assert not any(error.retryable for error in refused), "the last word is a clear one"
