"""Text that is safe to show: short, on one line, without bytes, keys or signed queries."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import urlsplit

#: A URL, or a run of characters that may be Base64 (escaped as JSON escapes it).
_URL_OR_RUN = re.compile(r"(?P<url>https?://[^\s\"'<>\\]+)|[a-z0-9+/\\=_-]{60,}", re.IGNORECASE)
_MAX_MESSAGE = 300


def redact_url(url: str) -> str:
    """Return a URL without its query, fragment and user info: what may be signed or secret.

    :param url: any string; if it is not a URL, it is returned shortened
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
    """Return whether host and password cannot be distinguished, as in "user:pass/word@host".

    :param host: the part of a URL where the host should be
    :param path: the part after it
    """
    return ":" in host and "@" in path


def is_web_url(text: Any) -> bool:
    """Return whether a value is a well-formed http or https URL.

    :param text: anything
    """
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        # Reading the port validates it.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def one_line(text: Any, limit: int = _MAX_MESSAGE) -> str:
    """Return an external string as one printable line of bounded length, safe for a log.

    URLs lose their queries, and Base64-like runs (a gateway may repeat the image) are replaced by their length.

    :param text: a message of a gateway or an exception
    :param limit: maximum number of characters
    """
    # Cut first: a response of megabytes must not be searched.
    whole = str(text)
    cut = whole[: limit * 4]
    cleaned = cut if cut.isprintable() else "".join(char if char.isprintable() else " " for char in cut)
    cleaned = _URL_OR_RUN.sub(partial(_describe, is_cut=len(cut) < len(whole)), " ".join(cleaned.split()))
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def _describe(match: re.Match[str], *, is_cut: bool) -> str:
    run = match[0]
    if match["url"]:
        return redact_url(run)
    # A hexadecimal id or a path rarely has all three.
    looks_like_base64 = all(any(map(test, run)) for test in (str.isupper, str.islower, str.isdigit))
    if not looks_like_base64:
        return run
    goes_on = is_cut and match.end() == len(match.string)
    return f"<{'more than ' if goes_on else ''}{len(run):,} characters>"


def short_repr(value: Any, limit: int = 60) -> str:
    """Return a shortened repr of a value for an error message.

    :param value: a JSON value, or anything else in a payload
    :param limit: maximum number of characters shown of a string
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
