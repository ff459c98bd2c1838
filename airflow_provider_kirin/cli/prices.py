"""What payloads will cost, for the questions and the output of commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.models import find_schema
from airflow_provider_kirin.api.payload.normalize import as_mapping, normalize
from airflow_provider_kirin.api.pricing import Estimate, estimated, price_key, show_usd
from airflow_provider_kirin.exceptions import KirinError

if TYPE_CHECKING:
    from airflow_provider_kirin.api.batch.row import Row
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.hooks.kirin import KirinHook

#: How many rows with the same price are tried, until one has it.
_MAX_ASKED = 3


def find_price(hook: KirinHook, prepared: PreparedPayload) -> Estimate | None:
    """Return the expected cost of one generation; None if nothing is known about it.

    :param hook: asks the gateway
    :param prepared: the payload
    """
    try:
        usd, _ = hook.precharge(prepared)
    except KirinError:
        usd = None
    return estimated(usd, hook.connection.prices, price_key(prepared.model, prepared.params))


def describe_price(estimate: Estimate | None) -> str:
    """Return a price as a part of a sentence.

    :param estimate: from :func:`find_price`
    """
    return f"about {show_usd(estimate.usd)} USD (according to {estimate.source})" if estimate else "an unknown price"


@dataclass(frozen=True)
class TablePrice:
    """What the rows of a table will cost.

    :param rows: how many there are
    :param usd: US dollars for all of them whose price is known
    :param unknown: how many others there are
    :param sources: where the prices come from
    """

    rows: int
    usd: Decimal
    unknown: int
    sources: Sequence[str]

    def __str__(self) -> str:
        if self.unknown == self.rows:
            return "an unknown price"
        amount = f"{show_usd(self.usd)} USD (according to {' and '.join(self.sources)})"
        return f"at least {amount}; {self.unknown:,} of them have no price" if self.unknown else f"about {amount}"


def find_table_price(hook: KirinHook, rows: Iterable[Row], model: str) -> TablePrice:
    """Return what rows will cost. The gateway is asked once for each combination of what affects a price.

    :param hook: asks the gateway
    :param rows: rows without problems
    :param model: the model's id
    """
    schema = find_schema(model)
    counts, asked, prices = Counter[str](), Counter[str](), dict[str, Estimate]()
    for row in rows:
        key = price_key(model, normalize(as_mapping(row.payload, model), schema))
        counts[key] += 1
        # The image of a row may be bad, and the gateway may have no price.
        if key not in prices and asked[key] < _MAX_ASKED:
            asked[key] += 1
            if price := _price_of_row(hook, row, model, key):
                prices[key] = price
    return TablePrice(
        rows=counts.total(),
        usd=sum((prices[key].usd * count for key, count in counts.items() if key in prices), Decimal(0)),
        unknown=sum(count for key, count in counts.items() if key not in prices),
        sources=sorted({price.source for price in prices.values()}),
    )


def _price_of_row(hook: KirinHook, row: Row, model: str, key: str) -> Estimate | None:
    try:
        return find_price(hook, hook.prepare(row.payload, model=model))
    except KirinError:
        # Its image is checked when its turn comes.
        return estimated(None, hook.connection.prices, key)
