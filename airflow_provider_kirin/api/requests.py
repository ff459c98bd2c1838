"""Build the requests of the Kirin API: base URL, method, path, headers and body of each call.

Source: doc.vtrix.ai, page kirin-v1-6-i2v (``POST /model/v1/generation``, ``GET /model/v1/generation/task/{id}``,
Bearer key). Using an external task id instead of the id in the path is how Kling does it; the gateway's page only
states that lookup by external task id is possible.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_kirin import __version__
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinConfigError, KirinIdError

DEFAULT_HOST = "https://cloud.vtrix.ai"
USER_AGENT = f"airflow-provider-kirin/{__version__}"

#: A task object has a few hundred bytes. A longer response does not come from the API and is not read.
MAX_RESPONSE_BYTES = 256 * 1024

#: The model API lives under this prefix, on every public gateway.
_PREFIX = "/model"


@dataclass(frozen=True)
class ApiRequest:
    """One request, without the key.

    :param method: ``GET`` or ``POST``
    :param url: the full URL
    :param body: the JSON body as bytes, None for a GET
    """

    method: str
    url: str
    body: bytes | None = None

    def __repr__(self) -> str:
        return f"ApiRequest({self.method} {self.url})"


def base_url(host: str | None, *, port: int | None = None, scheme: str | None = None) -> str:
    """Return the URL that ``/v1/generation`` is appended to, from the fields of a connection.

    :param host: with or without scheme, port and path; ``/model`` is added unless the path ends with it
    :param port: the connection's port, used if the host has none
    :param scheme: the connection's schema field, used if the host has none; the default is https, or http for
        loopback addresses (the emulator)
    :raises KirinConfigError: the host is not valid
    """
    text = (host or DEFAULT_HOST).strip()
    if "://" not in text:
        text = f"{scheme or ('http' if _is_loopback(text) else 'https')}://{text}"
    if "@" in text:
        # Not shown: the part before the @ may be the key.
        raise KirinConfigError(
            "The Kirin connection's Host contains a user name or password. Put the API key into API Key (password)."
        )
    try:
        parts = urlsplit(text)
        port = parts.port or port
    except ValueError:
        raise _bad_host(text, "is not a host") from None
    if parts.scheme not in ("http", "https"):
        raise _bad_host(text, f"has the scheme {short_repr(parts.scheme)}; only http and https work")
    if not parts.hostname or not text.isprintable() or any(char in text for char in " \\"):
        raise _bad_host(text, "has no host name")
    if parts.query or parts.fragment:
        raise _bad_host(text.partition("?")[0].partition("#")[0], "has a query or fragment")
    if port is not None and not 0 < port < 65536:
        raise _bad_host(text, f"has the invalid port {port}")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1/generation").removesuffix("/v1")
    if not path.endswith(_PREFIX):
        path += _PREFIX
    return f"{parts.scheme}://{name}{f':{port}' if port else ''}{path}"


def _is_loopback(text: str) -> bool:
    """Return whether a host without a scheme is this machine, where the emulator serves plain HTTP."""
    return re.match(r"(localhost|127\.0\.0\.1|\[?::1\]?)(:\d+)?(/|$)", text) is not None


def _bad_host(text: str, why: str) -> KirinConfigError:
    return KirinConfigError(
        f"The Kirin connection's Host {short_repr(text)} {why}. Use something like {DEFAULT_HOST}, or leave it empty."
    )


def create_generation(base: str, model: str, params: dict[str, Any]) -> ApiRequest:
    """Return the request that submits, and pays for, a generation.

    :param base: what :func:`base_url` returned
    :param model: the model's id
    :param params: a prepared payload's ``params``
    """
    # The keys are in the order of the API's own examples.
    body = json_body({"model": model, "input": [{"params": params}]})
    return ApiRequest("POST", f"{base}/v1/generation", body)


def precharge_generation(base: str, model: str, params: dict[str, Any]) -> ApiRequest:
    """Return the request for the price of a generation; it neither submits nor reserves anything.

    :param base: what :func:`base_url` returned
    :param model: the model's id
    :param params: a prepared payload's ``params``
    """
    paid = create_generation(base, model, params)
    return ApiRequest("POST", f"{paid.url}/precharge", paid.body)


def get_generation(base: str, any_id: str) -> ApiRequest:
    """Return the request that looks up a generation.

    :param base: what :func:`base_url` returned
    :param any_id: a Kirin task id or an external task id
    """
    return ApiRequest("GET", f"{base}/v1/generation/task/{quote(any_id, safe='')}")


def validate_task_id(any_id: Any) -> str:
    """Return a valid id of a generation.

    :param any_id: a Kirin task id or an external task id, as given by a user or a template
    :raises KirinIdError: it is not a string, is empty, or could lead to another path of the gateway
    """
    if isinstance(any_id, int) and not isinstance(any_id, bool) and any_id.bit_length() < 1024:
        # Native rendering turns an order number into an integer.
        any_id = str(any_id)
    # A template renders a missing value as "None", and a list as "['a', 'b']".
    text = any_id.strip() if isinstance(any_id, str) else ""
    is_text = text.isprintable() and "\ufffd" not in text
    if text in ("", ".", "..", "None") or text.startswith("[") or not is_text or len(text) > 512:
        native = (
            " A DAG with render_template_as_native_obj=True turns ids that look like numbers into numbers."
            if isinstance(any_id, (bool, float))
            else ""
        )
        raise KirinIdError(
            f"kirin_task_id = {short_repr(any_id)} is not the id of one Kirin generation. "
            f"Use the id that KirinSubmitOperator returned, for example kirin_task_id=submit.output.{native}"
        )
    return text


def validate_task_ids(given: Any) -> list[str]:
    """Return a list of valid ids.

    :param given: an id, or an iterable of ids: the output of a mapped task is a lazy sequence, not a list
    :raises KirinIdError: it is something else
    """
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        return [validate_task_id(given)]
    # Airflow's lazy sequence fetches its items one by one, but a slice with one query.
    return [validate_task_id(any_id) for any_id in (given[:] if isinstance(given, Sequence) else given)]


def request_headers(api_key: str, *, with_body: bool) -> dict[str, str]:
    """Return the headers of a request, the only place where the key is sent.

    :param api_key: the connection's password; empty for a host that must not see it
    :param with_body: whether the call has a JSON body
    """
    content_type = {"Content-Type": "application/json"} if with_body else {}
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return (
        content_type
        | authorization
        | {
            "Accept": "application/json",
            # Responses have a few hundred bytes, and without compression there are no decompression bombs.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
    )


def check_api_key(api_key: str | None, conn_id: str) -> str:
    """Return a valid key.

    :param api_key: the connection's password
    :param conn_id: the connection id, for messages
    :raises KirinConfigError: it is missing, or not valid in an HTTP header; the message does not show it
    """
    key = (api_key or "").strip()
    if not key:
        raise KirinConfigError(
            f"The Kirin connection {conn_id!r} has no API key. Set it as the connection's API Key (password), for "
            f"example: airflow connections add {conn_id} --conn-type kirin --conn-password YOUR_KEY"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise KirinConfigError(
            f"The API key of the Kirin connection {conn_id!r} contains characters not allowed in an HTTP header. "
            "Copy it again from your account's page."
        )
    return key


class Base64Text(str):
    """A string that is known to be Base64, because it was encoded here."""

    __slots__ = ()


def json_body(value: Any) -> bytes:
    """Return a value as compact JSON, identical to the output of :func:`json.dumps`.

    :param value: the value to encode; a :class:`Base64Text` in it is inserted without escaping
    :raises ValueError: it contains NaN or infinity
    """
    mark, images = os.urandom(16).hex(), list[str]()
    text = json.dumps(_without_images(value, mark, images), allow_nan=False, separators=(",", ":"))
    around = text.split(mark)
    return b"".join(part.encode() for part in chain.from_iterable(zip_longest(around, images, fillvalue="")))


def _without_images(value: Any, mark: str, images: list[str]) -> Any:
    """Return a value with each image replaced by a mark; the images are collected in the order of the JSON."""
    if isinstance(value, Base64Text):
        images.append(value)
        return mark
    if isinstance(value, dict):
        return {name: _without_images(item, mark, images) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_images(item, mark, images) for item in value]
    return value
