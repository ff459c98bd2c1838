"""One HTTP call, sync (requests) or async (aiohttp): bounded in time and bytes, no redirect, errors as ours.

The key goes into one header of the request. Nothing here retries.
"""

from __future__ import annotations

import asyncio
import os
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.api.requests import request_headers
from airflow_provider_kirin.api.responses import parse_body
from airflow_provider_kirin.api.sanitize import clean_text
from airflow_provider_kirin.exceptions import KirinConfigError, KirinError, KirinNetworkError, KirinReplyError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import aiohttp
    import requests

    from airflow_provider_kirin.api.requests import ApiRequest
    from airflow_provider_kirin.connection import KirinConnection

_CHUNK = 64 * 1024
#: A call may take longer, the more it sends. Bytes a second.
_SLOWEST_UPLOAD = 50_000

#: What is longer than this is decoded in a thread, so that an event loop has others' work to do meanwhile. Bytes.
_DECODED_AT_ONCE = 8 * 1024

#: HTTP status, headers, and the body: decoded, harmless, without the key.
RawResponse = tuple[int, dict[str, str], Any]


def call_sync(session: requests.Session, request: ApiRequest, connection: KirinConnection) -> RawResponse:
    """Send a request and read the reply.

    :param session: from :meth:`KirinHook.get_conn`
    :param request: what to send
    :param connection: key, timeout, TLS and proxies
    :raises KirinNetworkError: no reply, or not all of it
    :raises KirinReplyError: a reply that is too long
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
        # What requests lets through, and the deadline. The request was sent.
        raise _network_error(connection.hide_key(str(error)), request, sent=True) from None


async def call_async(
    session: aiohttp.ClientSession,
    request: ApiRequest,
    connection: KirinConnection,
    *,
    proxy: str | None,
) -> RawResponse:
    """Send a request and read the reply, on an event loop. As :func:`call_sync` in everything else.

    :param session: from :class:`~airflow_provider_kirin.hooks.shared_session.SharedSession`
    :param request: what to send
    :param connection: the key
    :param proxy: from :func:`proxy_for`, which costs too much to be asked for each call
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
    if len(body) > _DECODED_AT_ONCE:
        return status, received, await asyncio.to_thread(_without_key, body, connection)
    return status, received, _without_key(body, connection)


def verify_with(connection: KirinConnection) -> bool | str:
    """Return what to verify with: the environment's bundle counts where the connection names none.

    :param connection: may name a bundle
    """
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return bundle if bundle and connection.verify is True else connection.verify


def check_bundle(verify: bool | str) -> ssl.SSLContext | bool:
    """Return what aiohttp takes for a connection's ``verify``, having read the CA bundle that it may name.

    :param verify: true, false, or the path of a bundle or of a folder of certificates
    :raises KirinConfigError: for a bundle that cannot be used
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

    :param connection: may name proxies
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(connection.base_url)
    if connection.proxies:
        return connection.proxies.get(parts.scheme)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _check_length(size: int, request: ApiRequest) -> None:
    if size > request.max_response_bytes:
        raise KirinReplyError(
            f"The response to {request.method} {redact_url(request.url)} is longer than "
            f"{request.max_response_bytes:,} bytes."
        )


def _safe_headers(given: Mapping[str, str], connection: KirinConnection) -> dict[str, str]:
    return {clean_text(name): clean_text(connection.hide_key(value)) for name, value in given.items()}


def _without_key(body: bytearray, connection: KirinConnection) -> Any:
    """Decode a body. Whatever a gateway repeats, the key goes no further than here, and nothing harmful either."""
    return parse_body(bytes(body), hide=connection.hide_key)


def _from_requests(error: requests.RequestException, request: ApiRequest, connection: KirinConnection) -> KirinError:
    import requests

    said = connection.hide_key(str(error))
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(said, request)
    if isinstance(error, ValueError):  # malformed URLs, schemes and proxies
        return _bad_address(said)
    return _network_error(said or type(error).__name__, request, sent=not _never_connected(error))


def _never_connected(error: requests.RequestException) -> bool:
    """Return whether it is certain that the request never left: decided by the innermost cause, not by names.

    A lost reply, for one, is a ProxyError too where there is a proxy.
    """
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    cause = getattr(reason, "original_error", reason)
    return isinstance(cause, (ConnectTimeoutError, NewConnectionError)) or "Tunnel connection failed" in str(cause)


def _from_aiohttp(error: Exception, request: ApiRequest, connection: KirinConnection) -> KirinError:
    import aiohttp

    said = connection.hide_key(str(error))
    if isinstance(error, aiohttp.ClientSSLError):
        return _tls_error(said, request)
    if isinstance(error, aiohttp.InvalidURL):
        return _bad_address(said)
    never_connected = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return _network_error(said or type(error).__name__, request, sent=not never_connected)


def _bad_address(said: str) -> KirinConfigError:
    return KirinConfigError(f"The Kirin connection's Host or proxies cannot be used: {one_line(said)}")


def _tls_error(said: str, request: ApiRequest) -> KirinError:
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return KirinConfigError(
            f"The TLS certificate of {redact_url(request.url)} cannot be checked: {one_line(said)} If it is signed by "
            "your own authority, put the path of its CA bundle into the connection's extra, as verify."
        )
    return _network_error(said, request, sent=True)


def _network_error(why: str, request: ApiRequest, *, sent: bool) -> KirinNetworkError:
    how = "No reply to" if sent else "Could not connect for"
    return KirinNetworkError(f"{how} {request.method} {redact_url(request.url)}: {one_line(why)}", sent=sent)
