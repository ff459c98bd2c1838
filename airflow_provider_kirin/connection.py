"""Parse and check an Airflow connection of type Kirin, for both the sync and the async hook."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_kirin.api.key_mask import KeyMask
from airflow_provider_kirin.api.pricing import parse_prices
from airflow_provider_kirin.api.private_hosts import PrivateHosts
from airflow_provider_kirin.api.redaction import is_web_url, one_line, redact_url, short_repr
from airflow_provider_kirin.api.requests import base_url, check_api_key
from airflow_provider_kirin.exceptions import KirinConfigError

#: Seconds to connect, and seconds without receiving a byte, before a call times out.
DEFAULT_TIMEOUT = 60.0
MAX_NAMESPACE = 100

_EXTRAS = {
    "timeout",
    "verify",
    "proxies",
    "requests_per_second",
    "allow_private_hosts",
    "prices",
    "namespace",
    "callback_base_url",
}

_JSON_TYPES = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
#: What may be a misspelt extra. Any other name may be a secret in the wrong place and is not shown.
_NAME = re.compile(r"[a-z][a-z_-]{0,29}", re.IGNORECASE)

log = logging.getLogger(__name__)


class AirflowConnection(Protocol):
    """The fields of an Airflow connection that this module reads."""

    conn_id: str
    host: str | None
    port: int | None
    schema: str | None
    password: str | None
    extra: str | None


@dataclass(frozen=True)
class KirinConnection:
    """A parsed Kirin connection. Its repr does not show the key.

    :param base_url: the URL that ``/v1/generation`` is appended to
    :param api_key: the Bearer token
    :param timeout: seconds to connect, and seconds without receiving a byte
    :param verify: whether to check TLS certificates, or the path of a CA bundle
    :param proxies: scheme to proxy URL, as ``requests`` takes them
    :param requests_per_second: rate limit of one hook, or of all waits in a triggerer; None for no limit
    :param private_hosts: hosts outside the public internet that videos may be downloaded from
    :param prices: US dollars by model, mode and duration, used if the gateway does not give a price
    :param namespace: part of every external task id; distinguishes deployments that share an account
    :param callback_base_url: where the gateway reaches Airflow's API server, without a slash at the end; empty for no
        callbacks
    :param unknown_extras: a warning about extras that have no effect; empty if there are none
    """

    base_url: str
    api_key: str = field(repr=False)
    timeout: float = DEFAULT_TIMEOUT
    verify: bool | str = True
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    requests_per_second: float | None = None
    private_hosts: PrivateHosts = field(default_factory=PrivateHosts)
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    namespace: str = ""
    callback_base_url: str = ""
    unknown_extras: str = ""

    def hide_key(self, text: str) -> str:
        """Return a string with the key masked, in case a gateway repeats it, in whatever notation.

        :param text: a string on its way to a log or an exception
        """
        return self._key_mask(text)

    @cached_property
    def account(self) -> str:
        """A hash of host and key: equal for connections that share an account, and not a secret."""
        return hashlib.sha256(f"{self.base_url}\n{self.api_key}".encode()).hexdigest()

    @cached_property
    def _key_mask(self) -> KeyMask:
        return KeyMask(self.api_key)


def missing_connection(conn_id: str, error: Exception) -> KirinConfigError:
    """Return the error for a connection that Airflow does not know.

    It is retryable: Airflow raises the same error if a secrets backend could not be reached.

    :param conn_id: the connection id
    :param error: the error that Airflow raised
    """
    return KirinConfigError(
        f"There is no Airflow connection {conn_id!r}: {one_line(error).rstrip('.')}. Create it, with the type kirin "
        "and the API key as its password, or correct the id.",
        retryable=True,
    )


def read_connection(conn: AirflowConnection, extra: Any) -> KirinConnection:
    """Parse an Airflow connection.

    :param conn: the connection
    :param extra: its decoded extra; decoding may block, so that is left to the caller
    :raises KirinConfigError: states the problem and the remedy, and never contains the key
    """
    _check_extra(conn, extra)
    if unknown := _unknown_extras(extra):
        log.warning("Connection %r: %s", conn.conn_id, unknown)
    base = base_url(conn.host, port=conn.port, scheme=conn.schema)
    return KirinConnection(
        base_url=base,
        api_key=check_api_key(conn.password, conn.conn_id),
        timeout=_seconds(extra.get("timeout"), "timeout") or DEFAULT_TIMEOUT,
        verify=_verify(extra.get("verify")),
        proxies=_proxies(extra.get("proxies")),
        requests_per_second=_seconds(extra.get("requests_per_second"), "requests_per_second"),
        private_hosts=_private_hosts(extra.get("allow_private_hosts"), urlsplit(base).hostname or ""),
        prices=_prices(extra.get("prices")),
        namespace=_namespace(extra.get("namespace")),
        callback_base_url=_callback_base_url(extra.get("callback_base_url")),
        unknown_extras=unknown,
    )


def _check_extra(conn: AirflowConnection, extra: Any) -> None:
    """Reject an extra that is not a JSON object, without showing it, as it may contain secrets.

    If it is not JSON, Airflow logs an error and returns an empty object, which would drop TLS and proxy settings.
    """
    if isinstance(extra, Mapping) and (extra or not conn.extra or _is_json(conn.extra)):
        return
    is_ = "not valid JSON" if isinstance(extra, Mapping) else f"JSON, but {_JSON_TYPES.get(type(extra), 'a number')}"
    raise KirinConfigError(
        f'The extra of the Kirin connection {conn.conn_id!r} is {is_}. Make it an object such as {{"timeout": 30}}.'
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _unknown_extras(extra: Mapping[Any, Any]) -> str:
    unknown = set(extra) - _EXTRAS
    if not unknown:
        return ""
    close = {name: difflib.get_close_matches(name.lower(), _EXTRAS, 1) for name in unknown if _NAME.fullmatch(name)}
    shown = [f"{name} (did you mean {match[0]}?)" for name, match in sorted(close.items()) if match]
    if hidden := len(unknown) - len(shown):
        shown.append(f"{hidden} whose name is not shown, as it may be a secret")
    return f"Unknown extras have no effect: {', '.join(shown)}. The extras are {', '.join(sorted(_EXTRAS))}."


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
        # Not shown: a proxy URL may contain a password.
        raise _bad_extra("proxies", None, 'must map schemes to URLs, such as {"https": "http://proxy:3128"}')
    return dict(value)


def _private_hosts(value: Any, own_host: str) -> PrivateHosts:
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), [part for part in value.split(",") if part])
    rule = 'must be true, false, or a list of hosts and networks, such as ["videos.example.com", "10.0.0.0/8"]'
    is_list = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if not (is_list or value is None or isinstance(value, bool)):
        raise _bad_extra("allow_private_hosts", value, rule)
    try:
        return PrivateHosts.of(value or False, own_host=own_host)
    except ValueError as error:
        raise _bad_extra("allow_private_hosts", str(error), rule) from None


def _prices(value: Any) -> dict[str, Decimal]:
    try:
        return parse_prices(value)
    except ValueError as error:
        raise KirinConfigError(f"The Kirin connection's extra prices: {error}.") from None


def _namespace(value: Any) -> str:
    if value is None:
        return ""
    # A connection URI or a form may turn the string into a number.
    is_text = isinstance(value, (str, int)) and not isinstance(value, bool)
    text = str(value).strip() if is_text else ""
    if not is_text or not text.isprintable() or len(text) > MAX_NAMESPACE:
        rule = f'must be a string of at most {MAX_NAMESPACE} printable characters, such as "staging"'
        raise _bad_extra("namespace", value, rule)
    return text


def _callback_base_url(value: Any) -> str:
    if value is None or value == "":
        return ""
    text = value.strip() if isinstance(value, str) else ""
    if not is_web_url(text) or any(char in text for char in "?#@"):
        rule = 'must be an http or https URL without a query, such as "https://airflow.example.com"'
        raise _bad_extra("callback_base_url", redact_url(text) if text else value, rule)
    return text.rstrip("/")


def _bad_extra(name: str, value: Any, rule: str) -> KirinConfigError:
    return KirinConfigError(f"The Kirin connection's extra {name} = {short_repr(value)} {rule}.")
