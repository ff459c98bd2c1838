"""The requests session of all our calls: it keeps nothing, follows nothing, and says little in the log.

Loaded where it is used: it needs requests.
"""

from __future__ import annotations

import re
import threading
from http.cookiejar import DefaultCookiePolicy
from logging import LogRecord, getLogger
from typing import Any

from requests import PreparedRequest, Response, Session

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


class PlainSession(Session):
    """A session without cookies and ~/.netrc that leaves a redirect, and the body of one, alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without any, requests takes credentials from ~/.netrc, and lets them replace the Bearer header.
        self.auth = lambda prepared: prepared

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
