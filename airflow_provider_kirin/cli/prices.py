"""What payloads will cost, for the questions and the output of commands."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.payload import with_example_images
from airflow_provider_kirin.api.pricing import Estimate, estimate_cost, price_key, show_usd
from airflow_provider_kirin.exceptions import KirinError

if TYPE_CHECKING:
    from airflow_provider_kirin.api.batch.row import Row
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.hooks.kirin import KirinHook

#: How many payloads with the same price are tried, until one has it.
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
    return estimate_cost(usd, hook.connection.prices, price_key(prepared.model, prepared.params))


def describe_price(estimate: Estimate | None) -> str:
    """Return a price as a part of a sentence.

    :param estimate: from :func:`find_price`
    """
    return f"about {show_usd(estimate.usd)} USD (according to {estimate.source})" if estimate else "an unknown price"


@dataclass(frozen=True)
class PriceLine:
    """Generations with the same price.

    :param key: see :func:`.price_key`
    :param count: how many there are
    :param estimate: of one of them; None if nothing is known about it
    """

    key: str
    count: int
    estimate: Estimate | None

    @property
    def usd(self) -> Decimal | None:
        """US dollars for all of them."""
        return None if self.estimate is None else self.estimate.usd * self.count


@dataclass(frozen=True)
class Price:
    """What several generations will cost.

    :param lines: the generations, by what affects their price
    """

    lines: Sequence[PriceLine]

    @property
    def count(self) -> int:
        """How many generations there are."""
        return sum(line.count for line in self.lines)

    def __str__(self) -> str:
        known = [line for line in self.lines if line.estimate is not None]
        unknown = self.count - sum(line.count for line in known)
        if not known:
            return "an unknown price"
        usd = sum((line.usd or Decimal(0) for line in known), Decimal(0))
        sources = " and ".join(sorted({line.estimate.source for line in known if line.estimate}))
        amount = f"{show_usd(usd)} USD (according to {sources})"
        return f"at least {amount}; {unknown:,} of them without a price" if unknown else f"about {amount}"


class PriceList:
    """The prices of one connection. The gateway is asked once for each combination of what affects a price.

    :param hook: asks the gateway
    """

    def __init__(self, hook: KirinHook) -> None:
        self._hook = hook
        self._known: dict[str, Estimate] = {}
        self._asked = Counter[str]()

    def find(self, payload: Any, model: str) -> tuple[str, Estimate | None]:
        """Return what a generation is priced by, and its expected cost; None if nothing is known about it.

        :param payload: the model's parameters; an image in it is not read or sent
        :param model: the model's id
        :raises KirinPayloadError: it is not a payload of this model
        """
        example = with_example_images(payload, model, _example_image())
        key = price_key(model, example)
        # A payload may be wrong, and the gateway may have no price.
        if key not in self._known and self._asked[key] < _MAX_ASKED:
            self._asked[key] += 1
            if price := self._ask(example, model, key):
                self._known[key] = price
        return key, self._known.get(key)

    def _ask(self, example: Any, model: str, key: str) -> Estimate | None:
        try:
            return find_price(self._hook, self._hook.prepare(example, model=model, allow_unknown_model=True))
        except KirinError:
            return estimate_cost(None, self._hook.connection.prices, key)


def find_table_price(hook: KirinHook, rows: Iterable[Row], model: str) -> Price:
    """Return what rows will cost.

    :param hook: asks the gateway
    :param rows: rows without problems
    :param model: the model's id
    """
    prices = PriceList(hook)
    counts, found = Counter[str](), dict[str, Estimate | None]()
    for row in rows:
        key, estimate = prices.find(row.payload, model)
        counts[key] += 1
        found[key] = estimate
    return Price([PriceLine(key, count, found[key]) for key, count in counts.items()])


@cache
def _example_image() -> bytes:
    """Return an image that every model accepts; the image does not affect the price."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (720, 720), "white").save(file, "JPEG")
    return file.getvalue()
