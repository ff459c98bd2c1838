"""What a generation may cost: the gateway's preview in all its shapes, the user's table, and the keys of both."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.api.pricing import (
    as_usd,
    billed_cost,
    listed_price,
    parse_precharge,
    parse_prices,
    price_key,
    show_usd,
)
from airflow_provider_kirin.api.responses import parse_body
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinAuthError, KirinResponseError

HIT = {"status": "success", "data": {"cost": "0.28", "currency": "USD", "discount": 1, "hash": "v1:ab"}}
MISS = {"status": "failed", "data": {"cost": None, "hash": "v1:ab", "reason": "COST_CACHE_MISS"}}


def preview(body: Any, status: int = 200) -> tuple[Decimal | None, str]:
    return parse_precharge(status, {}, parse_body(body if isinstance(body, bytes) else json.dumps(body).encode()))


class TestPreview:
    @pytest.mark.parametrize("cost", ["0.28", 0.28])
    @pytest.mark.parametrize("currency", ["USD", "usd", None, ""])
    def test_a_hit_is_exact(self, cost: Any, currency: Any) -> None:
        assert preview({**HIT, "data": {"cost": cost, "currency": currency}}) == (Decimal("0.28"), "")

    def test_a_miss_comes_with_http_200_and_says_why(self) -> None:
        usd, why = preview(MISS)
        assert usd is None and "COST_CACHE_MISS" in why

    @pytest.mark.parametrize("cost", [None, "", "abc", -1, True, "NaN"])
    def test_a_success_without_a_price_is_a_miss(self, cost: Any) -> None:
        assert preview({"status": "success", "data": {"cost": cost}})[0] is None

    def test_a_price_that_cannot_be_one_is_a_miss(self) -> None:
        usd, why = preview({"status": "success", "data": {"cost": 1e25}})
        assert usd is None and "more than 1,000 USD" in why

    def test_credits_are_no_dollars(self) -> None:
        usd, why = preview({"status": "success", "data": {"cost": 28, "currency": "credit"}})
        assert usd is None and "credit" in why

    def test_a_free_generation_is_a_price_too(self) -> None:
        assert preview({"status": "success", "data": {"cost": "0"}}) == (Decimal(0), "")

    def test_a_refusal_is_an_error(self) -> None:
        with pytest.raises(KirinAuthError, match="asking for the price"):
            preview({"error": "invalid token"}, 401)

    @pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"", {"status": "success"}, {"data": "0.28"}])
    def test_what_is_no_preview_is_an_error(self, body: Any) -> None:
        with pytest.raises(KirinResponseError, match="price preview"):
            preview(body)


class TestKeys:
    @pytest.mark.parametrize(
        ("params", "key"),
        [
            ({}, "m"),
            ({"mode": "std", "duration": "5", "prompt": "x", "cfg_scale": 0.5}, "m/std/5"),
            ({"duration": 5, "mode": "std"}, "m/std/5"),
            ({"duration": "10"}, "m/10"),
            ({"mode": "pro", "duration": "5", "sound": "on", "resolution": "1080p", "n": 2},
             "m/pro/5/resolution=1080p/sound=on/n=2"),
            ({"mode": ["odd"], "sound": None}, "m"),
        ],
    )  # fmt: skip
    def test_of_a_payload(self, params: dict[str, Any], key: str) -> None:
        assert price_key("m", params) == key

    @pytest.mark.parametrize(
        ("key", "price"),
        [("m/std/5", "1"), ("m/std/10", "2"), ("m/pro/5", "3"), ("m", "3"), ("m/std/5/sound=on", "1"), ("o/std", None)],
    )  # fmt: skip
    def test_the_longest_one_that_fits_counts(self, key: str, price: str | None) -> None:
        table = parse_prices({"m/std/5": "1", "m/std": 2, "m": "3"})
        assert listed_price(table, key) == (None if price is None else Decimal(price))


class TestBilled:
    @pytest.mark.parametrize(
        ("task", "cost"),
        [
            ({"status": "completed", "usage": {"cost": "0.28"}}, "0.28"),
            ({"status": "failed", "usage": {"cost": ""}}, "0"),
            ({"status": "failed"}, "0"),
            ({"status": "failed", "usage": {"cost": "0.1"}}, "0.1"),
            ({"status": "completed"}, None),
            ({"status": "in_progress"}, None),
        ],
    )
    def test_only_what_failed_is_free_where_nothing_is_stated(self, task: dict[str, Any], cost: str | None) -> None:
        assert billed_cost(KirinTask.from_response({"id": "t1", **task})) == (None if cost is None else Decimal(cost))


class TestAmounts:
    @pytest.mark.parametrize("empty", [None, "", {}])
    def test_no_table(self, empty: Any) -> None:
        assert parse_prices(empty) == {}

    @pytest.mark.parametrize("table", ["0.28", ["m"], 5])
    def test_what_is_no_table(self, table: Any) -> None:
        with pytest.raises(ValueError, match="must map keys"):
            parse_prices(table)

    @pytest.mark.parametrize(
        "amount", [None, "", "a lot", -0.01, "-1", True, "NaN", "inf", Decimal("NaN"), Decimal(-1), [1], 10**40]
    )
    def test_what_is_no_amount(self, amount: Any) -> None:
        with pytest.raises(ValueError, match="must be an amount of US dollars"):
            as_usd(amount)
        with pytest.raises(ValueError, match="'m/std'"):
            parse_prices({"m/std": amount})

    @pytest.mark.parametrize("amount", ["0.28", 0.28, Decimal("0.28"), " 0.28 "])
    def test_a_float_counts_as_it_is_printed(self, amount: Any) -> None:
        assert as_usd(amount) == Decimal("0.28")

    @given(st.decimals(min_value=0, max_value=10**12, allow_nan=False, places=9))
    def test_nothing_is_lost_between_two_texts(self, amount: Decimal) -> None:
        shown = show_usd(amount)
        assert "E" not in shown and as_usd(shown) == amount
