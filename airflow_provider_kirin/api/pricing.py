"""What a generation may cost before it is bought: the gateway's preview, a table of the user's, and their keys.

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
from airflow_provider_kirin.api.task import KirinTask, parse_decimal
from airflow_provider_kirin.exceptions import KirinReplyError

#: Parameters that change what a video costs, in the order in which they stand in a price key. Those of the models'
#: pages that say so, or that plainly make a longer, larger or second video.
_PRICED = ("mode", "duration")
_PRICED_BY_NAME = ("resolution", "sound", "n")


@dataclass(frozen=True)
class Estimate:
    """What one generation would cost.

    :param usd: US dollars
    :param source: who says so, for a message
    """

    usd: Decimal
    source: str


def price_key(model: str, params: Mapping[str, Any]) -> str:
    """Return what a price hangs on: ``kirin_v1_6_i2v/std/5``, and ``/sound=on`` and the like where they are given.

    :param model: the model's id
    :param params: a prepared payload's ``params``
    """
    values = [(name, params.get(name)) for name in (*_PRICED, *_PRICED_BY_NAME)]
    # A text for a number and a number for a text are the same price.
    known = [(name, str(value)) for name, value in values if isinstance(value, (str, int, float))]
    return "/".join([model, *(text if name in _PRICED else f"{name}={text}" for name, text in known)])


def listed_price(table: Mapping[str, Decimal], key: str) -> Decimal | None:
    """Return the price for a key, or for the longest part of it that has one.

    :param table: what :func:`parse_prices` returned
    :param key: what :func:`price_key` returned
    """
    parts = key.split("/")
    keys = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((table[one] for one in keys if one in table), None)


def estimated(preview: Decimal | None, table: Mapping[str, Decimal], key: str) -> Estimate | None:
    """Return what one generation would cost: the gateway's word first, then the user's; None where both are silent.

    :param preview: what the gateway says, if anything
    :param table: what :func:`parse_prices` returned
    :param key: what :func:`price_key` returned
    """
    if preview is not None:
        return Estimate(preview, "the gateway's price preview")
    listed = listed_price(table, key)
    return None if listed is None else Estimate(listed, "the connection's prices")


def parse_prices(value: Any) -> dict[str, Decimal]:
    """Read a table of prices: ``{"kirin_v1_6_i2v/std/5": "0.28", "kirin_v1_6_i2v": 0.98}``, US dollars.

    :param value: decoded JSON; None and "" are an empty table
    :raises ValueError: says what is wrong with it
    """
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{short_repr(value)} must map keys such as kirin_v1_6_i2v/std/5 to US dollars")
    return {str(key).strip(): as_usd(amount, f"{short_repr(str(key))}: ") for key, amount in value.items()}


def as_usd(value: Any, name: str = "") -> Decimal:
    """Return an amount of US dollars, exactly.

    :param value: a number, or a number as text; a float counts as it is printed
    :param name: goes before the value in the message
    :raises ValueError: for anything else, and for less than nothing
    """
    amount = value if isinstance(value, Decimal) and value.is_finite() else parse_decimal(value)
    if amount is None or amount < 0:
        raise ValueError(f"{name}{short_repr(value)} must be an amount of US dollars, 0 or more, such as 2.50")
    return amount


def show_usd(amount: Decimal) -> str:
    """Return an amount as people write it: without an exponent.

    :param amount: US dollars
    """
    return format(amount, "f")


def billed(cost: Decimal | None, status: str) -> Decimal | None:
    """Return what a generation costs, None as long as that is not known.

    :param cost: what the gateway states; for what failed it says "", and gives the money back
    :param status: the generation's
    """
    return Decimal(0) if cost is None and status == "failed" else cost


def billed_cost(kirin_task: KirinTask) -> Decimal | None:
    """Return what a generation costs, None as long as that is not known.

    :param kirin_task: as the gateway reports it
    """
    return billed(kirin_task.usage.cost if kirin_task.usage else None, kirin_task.status)


def parse_precharge(status: int, headers: Mapping[str, str], body: Any) -> tuple[Decimal | None, str]:
    """Read the reply to a price preview.

    :param status: the HTTP status
    :param headers: the reply's headers
    :param body: the reply's body, decoded
    :return: US dollars, or None and why there is no price: it misses with HTTP 200, and may speak in credits
    :raises KirinAPIError: where the gateway said no
    :raises KirinReplyError: where the reply is not the API's
    """
    if not 200 <= status < 300:
        raise error_from_response(status, body, headers=headers, doing="asking for the price")
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(body, Mapping) or not isinstance(data, Mapping):
        said = parse_error(body)[1] or "an empty body"
        raise KirinReplyError(f"The gateway's price preview cannot be read: {one_line(said, 120)}")
    cost, currency = parse_decimal(data.get("cost")), str(data.get("currency") or "USD")
    if str(body.get("status")).lower() != "success" or cost is None or cost < 0:
        reason = one_line(data.get("reason") or parse_error(body)[1] or "no reason given", 80)
        return None, f"the gateway's price preview knows no price ({reason})"
    if currency.upper() != "USD":
        return None, f"the gateway's price preview speaks in {one_line(currency, 20)}, not in USD"
    return cost, ""
