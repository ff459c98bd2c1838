"""Text that is safe to show: short, on one line, without bytes, keys or signed queries."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
_LONGEST_MESSAGE = 300


def safe_url(url: str) -> str:
    """Return a URL without its query, fragment and user info: what may be signed or secret.

    :param url: any text; what is no URL comes back shortened
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "<malformed URL>"
    if not parts.scheme or not host:
        return url.partition("?")[0][:200]
    if may_hold_password(host, parts.path):
        return f"{parts.scheme}://..."
    return f"{parts.scheme}://{host}{parts.path}"[:200]


def may_hold_password(host: str, path: str) -> bool:
    """Return whether no host can be told from a password: in "user:pass/word@host" both lie where they should not.

    :param host: what stands where a URL has its host
    :param path: what follows
    """
    return ":" in host and "@" in path


def is_web_url(text: Any) -> bool:
    """Return whether a value is an http or https URL that somebody could call.

    :param text: anything
    """
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        # Reading the port judges it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def one_line(text: Any, limit: int = _LONGEST_MESSAGE) -> str:
    """Return foreign text as one printable line of bounded length, its URLs without their queries.

    :param text: whatever a gateway or an exception said
    :param limit: characters at most
    """
    # Cut first: a reply of megabytes must not be searched.
    cut = str(text)[: limit * 4]
    cleaned = "".join(char if char.isprintable() else " " for char in cut)
    cleaned = _URL.sub(lambda match: safe_url(match[0]), " ".join(cleaned.split()))
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def shorten(value: Any, limit: int = 60) -> str:
    """Return a value as users wrote it, shortened, for an error message.

    :param value: a JSON value or anything else that found its way into a payload
    :param limit: characters of a text that are shown at most
    """
    if isinstance(value, str):
        shown = one_line(value, limit)
        return repr(shown) if len(value) <= limit else f"{shown!r} ({len(value):,} characters)"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value):,} bytes>"
    if isinstance(value, int) and value.bit_length() > 10_000:
        # Python refuses to print an integer of more than 4,300 digits.
        return f"<integer of {value.bit_length():,} bits>"
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)[:limit]
    if isinstance(value, (list, tuple, dict)):
        return f"<{type(value).__name__} of {len(value)}>"
    return f"<{type(value).__name__}>"
