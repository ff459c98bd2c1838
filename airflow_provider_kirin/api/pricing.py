"""Estimate what a generation will cost before it is submitted: the gateway's price preview, the user's price table.

No public page states prices. The preview (``POST /v1/generation/precharge``, same body as the submission) is known
from public clients of the gateway only: it estimates from cached past charges, reserves nothing, and is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, parse_error
from airflow_provider_kirin.api.redaction import one_line, short_repr
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.task_fields import MAX_COST, parse_decimal
from airflow_provider_kirin.exceptions import KirinResponseError

#: Parameters that affect what a video costs, in their order in a price key: those that are documented to do so, or that
#: obviously make a longer, larger or additional video.
_PRICED = ("mode", "duration")
_PRICED_BY_NAME = ("resolution", "sound", "n")
#: All of them.
PRICED = (*_PRICED, *_PRICED_BY_NAME)


@dataclass(frozen=True)
class Estimate:
    """The expected cost of one generation.

    :param usd: US dollars
    :param source: where the estimate comes from, for messages
    """

    usd: Decimal
    source: str


def price_key(model: str, params: Mapping[str, Any]) -> str:
    """Return the key of a price: ``kirin_v1_6_i2v/std/5``, plus ``/sound=on`` and the like if they are set.

    :param model: the model's id
    :param params: the ``params`` of a prepared payload
    """
    values = [(name, params.get(name)) for name in PRICED]
    # "5" and 5 have the same price.
    known = [(name, str(value)) for name, value in values if isinstance(value, (str, int, float))]
    return "/".join([model, *(value if name in _PRICED else f"{name}={value}" for name, value in known)])


def listed_price(table: Mapping[str, Decimal], key: str) -> Decimal | None:
    """Return the price for a key, or for its longest prefix that has one.

    :param table: what :func:`parse_prices` returned
    :param key: what :func:`price_key` returned
    """
    parts = key.split("/")
    prefixes = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((table[prefix] for prefix in prefixes if prefix in table), None)


def estimate_cost(preview: Decimal | None, table: Mapping[str, Decimal], key: str) -> Estimate | None:
    """Return the expected cost of one generation: the gateway's preview, else the user's price; None without either.

    :param preview: the gateway's price in US dollars, if it gave one
    :param table: what :func:`parse_prices` returned
    :param key: what :func:`price_key` returned
    """
    if preview is not None:
        return Estimate(preview, "the gateway's price preview")
    listed = listed_price(table, key)
    return None if listed is None else Estimate(listed, "the connection's prices")


def parse_prices(value: Any) -> dict[str, Decimal]:
    """Parse a price table in US dollars: ``{"kirin_v1_6_i2v/std/5": "0.28", "kirin_v1_6_i2v": 0.98}``.

    :param value: decoded JSON; None and "" mean an empty table
    :raises ValueError: it is not such a table
    """
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{short_repr(value)} must map keys such as kirin_v1_6_i2v/std/5 to US dollars")
    return {str(key).strip(): as_usd(amount, f"{short_repr(str(key))}: ") for key, amount in value.items()}


def as_usd(value: Any, name: str = "") -> Decimal:
    """Return an amount of US dollars, exactly.

    :param value: a number, or a string with a number; a float means its shortest decimal form
    :param name: prefix of the value in the error message
    :raises ValueError: it is not a number, or negative
    """
    amount = value if isinstance(value, Decimal) and value.is_finite() else parse_decimal(value)
    if amount is None or amount < 0:
        raise ValueError(f"{name}{short_repr(value)} must be an amount of US dollars, 0 or more, such as 2.50")
    return amount


def show_usd(amount: Decimal) -> str:
    """Format an amount without an exponent.

    :param amount: US dollars
    """
    return format(amount, "f")


def billed(cost: Decimal | None, status: str) -> Decimal | None:
    """Return the billed cost of a generation; None while it is not known.

    :param cost: the cost that the gateway reports; it reports none for a failed generation, which is refunded
    :param status: the generation's status
    """
    return Decimal(0) if cost is None and status == "failed" else cost


def billed_cost(kirin_task: KirinTask) -> Decimal | None:
    """Return the billed cost of a generation; None while it is not known.

    :param kirin_task: the generation as the gateway reports it
    """
    return billed(kirin_task.usage.cost if kirin_task.usage else None, kirin_task.status)


def parse_precharge(status: int, headers: Mapping[str, str], body: Any) -> tuple[Decimal | None, str]:
    """Parse the response to a price preview.

    :param status: the HTTP status
    :param headers: the response headers
    :param body: the decoded response body
    :return: US dollars, or None and the reason: a missing price is an HTTP 200 too, and the price may be in credits
    :raises KirinAPIError: the gateway returned an error
    :raises KirinResponseError: the response is not the API's
    """
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing="asking for the price")
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(data, Mapping):
        said = parse_error(body)[1] or "an empty body"
        raise KirinResponseError(f"The gateway's price preview cannot be read: {one_line(said, 120)}")
    cost, currency = parse_decimal(data.get("cost")), str(data.get("currency") or "USD")
    if str(body.get("status")).lower() != "success" or cost is None or cost < 0:
        reason = one_line(data.get("reason") or parse_error(body)[1] or "no reason given", 80)
        return None, f"the gateway's price preview has no price ({reason})"
    if currency.upper() != "USD":
        return None, f"the gateway's price preview is in {one_line(currency, 20)}, not USD"
    if cost > MAX_COST:
        return None, f"the gateway's price preview of {short_repr(show_usd(cost))} USD is more than {MAX_COST:,} USD"
    return cost, ""
