"""One HTTP call, sync (requests) or async (aiohttp): bounded in time and bytes, no redirect, errors as ours.

The key goes into one header of the request. Nothing here retries.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.requests import headers
from airflow_provider_kirin.api.text import one_line, safe_url
from airflow_provider_kirin.exceptions import KirinConfigError, KirinError, KirinNetworkError, KirinReplyError

if TYPE_CHECKING:
    import aiohttp
    import requests

    from airflow_provider_kirin.api.requests import ApiRequest
    from airflow_provider_kirin.hooks.connection import KirinConnection

_CHUNK = 64 * 1024

#: HTTP status, headers, body.
Reply = tuple[int, dict[str, str], bytes]


def call_sync(session: requests.Session, request: ApiRequest, connection: KirinConnection, *, limit: int) -> Reply:
    """Send a request and read the reply.

    :param session: from :meth:`KirinHook.get_conn`
    :param request: what to send
    :param connection: key, timeout, TLS and proxies
    :param limit: bytes of a reply that are read at most
    :raises KirinNetworkError: no reply, or not all of it
    :raises KirinReplyError: a reply that is too long or too slow
    """
    import requests

    try:
        with session.request(
            request.method,
            request.url,
            data=request.body,
            headers=headers(connection.api_key, with_body=request.body is not None),
            auth=_keep_headers,
            timeout=connection.timeout,
            verify=connection.verify,
            proxies=dict(connection.proxies),
            allow_redirects=False,
            stream=True,
        ) as reply:
            deadline = time.monotonic() + connection.timeout
            body = bytearray()
            for chunk in reply.iter_content(_CHUNK):
                body += chunk
                _check_bounds(len(body), limit, time.monotonic() > deadline, request)
            return reply.status_code, dict(reply.headers), _without_key(body, connection)
    except requests.RequestException as error:
        raise _from_requests(error, request) from None


async def call_async(
    session: aiohttp.ClientSession, request: ApiRequest, connection: KirinConnection, *, limit: int
) -> Reply:
    """Send a request and read the reply, on an event loop. As :func:`call_sync` in everything else.

    :param session: from :class:`~airflow_provider_kirin.hooks.sessions.SharedSession`
    :param request: what to send
    :param connection: the key
    :param limit: bytes of a reply that are read at most
    """
    import aiohttp

    try:
        async with session.request(
            request.method,
            request.url,
            data=request.body,
            headers=headers(connection.api_key, with_body=request.body is not None),
            proxy=proxy_for(request.url, connection),
            allow_redirects=False,
        ) as reply:
            body = bytearray()
            async for chunk in reply.content.iter_chunked(_CHUNK):
                body += chunk
                _check_bounds(len(body), limit, False, request)
            return reply.status, dict(reply.headers), _without_key(body, connection)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise _from_aiohttp(error, request) from None


def proxy_for(url: str, connection: KirinConnection) -> str | None:
    """Return the proxy for a URL: the connection's, or the environment's as ``requests`` reads it.

    aiohttp could read the environment itself, but would take credentials from ~/.netrc as well.

    :param url: where the request goes
    :param connection: may name proxies
    """
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if connection.proxies:
        return connection.proxies.get(parts.scheme)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _keep_headers(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stand in as authentication: without one, requests lets ~/.netrc replace the Bearer header."""
    return prepared


def _check_bounds(size: int, limit: int, is_late: bool, request: ApiRequest) -> None:
    if size > limit:
        raise KirinReplyError(f"The reply to {request.method} {safe_url(request.url)} is longer than {limit:,} bytes.")
    if is_late:
        raise KirinReplyError(f"The reply to {request.method} {safe_url(request.url)} came too slowly to be read.")


def _without_key(body: bytearray, connection: KirinConnection) -> bytes:
    """Whatever a gateway repeats, the key goes no further than here."""
    return connection.hide_key(bytes(body).decode("latin-1")).encode("latin-1")


def _from_requests(error: requests.RequestException, request: ApiRequest) -> KirinError:
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(error, request)
    if isinstance(error, ValueError):  # malformed URLs, schemes and proxies
        return KirinConfigError(f"The Kirin connection's Host or proxies cannot be used: {one_line(error)}")
    never_connected = isinstance(
        error, (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError)
    ) or isinstance(reason, NewConnectionError)
    return _network_error(error, request, sent=not never_connected)


def _from_aiohttp(error: Exception, request: ApiRequest) -> KirinError:
    import aiohttp

    if isinstance(error, aiohttp.ClientSSLError):
        return _tls_error(error, request)
    if isinstance(error, aiohttp.InvalidURL):
        return KirinConfigError(f"The Kirin connection's Host or proxies cannot be used: {one_line(error)}")
    never_connected = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
    return _network_error(error, request, sent=not never_connected)


def _tls_error(error: Exception, request: ApiRequest) -> KirinError:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return KirinConfigError(
            f"The TLS certificate of {safe_url(request.url)} cannot be checked: {one_line(error)} If it is signed by "
            "your own authority, put the path of its CA bundle into the connection's extra, as verify."
        )
    return _network_error(error, request, sent=True)


def _network_error(error: Exception, request: ApiRequest, *, sent: bool) -> KirinNetworkError:
    how = "No reply to" if sent else "Could not connect for"
    why = one_line(error) or type(error).__name__
    return KirinNetworkError(f"{how} {request.method} {safe_url(request.url)}: {why}", sent=sent)
