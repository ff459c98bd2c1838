"""One HTTP call, sync (requests) or async (aiohttp): bounded in time and bytes, without redirects, with our errors.

The key goes into one header of the request. Nothing here retries.
"""

from __future__ import annotations

import asyncio
import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.api.requests import MAX_RESPONSE_BYTES, request_headers
from airflow_provider_kirin.api.responses import parse_body
from airflow_provider_kirin.api.sanitize import clean_text
from airflow_provider_kirin.exceptions import KirinConfigError, KirinError, KirinNetworkError, KirinResponseError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import aiohttp
    import requests

    from airflow_provider_kirin.api.requests import ApiRequest
    from airflow_provider_kirin.connection import KirinConnection

_CHUNK = 64 * 1024
#: Bytes per second: a call's time limit grows with the length of its body.
_SLOWEST_UPLOAD = 50_000

#: Longer bodies, in bytes, are decoded in a thread, so that they do not block the event loop.
_MAX_INLINE_DECODE = 8 * 1024

#: HTTP status, headers and body: decoded, sanitized, without the key.
RawResponse = tuple[int, dict[str, str], Any]


def call_sync(session: requests.Session, request: ApiRequest, connection: KirinConnection) -> RawResponse:
    """Send a request and read the response.

    :param session: from :meth:`KirinHook.get_conn`
    :param request: what to send
    :param connection: provides key, timeout, TLS and proxies
    :raises KirinNetworkError: no response, or an incomplete one
    :raises KirinResponseError: the response is too long
    """
    import requests

    from airflow_provider_kirin.utils.deadline import Deadline

    seconds = 2 * connection.timeout + len(request.body or b"") / _SLOWEST_UPLOAD
    try:
        with (
            Deadline(seconds),
            session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request_headers(connection.api_key, with_body=request.body is not None),
                timeout=connection.timeout,
                verify=connection.verify,
                proxies=dict(connection.proxies),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            body = bytearray()
            for chunk in response.iter_content(_CHUNK):
                body += chunk
                _check_length(len(body), request)
            return response.status_code, _safe_headers(response.headers, connection), _without_key(body, connection)
    except requests.RequestException as error:
        raise _from_requests(error, request, connection) from None
    except (OSError, ValueError, HTTPException) as error:
        # Errors that requests does not wrap, and the deadline. The request was sent.
        raise _network_error(connection.hide_key(str(error)), request, sent=True) from None


async def call_async(
    session: aiohttp.ClientSession,
    request: ApiRequest,
    connection: KirinConnection,
    *,
    proxy: str | None,
) -> RawResponse:
    """Send a request and read the response on an event loop; otherwise the same as :func:`call_sync`.

    :param session: from :class:`~airflow_provider_kirin.hooks.shared_session.SharedSession`
    :param request: what to send
    :param connection: provides the key
    :param proxy: from :func:`proxy_for`, which is too expensive to compute for each call
    """
    import aiohttp

    try:
        async with session.request(
            request.method,
            request.url,
            data=request.body,
            headers=request_headers(connection.api_key, with_body=request.body is not None),
            proxy=proxy,
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                _check_length(len(body), request)
            status, received = response.status, _safe_headers(response.headers, connection)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise _from_aiohttp(error, request, connection) from None
    if len(body) > _MAX_INLINE_DECODE:
        return status, received, await asyncio.to_thread(_without_key, body, connection)
    return status, received, _without_key(body, connection)


def verify_with(connection: KirinConnection) -> bool | str:
    """Return the value for TLS verification: the environment's CA bundle, unless the connection sets its own."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return bundle if bundle and connection.verify is True else connection.verify


def check_bundle(verify: bool | str) -> ssl.SSLContext | bool:
    """Return aiohttp's ``ssl`` argument for a connection's ``verify``, loading its CA bundle if it names one.

    :param verify: true, false, or the path of a bundle or of a folder of certificates
    :raises KirinConfigError: the bundle cannot be used
    """
    import ssl

    if isinstance(verify, bool):
        return verify
    where = {"capath" if Path(verify).is_dir() else "cafile": verify}
    try:
        return ssl.create_default_context(**where)  # type: ignore[arg-type]
    except OSError as error:
        raise KirinConfigError(
            f"The Kirin connection's extra verify = {short_repr(verify, 120)} cannot be used as a CA bundle: "
            f"{one_line(error)}. Give the path of a PEM file that the worker and the triggerer can read."
        ) from None


def proxy_for(connection: KirinConnection) -> str | None:
    """Return the proxy to the gateway: the connection's, or the environment's as ``requests`` reads it.

    aiohttp could read the environment itself, but would take credentials from ~/.netrc as well.
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(connection.base_url)
    if connection.proxies:
        return connection.proxies.get(parts.scheme)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _check_length(size: int, request: ApiRequest) -> None:
    if size > MAX_RESPONSE_BYTES:
        raise KirinResponseError(
            f"The response to {request.method} {redact_url(request.url)} is longer than {MAX_RESPONSE_BYTES:,} bytes."
        )


def _safe_headers(given: Mapping[str, str], connection: KirinConnection) -> dict[str, str]:
    return {clean_text(name): clean_text(connection.hide_key(value)) for name, value in given.items()}


def _without_key(body: bytearray, connection: KirinConnection) -> Any:
    """Decode and sanitize a body. If the gateway echoes the key, it is removed here."""
    return parse_body(bytes(body), hide=connection.hide_key)


def _from_requests(error: requests.RequestException, request: ApiRequest, connection: KirinConnection) -> KirinError:
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, SSLError

    reason = connection.hide_key(str(error))
    if isinstance(error, SSLError):
        return _tls_error(reason, request)
    # Not every ValueError: InvalidHeader is about the response.
    if isinstance(error, (InvalidURL, InvalidSchema, MissingSchema)):
        return _bad_address(reason)
    return _network_error(reason or type(error).__name__, request, sent=not _never_connected(error))


def _never_connected(error: requests.RequestException) -> bool:
    """Return whether the request was certainly never sent: decided by the innermost cause, not by the error's class.

    Behind a proxy, for example, a lost response is a ProxyError too.
    """
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    cause = getattr(reason, "original_error", reason)
    return isinstance(cause, (ConnectTimeoutError, NewConnectionError)) or "Tunnel connection failed" in str(cause)


def _from_aiohttp(error: Exception, request: ApiRequest, connection: KirinConnection) -> KirinError:
    import aiohttp

    reason = connection.hide_key(str(error))
    if isinstance(error, aiohttp.ClientSSLError):
        return _tls_error(reason, request)
    if isinstance(error, aiohttp.InvalidURL):
        return _bad_address(reason)
    never_connected = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return _network_error(reason or type(error).__name__, request, sent=not never_connected)


def _bad_address(reason: str) -> KirinConfigError:
    # What is quoted may be a part of a proxy's password, with a character that ends the host in a URL.
    shown = one_line(re.sub(r"'[^']*'", "'...'", reason))
    return KirinConfigError(
        f"The Kirin connection's Host or proxies cannot be used: {shown.rstrip('.')}. Special characters in a proxy's "
        "password must be percent-encoded."
    )


def _tls_error(reason: str, request: ApiRequest) -> KirinError:
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return KirinConfigError(
            f"The TLS certificate of {redact_url(request.url)} cannot be verified: {one_line(reason)} If it is signed "
            "by your own authority, put the path of its CA bundle into the connection's extra, as verify."
        )
    return _network_error(reason, request, sent=True)


def _network_error(reason: str, request: ApiRequest, *, sent: bool) -> KirinNetworkError:
    failure = "No response to" if sent else "Could not connect for"
    return KirinNetworkError(f"{failure} {request.method} {redact_url(request.url)}: {one_line(reason)}", sent=sent)
