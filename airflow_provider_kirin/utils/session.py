"""The requests session of all our calls: it keeps nothing, follows nothing, and says little in the log.

Loaded where it is used: it needs requests.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable, Mapping
from http.cookiejar import DefaultCookiePolicy
from logging import LogRecord, getLogger
from typing import Any

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from airflow_provider_kirin.utils.deadline import Deadline, current_deadline

#: Where urllib3 names what is asked for, query and all: at DEBUG level, or where a reply's headers are malformed.
_TALKATIVE = ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry")
_QUERY = re.compile(r"\?\S*")


class _Thread(threading.local):
    is_calling = False


_thread = _Thread()


def _without_queries(record: LogRecord) -> bool:
    """Cut what may be signed out of a line about a call of ours; others in the process may want their queries."""
    if _thread.is_calling:
        record.msg, record.args = _QUERY.sub("?...", record.getMessage()), ()
    return True


for _name in _TALKATIVE:
    getLogger(_name).addFilter(_without_queries)


class BoundedConnection(HTTPConnection):
    """A connection that ends with the :class:`.Deadline` of the thread that uses it."""

    _socket: Any = None
    _deadline: Deadline | None = None

    # urllib3 assigns it as soon as there is one: before TLS, and before a proxy is asked for a tunnel.
    @property
    def sock(self) -> Any:
        """The socket, or None."""
        return self._socket

    @sock.setter
    def sock(self, sock: Any) -> None:
        self._socket = sock
        self._deadline = None if sock is None else self._watched(sock)

    def connect(self) -> None:
        """Connect, within what is left of the deadline."""
        deadline, timeout = current_deadline(), self.timeout
        if deadline is not None:
            if deadline.left <= 0:
                raise ConnectTimeoutError(self, "No time is left to connect.")
            self.timeout = deadline.left if timeout is None else min(timeout, deadline.left)
        try:
            super().connect()
        finally:
            self.timeout = timeout

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, over a connection that may have been opened for an earlier one.

        :param args: as urllib3 has them
        :param kwargs: as urllib3 has them
        """
        if self.sock is not None:
            self._deadline = self._watched(self.sock)
        super().request(*args, **kwargs)

    def _watched(self, sock: Any) -> Deadline | None:
        deadline = current_deadline()
        if deadline is not None and deadline is not self._deadline:
            deadline.watch(sock, self.close)
        return deadline


class DirectConnection(BoundedConnection):
    """A connection without a proxy: it looks the name up itself, and then connects by number."""

    def connect(self) -> None:
        """Connect to the first address that answers; TLS checks the name all the same."""
        name, failure = self.host, None
        if getattr(self, "server_hostname", name) is None:
            self.server_hostname = name
        try:
            for address in self.addresses(name.strip("[]"), self.port):
                self.host = address
                try:
                    return super().connect()
                except (NewConnectionError, ConnectTimeoutError) as error:
                    failure = error
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(name, self, error) from error  # type: ignore[arg-type]
        finally:
            self.host = name
        raise failure or NewConnectionError(self, f"{name} has no address.")

    def addresses(self, name: str, port: int) -> Iterable[str]:
        """Return the addresses to try, in digits.

        :param name: a host name, or an address
        :param port: to connect to
        """
        return resolve(name, port)


def resolve(name: str, port: int) -> list[str]:
    """Look a name up, as the system does.

    :param name: a host name, or an address
    :param port: to connect to
    """
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PlainAdapter(HTTPAdapter):
    """Connects with classes of ours.

    :param direct: to a host itself
    :param proxied: to a proxy
    """

    def __init__(
        self,
        direct: type[HTTPConnection] = DirectConnection,
        proxied: type[HTTPConnection] = BoundedConnection,
    ) -> None:
        self._direct, self._proxied = direct, proxied
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Prepare for hosts.

        :param args: as requests has them
        :param kwargs: as requests has them
        """
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self.poolmanager.pool_classes_by_scheme, self._direct)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return what prepares for a proxy.

        :param proxy: its URL
        :param kwargs: as requests has them
        """
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            manager.pool_classes_by_scheme = _pools(manager.pool_classes_by_scheme, self._proxied)
        return manager


def _pools(pools: Mapping[str, Any], mixin: type[HTTPConnection]) -> dict[str, Any]:
    """Return classes of connection pools, by scheme, whose connections have a mixin."""

    def with_mixin(pool: Any) -> Any:
        connection = type(pool.ConnectionCls.__name__, (mixin, pool.ConnectionCls), {})
        return type(pool.__name__, (pool,), {"ConnectionCls": connection})

    return {scheme: with_mixin(pool) for scheme, pool in pools.items()}


class IsolatedSession(Session):
    """A session without cookies and ~/.netrc that leaves a redirect, and the body of one, alone.

    :param adapter: makes the connections
    """

    def __init__(self, adapter: HTTPAdapter | None = None) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without any, requests takes credentials from ~/.netrc, and lets them replace the Bearer header.
        self.auth = lambda prepared: prepared
        adapter = adapter or PlainAdapter()
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: Response) -> None:
        """Know of none: with ``allow_redirects=False`` too, requests would read the body, unpacked and without limit.

        :param resp: a reply
        """

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send a request as any session does.

        :param request: what to send
        :param kwargs: as requests has them
        """
        _thread.is_calling = True
        try:
            return super().send(request, **kwargs)
        finally:
            _thread.is_calling = False
