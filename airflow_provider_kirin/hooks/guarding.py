"""A requests session for hosts that nobody vouches for. Loaded where it is used: it needs requests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from airflow_provider_kirin.api.addresses import PrivateHosts
from airflow_provider_kirin.api.text import shorten
from airflow_provider_kirin.exceptions import KirinReplyError
from airflow_provider_kirin.hooks.plain_session import PlainSession
from airflow_provider_kirin.hooks.receiving import WatchedResponse

#: Host and port to addresses in digits.
Resolve = Callable[[str, int], list[str]]


def guarded_session(private_hosts: PrivateHosts, resolve: Resolve | None = None) -> PlainSession:
    """Return a session that connects to the open internet, and to what is allowed besides; nowhere else.

    A name is looked up once, the addresses are judged, and the connection is made to one of those: a name that means
    something else a moment later cannot slip past. A proxy looks names up itself; there only the address that a URL
    spells out can be judged, by :func:`check_literal`. A host that sends next to nothing is hung up on, either way.

    :param private_hosts: what is allowed besides
    :param resolve: looks up names; None asks the system
    """
    session = PlainSession()
    adapter = _GuardedAdapter(private_hosts, resolve or _resolve)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def check_literal(host: str, private_hosts: PrivateHosts) -> None:
    """Refuse a host that is a private address as it is written, in whatever way.

    :param host: of a URL
    :param private_hosts: what is allowed all the same
    :raises KirinReplyError: it is refused
    """
    try:
        # Full-width digits and dots are what they look like.
        address = host.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:
        raise _refused(host) from None
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


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _refused(host: str) -> KirinReplyError:
    return KirinReplyError(
        f"The video's link leads to {shorten(host)}, which is not an address of the open internet, and was not called. "
        "If your videos are served there, name the host in the Kirin connection's extra allow_private_hosts.",
        retryable=False,
    )


class _Guard(HTTPConnection):
    """Decides where urllib3's connections go; everything else about them is urllib3's."""

    private_hosts: ClassVar[PrivateHosts]
    resolve: ClassVar[Resolve]

    def _new_conn(self) -> socket.socket:
        name, failure = self.host, None
        for address in self._allowed(name):
            # Connected by number; TLS checks the name afterwards.
            self.host = address
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                self.host = name
        raise failure or _refused(name)

    def _allowed(self, name: str) -> Iterator[str]:
        try:
            addresses = type(self).resolve(name.strip("[]"), self.port or 0)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(name, self, error) from error  # type: ignore[arg-type]
        return (address for address in addresses if self.private_hosts.allow(name.strip("[]"), address))


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, private_hosts: PrivateHosts, resolve: Resolve) -> None:
        self._rules = {"private_hosts": private_hosts, "resolve": staticmethod(resolve)}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        plain = type("GuardedHTTPConnection", (_Guard,), self._rules)
        tls = type("GuardedHTTPSConnection", (_Guard, HTTPSConnection), self._rules)
        self.poolmanager.pool_classes_by_scheme = _watched(
            {
                "http": type("GuardedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
                "https": type("GuardedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
            }
        )

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            manager.pool_classes_by_scheme = _watched(manager.pool_classes_by_scheme)
        return manager


def _watched(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return classes of pools, by scheme, whose connections read replies through a watch."""
    connections = {
        scheme: type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": WatchedResponse})
        for scheme, pool in pools.items()
    }
    return {
        scheme: type(pool.__name__, (pool,), {"ConnectionCls": connections[scheme]}) for scheme, pool in pools.items()
    }
