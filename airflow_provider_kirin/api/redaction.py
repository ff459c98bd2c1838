"""Text that is safe to show: short, on one line, without bytes, keys or signed queries."""

from __future__ import annotations

import re
from functools import partial
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

#: Three characters of a URL, also as JSON, another URL or HTML may escape them.
_SLASH, _MARK, _EQUALS = (
    rf"(?:{char}|\\{{0,4}}(?:{char}|u00{code})|%(?:25){{0,2}}{code}|&\#(?:x{code}|{int(code, 16)});)"
    for char, code in (("/", "2f"), (r"\?", "3f"), ("=", "3d"))
)
#: User and password of an address, whatever its scheme. The user of a storage URI alone is a connection id.
_USER = re.compile(
    rf"""({_SLASH}{{2}})(?:(?!{_SLASH})[^\s"'<>@:%])*(?::|%(?:25)*3a)(?:(?!{_SLASH})[^\s"'<>@])*(?:@|%(?:25)*40)""",
    re.IGNORECASE,
)
_USER_WITHOUT_SCHEME = re.compile(r"""(?<![\w/@:])[^\s/@:"'<>]{1,64}:[^\s/@"'<>]{1,64}@(?=[\w\[])""")
_QUERY = re.compile(rf"{_MARK}[^\s\"'<>]*", re.IGNORECASE)
_PARAMETER = re.compile(_EQUALS, re.IGNORECASE)
_NAMED = re.compile(
    rf"((?:sig|signature|token|secret|password|sessionid){_EQUALS})[^\s\"'<>&;]*",
    re.IGNORECASE,
)
_WEB_URL = re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE)
#: A URL, a word that is too long to be one, or a list of bytes.
_URL_OR_RUN = re.compile(
    r"(?P<url>https?://[^\s\"'<>]+)|(?P<bytes>(?:\b[\da-f]{1,3}(?:,\s?|[\s:])|\\+x[\da-f]{2}){30,})|[^\s\"'<>]{60,}",
    re.IGNORECASE,
)
#: Longer than most tokens.
_LONG_RUN = re.compile(r"[^\s\"'<>]{200,}")
#: A hash or a UUID.
_DIGEST = re.compile(
    r"(?<![\da-f])(?:[\da-f]{32,128}|[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12})(?![\da-f])", re.IGNORECASE
)
_MAX_MESSAGE = 300
_MIN_DATA = 60


def redact_url(url: str) -> str:
    """Return a URL without its query, fragment and user info: what may be signed or secret.

    :param url: any string; if it is not a URL, it is returned shortened
    """
    return _redact_url(url)[:200]


def _redact_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "<malformed URL>"
    if not parts.scheme or not host:
        return url.partition("?")[0]
    if may_hold_password(host, f"{parts.path}{parts.query}{parts.fragment}"):
        return f"{parts.scheme}://..."
    return f"{parts.scheme}://{host}{parts.path}"


def may_hold_password(host: str, path: str) -> bool:
    """Return whether host and password cannot be distinguished, as in "user:pass/word@host" and "user:password".

    :param host: the part of a URL where the host should be
    :param path: the part after it
    """
    port = host.rpartition("]")[2].partition(":")[2]
    return bool(port) and ("@" in path or not port.isdigit())


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

    URLs lose user and query, escaped ones too. Of what may be an image, which a gateway may repeat, only the length is
    shown.

    :param text: a message of a gateway or an exception
    :param limit: maximum number of characters
    """
    # Cut first: a response of megabytes must not be searched.
    whole = str(text)
    cut = whole[: limit * 4]
    cleaned = cut if cut.isprintable() else "".join(char if char.isprintable() else " " for char in cut)
    cleaned = _URL_OR_RUN.sub(partial(_describe, is_cut=len(cut) < len(whole)), " ".join(cleaned.split()))
    cleaned = _without_secrets(_USER_WITHOUT_SCHEME.sub("", cleaned))
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def redact_values(value: Any) -> Any:
    """Return a JSON value without images, and without the queries and passwords of addresses; nothing is shortened."""
    if isinstance(value, str):
        shown = _without_secrets(_WEB_URL.sub(lambda url: _redact_url(url[0]), value))
        return _LONG_RUN.sub(lambda run: _count(run[0]) if _looks_like_data(run[0]) else run[0], shown)
    if isinstance(value, dict):
        return {name: redact_values(item) for name, item in value.items()}
    return [redact_values(item) for item in value] if isinstance(value, list) else value


def _without_secrets(text: str) -> str:
    without_query = _QUERY.sub(lambda query: "" if _PARAMETER.search(query[0]) else query[0], _USER.sub(r"\1", text))
    return _NAMED.sub(r"\1***", without_query)


def _describe(match: re.Match[str], *, is_cut: bool) -> str:
    run, before = match[0], ""
    if match["url"]:
        run = redact_url(run)
        before = run[: run.find("/", run.find("://") + 3) + 1]
        run = run.removeprefix(before)
    if not (match["bytes"] or _looks_like_data(run)):
        return before + run
    if before:
        return f"{before}..."
    goes_on = is_cut and match.end() == len(match.string)
    return _count(run, "more than " if goes_on else "")


def _count(run: str, more_than: str = "") -> str:
    return f"<{more_than}{len(run):,} characters>"


def _looks_like_data(run: str) -> bool:
    """Return whether a word is an image in Base64 or the like, escaped or not, rather than an id or a path.

    In random data, every second character is of another kind than the one before it; in what people write, few are.
    """
    run = _DIGEST.sub("", run)
    kinds = [char.isupper() + 2 * char.islower() + 4 * char.isdigit() for char in run]
    changes = sum(kind and after and kind != after for kind, after in pairwise(kinds))
    return len(run) >= _MIN_DATA and changes > 0.3 * len(run)


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
