"""A requests session for hosts that nobody vouches for. Loaded where it is used: it needs requests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from requests import PreparedRequest, Response

from airflow_provider_kirin.api.private_hosts import PrivateHosts
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinReplyError
from airflow_provider_kirin.utils.session import (
    BoundedConnection,
    DirectConnection,
    IsolatedSession,
    PlainAdapter,
    resolve,
)

#: Host and port to addresses in digits.
Resolve = Callable[[str, int], list[str]]


class _Current(threading.local):
    target: str | None = None


_current = _Current()


def guarded_session(private_hosts: PrivateHosts, resolve: Resolve = resolve) -> IsolatedSession:
    """Return a session that connects to the open internet, and to what is allowed besides; nowhere else.

    A name is looked up once, the addresses are judged, and the connection is made to one of those: a name that means
    something else a moment later cannot slip past. A proxy looks names up itself; there only the address that a URL
    spells out can be judged, by :func:`check_literal`. Paths and queries are sent as they are in ``request.url``.

    :param private_hosts: what is allowed besides
    :param resolve: looks up names
    """
    rules = {"private_hosts": private_hosts, "resolve": staticmethod(resolve)}
    return IsolatedSession(_ExactAdapter(direct=type("Guarded", (_Guarded,), rules), proxied=_Exact))


def check_literal(host: str, private_hosts: PrivateHosts) -> None:
    """Refuse a host that is a private address as it is written, in whatever way.

    :param host: of a :class:`.RequestUrl`
    :param private_hosts: what is allowed all the same
    :raises KirinReplyError: it is refused
    """
    address = host.rstrip(".")
    if address == "localhost" or address.endswith(".localhost"):
        address = "127.0.0.1"
    elif ":" not in address:
        try:
            # Also 127.1, 0x7f000001 and 2130706433, as resolvers understand them.
            address = socket.inet_ntoa(socket.inet_aton(address))
        except OSError:
            return
    if not private_hosts.allow(host, address):
        raise _refused(host)


def _refused(host: str) -> KirinReplyError:
    return KirinReplyError(
        f"The video's link leads to {short_repr(host)}, which is not an address of the open internet, and was not "
        "called. "
        "If your videos are served there, name the host in the Kirin connection's extra allow_private_hosts.",
        retryable=False,
    )


class _Exact(BoundedConnection):
    """Asks for what the link says: urllib3 would write escapes its own way, and a host may have signed the original."""

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        super().request(method, _current.target or url, *args, **kwargs)


class _Guarded(_Exact, DirectConnection):
    """Decides where connections go."""

    private_hosts: ClassVar[PrivateHosts]
    resolve: ClassVar[Resolve]

    def addresses(self, name: str, port: int) -> Iterable[str]:
        allowed = [address for address in type(self).resolve(name, port) if self.private_hosts.allow(name, address)]
        if not allowed:
            raise _refused(name)
        return allowed


class _ExactAdapter(PlainAdapter):
    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        url, usual = request.url or "", super().request_url(request, proxies)
        _current.target = "/" + url.split("/", 3)[3] if usual.startswith("/") else url
        return usual

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        try:
            return super().send(request, *args, **kwargs)
        finally:
            _current.target = None
