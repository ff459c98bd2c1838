"""One GET to the host of a video: guarded, without credentials, redirects followed by hand."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from airflow_provider_kirin.api.requests import USER_AGENT
from airflow_provider_kirin.api.text import is_web_url, one_line, safe_url
from airflow_provider_kirin.api.transfer import is_expired, is_gzip, may_be_video
from airflow_provider_kirin.exceptions import KirinNetworkError, KirinReplyError

if TYPE_CHECKING:
    import requests

    from airflow_provider_kirin.hooks.connection import KirinConnection

_MOST_REDIRECTS = 5
_CHUNK = 1024 * 1024
#: Tells zlib to expect gzip.
_GZIP = zlib.MAX_WBITS | 16


class ExpiredLinkError(KirinReplyError):
    """Asking for the same link again cannot help; asking for the task afresh does."""


@contextmanager
def get(
    session: requests.Session, url: str, connection: KirinConnection, headers: Mapping[str, str]
) -> Iterator[requests.Response]:
    """Ask a host for a video; the caller reads the reply's body, chunk by chunk.

    :param session: from :func:`airflow_provider_kirin.hooks.guarding.guarded_session`
    :param url: any host, so no key, no cookie and no ~/.netrc entry goes there
    :param connection: for timeout, TLS and proxies
    :param headers: besides our own
    :raises KirinNetworkError: no reply, or not all of it
    """
    import requests
    from urllib3.exceptions import HTTPError

    try:
        with _follow(session, url, connection, headers) as reply:
            yield reply
    except (requests.RequestException, HTTPError, zlib.error) as error:
        raise KirinNetworkError(f"The download of {safe_url(url)} failed: {_why(error)}") from None


def read_chunks(reply: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes in. ``iter_content`` would wait for whole chunks, and lose the last one at a cut.

    :param reply: from :func:`get`, inside of it
    """
    chunks = _read_raw(reply)
    # Asked not to, some stores pack all the same. Another packing than gzip is no MP4 by its content.
    return _unpack(chunks) if is_gzip(reply.headers) else chunks


def _read_raw(reply: requests.Response) -> Iterator[bytes]:
    while chunk := reply.raw.read1(_CHUNK, decode_content=False):
        yield chunk


def _unpack(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Unpack gzip, so much at a time, whatever it swells to: urllib3 does so from 2.6 on only."""
    unpacking = zlib.decompressobj(_GZIP)
    for chunk in chunks:
        while piece := unpacking.decompress(chunk, _CHUNK):
            yield piece
            chunk = unpacking.unconsumed_tail
        if unpacking.eof:
            return
    raise zlib.error("the packed bytes are cut")


def check_reply(reply: requests.Response, url: str) -> None:
    """Refuse a reply that is no whole video.

    :param reply: its head
    :param url: for messages
    :raises ExpiredLinkError: the link is refused or gone
    :raises KirinReplyError: trouble of the host, or something else than a video
    """
    status, kind = reply.status_code, reply.headers.get("Content-Type", "")
    said = f"The host of the video answered HTTP {status} for {safe_url(url)}."
    if is_expired(status):
        raise ExpiredLinkError(f"{said} The link has expired. Nothing is lost: a fresh one is free.")
    if status != 200:
        raise KirinReplyError(said, retryable=status >= 500 or status in (206, 408, 416, 429))
    if not may_be_video(kind):
        raise KirinReplyError(f"{safe_url(url)} is {one_line(kind, 60)}, not a video.", retryable=False)


def _follow(
    session: requests.Session, url: str, connection: KirinConnection, headers: Mapping[str, str]
) -> requests.Response:
    """Follow redirects ourselves: each hop is judged, and requests would take credentials for it from ~/.netrc."""
    fixed = {"User-Agent": USER_AGENT, "Accept": "video/*,*/*;q=0.5", "Accept-Encoding": "identity"}
    for _ in range(_MOST_REDIRECTS + 1):
        _check_url(url, connection)
        reply = session.get(
            url,
            headers={**fixed, **headers},
            timeout=connection.timeout,
            verify=connection.verify,
            proxies=dict(connection.proxies),
            allow_redirects=False,
            stream=True,
        )
        if not reply.is_redirect:
            return reply
        # Its body is nobody's business.
        reply.close()
        url = _target(url, reply.headers["Location"])
    raise KirinReplyError(f"{safe_url(url)} redirects more than {_MOST_REDIRECTS} times.", retryable=False)


def _target(url: str, location: str) -> str:
    try:
        # http.client takes a header for Latin-1. What is no ASCII is UTF-8 there, if it is text at all.
        return urljoin(url, location.encode("latin-1").decode())
    except ValueError:
        raise KirinReplyError(f"{safe_url(url)} redirects to no URL.", retryable=False) from None


def _why(error: Exception) -> str:
    """Return what went wrong, without the "url: /path?query" that urllib3 puts around it."""
    inner = error.args[0] if error.args else error
    return one_line(getattr(inner, "reason", None) or inner)


def _check_url(url: str, connection: KirinConnection) -> None:
    from airflow_provider_kirin.hooks.guarding import check_literal

    if not is_web_url(url):
        raise KirinReplyError(f"The video's address {safe_url(url)} is no http or https URL.", retryable=False)
    check_literal(urlsplit(url).hostname or "", connection.private_hosts)
