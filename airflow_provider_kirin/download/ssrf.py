"""A requests session guarded against SSRF, for untrusted hosts. Imported lazily, because it needs requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from requests import PreparedRequest, Response

from airflow_provider_kirin.api.private_hosts import PrivateHosts, is_address
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinResponseError
from airflow_provider_kirin.utils.session import (
    BoundedConnection,
    DirectConnection,
    IsolatedSession,
    PlainAdapter,
    resolve,
)

#: Resolves host and port to numeric addresses.
Resolve = Callable[[str, int], list[str]]


class _Current(threading.local):
    target: str | None = None


_current = _Current()


def guarded_session(private_hosts: PrivateHosts, resolve: Resolve = resolve) -> IsolatedSession:
    """Return a session that connects only to public addresses and to explicitly allowed hosts.

    A name is resolved once, its addresses are checked, and the connection is made to one of these, so that DNS
    rebinding has no effect. A proxy resolves names itself; then only a literal address in the URL can be checked, by
    :func:`check_literal`. Paths and queries are sent exactly as they are in ``request.url``.

    :param private_hosts: the explicitly allowed hosts and networks
    :param resolve: resolves names
    """
    rules = {"private_hosts": private_hosts, "resolve": staticmethod(resolve)}
    return IsolatedSession(_ExactAdapter(direct=type("Guarded", (_Guarded,), rules), proxied=_Exact))


def check_literal(host: str, private_hosts: PrivateHosts) -> None:
    """Refuse a host that is itself a private address.

    :param host: the host of a :class:`.RequestUrl`
    :param private_hosts: the explicitly allowed hosts and networks
    :raises KirinResponseError: the host is refused
    """
    address = host.rstrip(".")
    if address == "localhost" or address.endswith(".localhost"):
        address = "127.0.0.1"
    elif not is_address(address):
        return
    if not private_hosts.allow(host, address):
        raise _refused(host)


def _refused(host: str) -> KirinResponseError:
    return KirinResponseError(
        f"The video's link leads to {short_repr(host)}, which is not a public internet address, so no request was "
        "sent. If your videos are served there, add the host to the Kirin connection's extra allow_private_hosts.",
        retryable=False,
    )


class _Exact(BoundedConnection):
    """Sends the link's exact target: urllib3 would normalize escapes, and the host may have signed the original."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().request(method, _current.target or url, *args, **kwargs)


class _Guarded(_Exact, DirectConnection):
    """Connects only to allowed addresses."""

    private_hosts: ClassVar[PrivateHosts]
    resolve: ClassVar[Resolve]

    def addresses(self, name: str, port: int) -> Iterable[str]:
        allowed = [address for address in type(self).resolve(name, port) if self.private_hosts.allow(name, address)]
        if not allowed:
            raise _refused(name)
        return allowed


class _ExactAdapter(PlainAdapter):
    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        url, default = request.url or "", super().request_url(request, proxies)
        _current.target = "/" + url.split("/", 3)[3] if default.startswith("/") else url
        return default

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        try:
            return super().send(request, *args, **kwargs)
        finally:
            _current.target = None
