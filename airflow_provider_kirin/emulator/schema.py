"""Kinds of parameters: what each takes, and what discovery says of it. Independent of the client's schema files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_provider_kirin.emulator.errors import Wrong
from airflow_provider_kirin.emulator.image_check import check_image

Source = bytes | str
"""An image: the bytes that came as base64, or the URL to fetch them from."""


@dataclass(frozen=True)
class Given:
    """An image of a request."""

    name: str
    source: Source
    any_ratio: bool


@dataclass(frozen=True)
class Kind:
    """What a parameter may be. ``default`` is what the gateway takes where it is absent; ``type`` is JSON Schema's."""

    type: ClassVar[str] = "string"
    default: Any = field(default=None, kw_only=True)
    required: bool = field(default=False, kw_only=True)

    def check(self, name: str, value: Any) -> Any:
        """The value as the emulator goes on with it, or :class:`Wrong`."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """The JSON Schema of this kind, as a model contract has it."""
        return {"type": self.type} | ({} if self.default is None else {"default": self.default})


def needed(kind: Kind) -> Kind:
    """The same kind, required."""
    return replace(kind, required=True)


def shown(value: object) -> str:
    """A value for an error text: short, and without the half characters that no encoder takes."""
    return str(value)[:60].encode("utf-8", "replace").decode("utf-8")


def text_of(name: str, value: Any) -> str:
    """A string that can be written down."""
    if not isinstance(value, str):
        raise Wrong(name, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Wrong(name, "has half of a surrogate pair in it") from error
    return value


@dataclass(frozen=True)
class Text(Kind):
    """A string of so many characters."""

    low: int = 0
    high: int | None = None
    trouble: str = ""

    def check(self, name: str, value: Any) -> str:
        """The text."""
        text = text_of(name, value)
        if len(text) < self.low or (self.high is not None and len(text) > self.high):
            raise Wrong(name, f"has {len(text)} characters, {self.low} to {self.high} are allowed", self.trouble)
        return text

    def spec(self) -> dict[str, Any]:
        """A string with its lengths."""
        limits = {"minLength": self.low or None, "maxLength": self.high}
        return {**super().spec(), **{key: value for key, value in limits.items() if value is not None}}


@dataclass(frozen=True)
class Choice(Kind):
    """One of some strings. A number is refused: the pages say string, and so does Kling (section 16, 3)."""

    options: tuple[str, ...] = ()
    trouble: str = ""

    def check(self, name: str, value: Any) -> str:
        """The option."""
        if not isinstance(value, str) or value not in self.options:
            raise Wrong(name, "must be one of " + ", ".join(f'"{option}"' for option in self.options), self.trouble)
        return value

    def spec(self) -> dict[str, Any]:
        """A string with its options."""
        return {**super().spec(), "enum": list(self.options)}


@dataclass(frozen=True)
class Number(Kind):
    """A number within bounds."""

    type = "number"
    low: float = 0
    high: float = 1

    def check(self, name: str, value: Any) -> float:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise Wrong(name, f"must be a number from {self.low} to {self.high}")
        return float(value)

    def spec(self) -> dict[str, Any]:
        """A number with its bounds."""
        return {**super().spec(), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Integer(Kind):
    """A whole number."""

    type = "integer"

    def check(self, name: str, value: Any) -> int:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(name, "must be a whole number")
        return value


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    type = "boolean"

    def check(self, name: str, value: Any) -> bool:
        """The flag."""
        if not isinstance(value, bool):
            raise Wrong(name, "must be true or false")
        return value


@dataclass(frozen=True)
class Url(Kind):
    """An http or https URL."""

    def check(self, name: str, value: Any) -> str:
        """The URL."""
        text = text_of(name, value)
        if not is_url(text):
            raise Wrong(name, "must be an http or https URL")
        return text


@dataclass(frozen=True)
class Picture(Kind):
    """An image: a URL, or bare base64. Of masks no size is stated."""

    any_ratio: bool = False
    any_size: bool = False

    def check(self, name: str, value: Any) -> Given:
        """The image. Decodes it: call it in a worker thread."""
        text = text_of(name, value)
        if not text:
            raise Wrong(name, "is empty", "missing")
        if text.lower().startswith(("http://", "https://")):
            if not is_url(text):
                raise Wrong(name, "this URL is not usable", "format")
            return Given(name, text, self.any_ratio)
        data = _plain_base64(name, text)
        check_image(data, name, any_ratio=self.any_ratio, any_size=self.any_size)
        return Given(name, data, self.any_ratio)


@dataclass(frozen=True)
class Fields(Kind):
    """An object. ``closed`` ones take no other fields than those."""

    type = "object"
    fields: Mapping[str, Kind] = field(default_factory=dict)
    closed: bool = False

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """The object, each field checked."""
        if not isinstance(value, dict):
            raise Wrong(name, f"must be an object, not {type(value).__name__}")
        prefix = f"{name}." if name else ""
        for each in value:
            if self.closed and each not in self.fields:
                raise Wrong(f"{prefix or 'params.'}{shown(each)}", "unknown parameter")
        for each, kind in self.fields.items():
            if kind.required and each not in value:
                raise Wrong(f"{prefix}{each}", "is required", "missing" if isinstance(kind, Picture) else "")
        return {
            each: self.fields[each].check(f"{prefix}{each}", inner) if each in self.fields else inner
            for each, inner in value.items()
        }

    def spec(self) -> dict[str, Any]:
        """An object with its fields."""
        needed = [name for name, kind in self.fields.items() if kind.required]
        return {
            **super().spec(),
            "properties": {name: kind.spec() for name, kind in self.fields.items()},
            **({"required": needed} if needed else {}),
            "additionalProperties": not self.closed,
        }


@dataclass(frozen=True)
class Many(Kind):
    """A list of objects."""

    type = "array"
    item: Fields = field(default_factory=Fields)
    low: int = 0
    high: int | None = None

    def check(self, name: str, value: Any) -> list[dict[str, Any]]:
        """The list, each item checked."""
        if not isinstance(value, list):
            raise Wrong(name, f"must be a list, not {type(value).__name__}")
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            raise Wrong(name, f"has {len(value)} items, {self.low} to {self.high} are allowed")
        return [self.item.check(f"{name}.{index}", item) for index, item in enumerate(value)]

    def spec(self) -> dict[str, Any]:
        """An array with its items."""
        limits = {"minItems": self.low or None, "maxItems": self.high}
        kept = {key: value for key, value in limits.items() if value is not None}
        return {**super().spec(), "items": self.item.spec(), **kept}


def is_url(text: str) -> bool:
    """Whether this is an http(s) URL with a host and a usable port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _plain_base64(name: str, text: str) -> bytes:
    """Bare base64: a ``data:`` prefix is refused ([V] section 16, 6), and so are line breaks and URL-safe letters."""
    if text[:5].lower() == "data:":
        raise Wrong(name, "base64 must come without a data: prefix", "format")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Wrong(name, "neither a URL nor plain base64", "format") from error
