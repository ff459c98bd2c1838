"""The requests session of all our calls: no cookies, no redirects, and no signed URLs in the log.

Import it inside functions only: it imports requests.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from logging import LogRecord, getLogger
from typing import Any

from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from airflow_provider_kirin.utils.deadline import Deadline, current_deadline

#: Loggers of urllib3 that print URLs with their query: at DEBUG level, or when a response's headers are malformed.
_LOGGERS_WITH_URLS = ("urllib3.connection", "urllib3.connectionpool", "urllib3.poolmanager", "urllib3.util.retry")
_QUERY = re.compile(r"\?\S*")


class _Thread(threading.local):
    is_calling = False


_thread = _Thread()


def _without_queries(record: LogRecord) -> bool:
    """Remove queries, which may be signed, from log lines about our own calls; leave others in the process alone."""
    if _thread.is_calling:
        record.msg, record.args = _QUERY.sub("?...", record.getMessage()), ()
    return True


for _name in _LOGGERS_WITH_URLS:
    getLogger(_name).addFilter(_without_queries)


class _FinalResponse(HTTPResponse):
    """The response after all interim ones: ``http.client`` skips only 100, and would return 103 (Early Hints)."""

    def begin(self) -> None:
        """Read status and headers."""
        if (deadline := current_deadline()) is not None:
            deadline.close_on_failure(self.close)
        super().begin()

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK
        return version, HTTPStatus.CONTINUE if is_interim else status, reason


class BoundedConnection(HTTPConnection):
    """A connection that is shut down at the :class:`.Deadline` of the thread that uses it."""

    response_class = _FinalResponse
    _socket: Any = None
    _deadline: Deadline | None = None

    # urllib3 assigns it as soon as the socket is connected: before TLS, and before a proxy opens a tunnel.
    @property
    def sock(self) -> Any:
        """The socket, or None."""
        return self._socket

    @sock.setter
    def sock(self, sock: Any) -> None:
        self._socket = sock
        self._deadline = None if sock is None else self._watched(sock)

    def connect(self) -> None:
        """Connect within the time that is left until the deadline."""
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
        """Send a request, possibly over a connection that was opened for an earlier one."""
        if self.sock is not None:
            self._deadline = self._watched(self.sock)
        super().request(*args, **kwargs)

    def _watched(self, sock: Any) -> Deadline | None:
        deadline = current_deadline()
        if deadline is not None and deadline is not self._deadline:
            deadline.watch(sock, self.close)
        return deadline


class DirectConnection(BoundedConnection):
    """A connection without a proxy, which resolves the host name itself and connects to an IP address."""

    def connect(self) -> None:
        """Connect to the first address that accepts; TLS still verifies the host name."""
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
        """Return the IP addresses to try.

        :param name: a host name or an IP address
        :param port: the port to connect to
        """
        return resolve(name, port)


def resolve(name: str, port: int) -> list[str]:
    """Return the IP addresses of a host name, from the system's resolver.

    :param name: a host name or an IP address
    :param port: the port to connect to
    """
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class PlainAdapter(HTTPAdapter):
    """An adapter that connects with our own connection classes.

    :param direct: the class for connections to a host
    :param proxied: the class for connections to a proxy
    """

    def __init__(
        self,
        direct: type[HTTPConnection] = DirectConnection,
        proxied: type[HTTPConnection] = BoundedConnection,
    ) -> None:
        self._direct, self._proxied = direct, proxied
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the pool manager for direct connections."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self.poolmanager.pool_classes_by_scheme, self._direct)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pool manager for a proxy.

        :param proxy: the proxy's URL
        """
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            manager.pool_classes_by_scheme = _pools(manager.pool_classes_by_scheme, self._proxied)
        return manager


def _pools(pools: Mapping[str, Any], mixin: type[HTTPConnection]) -> dict[str, Any]:
    """Return connection pool classes, by scheme, whose connections have a mixin."""

    def with_mixin(pool: Any) -> Any:
        connection = type(pool.ConnectionCls.__name__, (mixin, pool.ConnectionCls), {})
        return type(pool.__name__, (pool,), {"ConnectionCls": connection})

    return {scheme: with_mixin(pool) for scheme, pool in pools.items()}


class IsolatedSession(Session):
    """A session without cookies and ~/.netrc that neither follows redirects nor reads their bodies.

    :param adapter: creates the connections
    """

    def __init__(self, adapter: HTTPAdapter | None = None) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without an auth, requests takes credentials from ~/.netrc, which replace the Bearer header.
        self.auth = lambda prepared: prepared
        adapter = adapter or PlainAdapter()
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: Response) -> None:
        """Return None: otherwise requests reads the body, decompressed and unbounded, even without following."""

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send a request, and mark the thread so that its log lines lose their queries."""
        _thread.is_calling = True
        try:
            return super().send(request, **kwargs)
        finally:
            _thread.is_calling = False
