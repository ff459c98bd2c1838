"""Copy a video from where the gateway put it to where the user wants it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from airflow_provider_kirin.api.requests import USER_AGENT
from airflow_provider_kirin.api.text import is_web_url, one_line, safe_url
from airflow_provider_kirin.exceptions import KirinDestinationError, KirinError, KirinNetworkError, KirinReplyError
from airflow_provider_kirin.hooks.storage import as_path

if TYPE_CHECKING:
    import requests

_CHUNK = 1024 * 1024
_ATTEMPTS = 3
_MOST_REDIRECTS = 5


class _ExpiredLink(KirinReplyError):
    """Asking for the same link again cannot help; asking for the task afresh does."""


def download(
    url: str,
    destination: Any,
    *,
    timeout: float,
    verify: bool | str,
    proxies: Mapping[str, str],
    overwrite: bool,
) -> int:
    """Stream a video into a file, in constant memory; asking again is safe and happens up to three times.

    :param url: where the video lies; any host, so no key, no cookie and no ~/.netrc entry goes there
    :param destination: a local path or the URI of an object
    :param timeout: seconds without a byte
    :param verify: as ``requests`` takes it
    :param proxies: as ``requests`` takes them
    :param overwrite: whether a file that is there may be replaced
    :return: bytes written
    """
    _check_url(url)
    path = as_path(destination)
    if not overwrite and path.exists():
        raise KirinDestinationError(f"{path} is there already, and overwriting was not allowed (overwrite=False).")
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _place(path) as file:
                return _fetch(url, file, timeout=timeout, verify=verify, proxies=dict(proxies))
        except KirinError as error:
            if not error.retryable or isinstance(error, _ExpiredLink) or attempt == _ATTEMPTS:
                raise
            time.sleep(attempt)
    raise AssertionError("unreachable")


def _check_url(url: str) -> None:
    if not is_web_url(url):
        raise KirinReplyError(f"The video's address {safe_url(url)} is no http or https URL.", retryable=False)


def _fetch(url: str, file: BinaryIO, *, timeout: float, verify: bool | str, proxies: dict[str, str]) -> int:
    import requests

    try:
        with requests.Session() as session, _follow(session, url, timeout, verify, proxies) as reply:
            _check_reply(reply, url)
            written = 0
            for chunk in reply.iter_content(_CHUNK):
                file.write(chunk)
                written += len(chunk)
            _check_length(reply, written, url)
            return written
    except requests.RequestException as error:
        raise KirinNetworkError(f"The download of {safe_url(url)} was cut off: {one_line(error)}") from None


def _follow(
    session: requests.Session, url: str, timeout: float, verify: bool | str, proxies: dict[str, str]
) -> requests.Response:
    """Follow redirects ourselves: requests would take credentials for the next host from ~/.netrc."""
    for _ in range(_MOST_REDIRECTS + 1):
        reply = session.get(
            url,
            headers={"User-Agent": USER_AGENT, "Accept": "video/*,*/*;q=0.5", "Accept-Encoding": "identity"},
            auth=lambda prepared: prepared,
            timeout=timeout,
            verify=verify,
            proxies=proxies,
            allow_redirects=False,
            stream=True,
        )
        if not reply.is_redirect:
            return reply
        reply.close()
        url = urljoin(url, reply.headers["Location"])
        _check_url(url)
    raise KirinReplyError(f"{safe_url(url)} redirects more than {_MOST_REDIRECTS} times.", retryable=False)


def _check_reply(reply: requests.Response, url: str) -> None:
    status, kind = reply.status_code, reply.headers.get("Content-Type", "")
    said = f"The host of the video answered HTTP {status} for {safe_url(url)}."
    if status in (401, 403, 404, 410):
        raise _ExpiredLink(f"{said} The link has expired. Nothing is lost: each try of an operator gets a fresh one.")
    if status != 200:
        raise KirinReplyError(said, retryable=status >= 500 or status in (408, 429))
    if kind.startswith(("text/", "application/json")):
        raise KirinReplyError(f"{safe_url(url)} is {one_line(kind, 60)}, not a video.", retryable=False)


def _check_length(reply: requests.Response, written: int, url: str) -> None:
    announced = reply.headers.get("Content-Length", "")
    if not written or (announced.isdigit() and int(announced) != written):
        raise KirinReplyError(f"{safe_url(url)} gave {written:,} bytes where {announced or 'some'} were announced.")


@contextlib.contextmanager
def _place(path: Any) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when it is whole.

    What goes to an object store is collected on the worker's disk first: not every store can take back half an object.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            with path.open("wb") as file:
                shutil.copyfileobj(whole, file, _CHUNK)
        return
    part = path.with_name(f".{path.name}.{time.time_ns():x}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
