"""One GET to the host of a video: SSRF-guarded, bounded in time, without credentials; follows redirects itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.redaction import one_line, redact_url
from airflow_provider_kirin.api.request_url import RequestUrl
from airflow_provider_kirin.api.requests import USER_AGENT
from airflow_provider_kirin.download import http_range
from airflow_provider_kirin.exceptions import KirinNetworkError, KirinResponseError

if TYPE_CHECKING:
    import requests

    from airflow_provider_kirin.connection import KirinConnection
    from airflow_provider_kirin.utils.deadline import Deadline

_MAX_REDIRECTS = 5
#: Bytes per read.
_CHUNK = 1024 * 1024
#: Compressed bytes per read: before version 2.6, urllib3 decompresses each read as a whole, up to a thousandfold.
_PACKED_CHUNK = 16 * 1024


class ExpiredLinkError(KirinResponseError):
    """The link is refused, or does not lead to a video. Retrying it cannot help; a lookup gives a fresh one."""


class UndecodableError(KirinNetworkError):
    """The body is not in the encoding that the host declares for it."""


@contextmanager
def get(
    session: requests.Session, url: str, connection: KirinConnection, headers: Mapping[str, str], *, unpack: bool
) -> Iterator[tuple[requests.Response, Iterator[bytes]]]:
    """Request a video; yield the response and its body as it arrives.

    :param session: from :func:`airflow_provider_kirin.download.ssrf.guarded_session`
    :param url: on any host, which is therefore sent neither the key, nor a cookie, nor a ~/.netrc entry
    :param connection: provides timeout, TLS and proxies
    :param headers: added to the default ones
    :param unpack: whether to decompress the body if the host declares that it is compressed
    :raises UndecodableError: it cannot be decompressed
    :raises KirinNetworkError: no response, or an incomplete one
    """
    import requests
    from urllib3.exceptions import DecodeError, HTTPError

    from airflow_provider_kirin.utils.deadline import Deadline, DeadlineError

    seconds = http_range.WINDOW_SECONDS + connection.timeout
    reason = f"the host is too slow: not a byte of the video in {seconds:g} seconds"
    try:
        with (
            Deadline(seconds, reason) as deadline,
            _follow(session, url, connection, headers, deadline) as response,
        ):
            if not unpack:
                response.headers.pop("Content-Encoding", None)
            yield response, _read(response, deadline)
    except (requests.RequestException, HTTPError, DeadlineError) as error:
        error_class = UndecodableError if isinstance(error, DecodeError) else KirinNetworkError
        raise error_class(f"The download of {redact_url(url)} failed: {_why(error)}") from None


def _read(response: requests.Response, deadline: Deadline) -> Iterator[bytes]:
    """Yield data as it arrives. ``iter_content`` would wait for full chunks, and lose the last one on a disconnect."""
    from airflow_provider_kirin.utils.deadline import DeadlineError

    is_packed = http_range.is_packed(response.headers)
    throughput = http_range.ThroughputGuard()
    while True:
        deadline.restart()
        began = time.monotonic()
        # Some stores compress although we ask for identity encoding.
        chunk = response.raw.read1(_PACKED_CHUNK if is_packed else _CHUNK, decode_content=is_packed)
        waited = time.monotonic() - began
        deadline.pause()
        deadline.check()
        if not chunk:
            return
        yield chunk
        if not throughput.is_enough(len(chunk), waited):
            raise DeadlineError(
                f"the host is too slow: less than {http_range.MIN_BYTES / 1000:g} kB in "
                f"{http_range.WINDOW_SECONDS:g} seconds"
            )


def check_response(response: requests.Response, url: str, *, is_partial: bool) -> None:
    """Refuse a response that is not a video from its first byte on.

    :param response: only its status and headers are read
    :param url: for messages
    :param is_partial: whether only the rest of the video was requested; then the whole may be requested instead
    :raises ExpiredLinkError: the link is refused or gone
    :raises KirinResponseError: the host reports an error, or sends something other than a video
    """
    status, content_type = response.status_code, response.headers.get("Content-Type", "")
    summary = f"The host of the video answered HTTP {status} for {redact_url(url)}"
    if http_range.is_expired(status, is_partial=is_partial):
        raise ExpiredLinkError(f"{summary}. The link has expired. Nothing is lost: a fresh one is free.")
    if not http_range.is_success(status):
        raise KirinResponseError(f"{summary}.", retryable=is_partial or http_range.is_temporary(status))
    if http_range.first_byte(status, response.headers) != 0:
        raise KirinResponseError(f"{summary} with a part of the video that was not requested.")
    if not http_range.may_be_video(content_type):
        raise ExpiredLinkError(f"{redact_url(url)} is {one_line(content_type, 60)}, not a video.", retryable=False)


def _follow(
    session: requests.Session, link: str, connection: KirinConnection, headers: Mapping[str, str], deadline: Deadline
) -> requests.Response:
    """Follow redirects here: each hop is checked, and requests would add credentials for it from ~/.netrc."""
    url = _parse(link)
    for _ in range(_MAX_REDIRECTS + 1):
        deadline.restart()
        response = _send(session, url, connection, headers)
        if not response.is_redirect:
            return response
        # The body of a redirect is not needed.
        response.close()
        url = _target(url, response.headers["Location"])
    raise KirinResponseError(f"{redact_url(link)} redirects more than {_MAX_REDIRECTS} times.", retryable=False)


def _target(url: RequestUrl, location: str) -> RequestUrl:
    try:
        return url.follow(location)
    except ValueError:
        raise KirinResponseError(
            f"{redact_url(str(url))} redirects to an unusable URL: {one_line(redact_url(location), 60)} is not an "
            "http or https URL.",
            retryable=False,
        ) from None


def _parse(link: str) -> RequestUrl:
    try:
        return RequestUrl.parse(link)
    except (TypeError, ValueError):
        raise KirinResponseError(
            f"The video's address {redact_url(link)} is not an http or https URL.", retryable=False
        ) from None


def _send(
    session: requests.Session, url: RequestUrl, connection: KirinConnection, headers: Mapping[str, str]
) -> requests.Response:
    import requests

    from airflow_provider_kirin.download.ssrf import check_literal

    check_literal(url.host, connection.private_hosts)
    fixed = {"User-Agent": USER_AGENT, "Accept": "video/*,*/*;q=0.5", "Accept-Encoding": "identity"}
    request = session.prepare_request(requests.Request("GET", url.origin, headers={**fixed, **headers}))
    # Set after prepare_request, which would rewrite it: the session sends it as it is.
    request.url = str(url)
    settings = session.merge_environment_settings(request.url, dict(connection.proxies), True, connection.verify, None)
    return session.send(request, timeout=connection.timeout, allow_redirects=False, **settings)


def _why(error: Exception) -> str:
    """Return the cause, without the "url: /path?query" that urllib3 wraps around it."""
    inner = error.args[0] if error.args else error
    return one_line(getattr(inner, "reason", None) or inner)
