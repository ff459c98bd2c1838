"""What a Kirin connection says, checked once, for the sync and the async hook."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_provider_kirin.api.requests import base_url, check_api_key
from airflow_provider_kirin.api.text import shorten
from airflow_provider_kirin.exceptions import KirinConfigError

#: Seconds to connect, and seconds without a byte, before a call counts as lost.
DEFAULT_TIMEOUT = 60.0

_EXTRAS = {"timeout", "verify", "proxies", "requests_per_second"}

log = logging.getLogger(__name__)


class AirflowConnection(Protocol):
    """The fields of an Airflow Connection that are read here."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    password: str | None


@dataclass(frozen=True)
class KirinConnection:
    """A Kirin connection, ready to use. Its repr does not show the key.

    :param base_url: where ``/v1/generation`` lives
    :param api_key: the Bearer key
    :param timeout: seconds
    :param verify: whether to check TLS certificates, or the path of a CA bundle
    :param proxies: scheme to proxy URL, as ``requests`` takes them
    :param requests_per_second: the most that one hook, or all waits of a triggerer, may ask; None for no limit
    """

    base_url: str
    api_key: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT
    verify: bool | str = True
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    requests_per_second: float | None = None

    def hide_key(self, text: str) -> str:
        """Return a text without the key, should a gateway ever repeat it.

        :param text: anything that goes to a log or an exception
        """
        # A key of three characters is no secret, and its letters are everywhere.
        return text.replace(self.api_key, "***") if len(self.api_key) > 3 else text


def missing_connection(conn_id: str, error: Exception) -> KirinConfigError:
    """Return the error for a connection that Airflow does not know.

    :param conn_id: the connection
    :param error: what Airflow says
    """
    return KirinConfigError(f"There is no Airflow connection {conn_id!r}: {error}")


def read_connection(conn: AirflowConnection, extra: Mapping[str, Any]) -> KirinConnection:
    """Read an Airflow connection.

    :param conn: the connection
    :param extra: its decoded extra (decoding it may block, so the caller does)
    :raises KirinConfigError: with what is wrong and what to do; never with the key
    """
    if unknown := sorted(set(extra) - _EXTRAS):
        log.warning("The Kirin connection %r has unknown extras: %s", conn.conn_id, ", ".join(map(shorten, unknown)))
    return KirinConnection(
        base_url=base_url(conn.host, port=conn.port, scheme=conn.schema),
        api_key=check_api_key(conn.password, conn.conn_id),
        timeout=_seconds(extra.get("timeout"), "timeout") or DEFAULT_TIMEOUT,
        verify=_verify(extra.get("verify")),
        proxies=_proxies(extra.get("proxies")),
        requests_per_second=_seconds(extra.get("requests_per_second"), "requests_per_second"),
    )


def _seconds(value: Any, name: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number < float("inf"):
        raise _bad_extra(name, value, "must be a number above 0")
    return number


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise _bad_extra("verify", value, "must be true, false or the path of a CA bundle")
    return {"true": True, "false": False}.get(value.strip().lower(), value)


def _proxies(value: Any) -> dict[str, str]:
    if not value:
        return {}
    if isinstance(value, str):
        return {"http": value, "https": value}
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        # A proxy URL may hold a password: it is not shown.
        raise _bad_extra("proxies", None, 'must map schemes to URLs, such as {"https": "http://proxy:3128"}')
    return dict(value)


def _bad_extra(name: str, value: Any, rule: str) -> KirinConfigError:
    return KirinConfigError(f"The Kirin connection's extra {name} = {shorten(value)} {rule}.")
