"""Sanitize external JSON, so that whatever stores or sends it later can encode it.

Airflow keeps values in JSON columns (PostgreSQL rejects NUL and lone surrogates), sends them between its processes as
msgpack (64-bit integers), and gives keys such as ``__classname__`` a special meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

#: Maximum levels of nesting. The API's own responses have six.
MAX_DEPTH = 16
#: Maximum number of values in one field of a response. The API's own responses have about thirty in all.
MAX_VALUES = 5_000
#: Maximum length of a string. The longest in use are signed URLs.
MAX_TEXT = 16_384
#: Maximum digits of an integer: the API has no larger ones, and parsing one of a million digits takes minutes.
MAX_DIGITS = 30

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
#: A body of up to so many bytes has fewer than MAX_VALUES values, and no longer string than MAX_TEXT.
_MAX_PLAIN = 2 * MAX_VALUES - 2
#: Printable ASCII without escape sequences. JSON allows line breaks only between values.
_PLAIN = re.compile(rb"[\t\n\r -\[\]-~]*")
_LONG_INTEGER = re.compile(rb"[:,\[\s-]\d{19}")


def sanitize(value: Any, *, hide: Callable[[str], str] | None = None) -> Any:
    """Return a JSON value in a form that can be encoded anywhere. A harmless value is returned unchanged.

    If possible, a replacement stays visible: control characters and lone surrogates become U+FFFD, an integer of more
    than 64 bits becomes a string, and a key loses its leading double underscore.

    :param value: decoded JSON
    :param hide: applied to every string and key first, to remove secrets
    """
    left = MAX_VALUES

    def text(value: str) -> str:
        if len(value) <= MAX_TEXT:
            return clean_text(hide(value) if hide else value)
        kept = value[: 2 * MAX_TEXT]
        hidden = hide(kept) if hide else kept
        # The cut may have left a part of a secret at the end.
        return clean_text(hidden if len(kept) == len(value) else hidden[:-MAX_TEXT])[:MAX_TEXT]

    def key(name: Any) -> str:
        cleaned = text(str(name))
        return cleaned.lstrip("_") if cleaned.startswith("__") else cleaned

    def clean(value: Any, depth: int, *, has_fields: bool = False) -> Any:
        nonlocal left
        left -= 1
        if isinstance(value, str):
            return text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return _clean_integer(value)
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if depth < MAX_DEPTH and isinstance(value, Mapping):
            # What is renamed must not take the place of what has that name.
            return {
                new: clean_field(new, item, depth + 1) if has_fields else clean(item, depth + 1)
                for name, item in value.items()
                if ((new := key(name)) == name or new not in value) and (left > 0 or has_fields)
            }
        if depth < MAX_DEPTH and isinstance(value, (list, tuple)):
            return [clean(item, depth + 1) for item in value if left > 0]
        return None

    def clean_field(name: str, value: Any, depth: int) -> Any:
        # A large field must not cost another one, above all the video. An older form has all of them in "data".
        nonlocal left
        left = MAX_VALUES
        return clean(value, depth, has_fields=depth == 1 and name == "data")

    return clean(value, 0, has_fields=True)


def is_plain(raw: bytes, *, hide: Callable[[str], str] | None = None) -> bool:
    """Return whether :func:`sanitize` would leave the JSON of a body as it is. Nearly all bodies are plain.

    Seen in the bytes, which costs a fraction of a walk through the values.

    :param raw: the body as received
    :param hide: as in :func:`sanitize`
    """
    return (
        raw.startswith(b"{")
        and len(raw) <= _MAX_PLAIN
        and raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH
        and _PLAIN.fullmatch(raw) is not None
        and b'"__' not in raw
        and _LONG_INTEGER.search(raw) is None
        and (hide is None or hide(text := raw.decode("ascii")) == text)
    )


def has_type(value: Any, type_hint: Any) -> bool:
    """Return whether a JSON value has a type; an integer is a float too, as JSON has one kind of number.

    :param value: decoded JSON
    :param type_hint: such as ``float | None``
    """
    return isinstance(value, type_hint) or (isinstance(value, int) and isinstance(0.0, type_hint))


def clean_text(text: str) -> str:
    """Return a string without control characters and lone surrogates.

    :param text: any string
    """
    if text.isprintable():
        return text
    return _UNSAFE.sub(lambda match: " " if match[0] in "\t\n\r" else "\ufffd", text)


def _clean_integer(value: int) -> int | str | None:
    if -(2**63) <= value < 2**63:
        return value
    return str(value) if abs(value) < 10**MAX_DIGITS else None
