"""What a DAG run has spent, read from whatever its tasks left behind, and whether one more generation fits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.budget import (
    BatchRow,
    Charge,
    estimate_from_history,
    no_estimate,
    over_budget,
    read_charges,
)
from airflow_provider_kirin.api.pricing import Estimate
from airflow_provider_kirin.exceptions import KirinBudgetError

PRICE = Estimate(Decimal("0.28"), "the test")
USD = st.decimals(min_value=0, max_value=1000, allow_nan=False, places=4)
PURCHASES = st.builds(
    Charge,
    external_task_id=st.uuids().map(str),
    kirin_task_id=st.none() | st.text(min_size=1),
    estimate=st.none() | USD,
    cost=st.none() | USD,
)


def over(budget: str, *others: Charge, name: str = "mine") -> KirinBudgetError | None:
    return over_budget(Decimal(budget), PRICE, others, external_task_id=name)


def charge(name: str, *, cost: str | None = None, estimate: str | None = None, id_: str | None = "t1") -> Charge:
    amounts = {"cost": cost, "estimate": estimate}
    return Charge(name, id_, **{key: None if text is None else Decimal(text) for key, text in amounts.items()})


class TestReading:
    def test_records_of_one_generation_are_one_charge(self) -> None:
        notes = [
            {"external_task_id": "a", "usd": "0.28", "price_key": "m/std/5"},
            {"external_task_id": "a", "kirin_task_id": "t1", "price_key": "m/std/5"},
        ]
        usage = [{"kirin_task_id": "t1", "status": "completed", "cost": "0.27"}]
        expected = Charge("a", "t1", "m/std/5", Decimal("0.28"), Decimal("0.27"))
        assert read_charges(notes, usage) == [expected]
        assert read_charges(reversed(notes), usage) == [expected]
        assert read_charges(notes * 2, usage * 2) == [expected]

    def test_what_failed_and_states_no_cost_was_given_back(self) -> None:
        usage = [{"kirin_task_id": "t1", "status": "failed", "cost": None}]
        assert read_charges([{"external_task_id": "a", "kirin_task_id": "t1"}], usage)[0].cost == 0

    def test_what_completed_without_a_cost_is_not_free(self) -> None:
        usage = [{"kirin_task_id": "t1", "status": "completed", "cost": None}]
        assert read_charges([{"external_task_id": "a", "kirin_task_id": "t1"}], usage)[0].cost is None

    def test_what_a_sensor_saw_and_this_run_did_not_submit_does_not_count(self) -> None:
        assert read_charges([], [{"kirin_task_id": "t1", "status": "completed", "cost": "5"}]) == []

    @given(st.lists(st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["external_task_id", "kirin_task_id", "usd", "cost", "status", "price_key"]), inner),
    )))  # fmt: skip
    def test_other_peoples_xcoms_do_no_harm(self, junk: list[Any]) -> None:
        for one in read_charges(junk, junk):
            assert one.amount(PRICE.usd) == one.amount(PRICE.usd)


class TestDeciding:
    def test_the_last_cent_may_be_spent(self) -> None:
        assert over("0.28") is None
        assert over("0.27") is not None
        assert over("0.56", charge("a", cost="0.28")) is None

    def test_the_error_has_all_amounts(self) -> None:
        error = over("1.00", charge("a", cost="0.49"), charge("b", estimate="0.28", id_="t2"))
        assert error is not None and not error.retryable
        assert (error.budget, error.spent, error.estimate, error.source) == ("1.00", "0.77", "0.28", "the test")
        for part in ("max_cost_usd = 1.00", "0.77 USD", "2 generations, 1 of which", "0.28 USD", "the test"):
            assert part in str(error)
        assert "nothing was spent" in str(error) and "Raise max_cost_usd" in str(error)

    def test_a_first_generation_beyond_the_budget_is_refused(self) -> None:
        assert "has spent 0 USD, and" in str(over("0.10"))

    def test_a_generation_does_not_count_against_itself(self) -> None:
        assert over("0.28", charge("mine", estimate="0.28", id_=None)) is None

    def test_without_cost_and_estimate_it_counts_as_this_one_does(self) -> None:
        assert over("0.55", charge("a")) is not None
        assert over("0.56", charge("a")) is None

    def test_money_that_others_only_hold_may_come_back(self) -> None:
        held = charge("a", estimate="0.28", id_=None)
        error = over("0.50", held)
        assert error is not None and error.retryable and "in progress" in str(error)
        final = over("0.50", held, charge("b", cost="0.28"))
        assert final is not None and not final.retryable

    def test_a_row_of_a_batch_is_refused_without_denying_what_others_have_cost(self) -> None:
        own, row = charge("batch", cost="0.84"), BatchRow("s3", spent=Decimal("0.84"))
        others = [own, charge("other task", cost="0.10")]
        error = over_budget(Decimal(1), PRICE, others, external_task_id="mine", row=row)
        assert str(error) == (
            "max_cost_usd = 1: this batch has spent 0.84 USD, with what is in flight, other tasks of the DAG run 0.10 "
            "USD, and row s3 would cost 0.28 USD (according to the test). Row s3 was not submitted, and costs nothing; "
            "the videos of rows submitted before are stored. Raise max_cost_usd to continue with the rest."
        )
        unknown = str(no_estimate(Decimal(1), "m/std/5", "the gateway is silent", retryable=False, row="s3"))
        assert "Row s3 was not submitted" in unknown and "nothing was spent" not in unknown

    @given(st.lists(PURCHASES), USD, USD)
    def test_what_is_allowed_never_exceeds_the_budget(
        self, others: list[Charge], budget: Decimal, usd: Decimal
    ) -> None:
        error = over_budget(budget, Estimate(usd, "x"), others, external_task_id="mine")
        total = sum((one.amount(usd) for one in others), Decimal(0)) + usd
        assert (error is None) == (total <= budget)


class TestLearning:
    def test_the_most_that_it_cost(self) -> None:
        known = [
            Charge("a", "t1", "m/std/5", cost=Decimal("0.2")),
            Charge("b", "t2", "m/std/5", cost=Decimal("0.3")),
            Charge("c", "t3", "m/pro/5", cost=Decimal("9")),
            Charge("d", "t4", "m/std/5", estimate=Decimal("8")),
        ]
        estimate = estimate_from_history(known, "m/std/5")
        assert estimate is not None and estimate.usd == Decimal("0.3")

    @pytest.mark.parametrize("cost", [None, Decimal(0)])
    def test_failed_or_unfinished_generations_give_no_estimate(self, cost: Decimal | None) -> None:
        assert estimate_from_history([Charge("a", "t1", "m/std/5", cost=cost)], "m/std/5") is None

    def test_without_a_known_price_the_error_has_a_remedy(self) -> None:
        error = no_estimate(Decimal(1), "m/std/5", "the gateway is silent", retryable=True)
        assert error.retryable and '{"prices": {"m/std/5": "0.50"}}' in str(error) and "is silent" in str(error)


def test_failed_generations_count_by_what_they_cost() -> None:
    notes = [
        {"external_task_id": "a", "kirin_task_id": "t1", "usd": "0.28", "failed_costs": {"t0": "0.30", "t1": "0.10"}},
        {"failed_costs": {"t0": "0.30"}},
    ]
    costs = {one.kirin_task_id: one.cost for one in read_charges(notes, [])}
    assert costs == {"t0": Decimal("0.30"), "t1": Decimal("0.10")}
