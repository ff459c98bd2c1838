"""The JSON body of a request, built around its images: megabytes of Base64 need no escaping, and no copy for it."""

from __future__ import annotations

import json
import os
from itertools import chain, zip_longest
from typing import Any


class Base64Text(str):
    """A text that is Base64 for sure, because it was encoded here."""

    __slots__ = ()


def json_body(value: Any) -> bytes:
    """Return a value as compact JSON, the same that :func:`json.dumps` makes of it.

    :param value: what to send; a :class:`Base64Text` anywhere in it is taken over as it is
    :raises ValueError: for a number that JSON has no word for
    """
    mark, images = os.urandom(16).hex(), list[str]()
    text = json.dumps(_without_images(value, mark, images), allow_nan=False, separators=(",", ":"))
    around = text.split(mark)
    return b"".join(part.encode() for part in chain.from_iterable(zip_longest(around, images, fillvalue="")))


def _without_images(value: Any, mark: str, images: list[str]) -> Any:
    """Return a value with a mark in the place of each image, and collect these in the order of the JSON text."""
    if isinstance(value, Base64Text):
        images.append(value)
        return mark
    if isinstance(value, dict):
        return {name: _without_images(item, mark, images) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_images(item, mark, images) for item in value]
    return value
