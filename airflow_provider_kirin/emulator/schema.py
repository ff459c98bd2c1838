"""Kinds of parameters: what each takes, and what discovery says of it. Independent of the client's schema files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_provider_kirin.emulator.errors import ParameterError
from airflow_provider_kirin.emulator.images import check_image

Source = bytes | str
"""An image: the bytes that came as base64, or the URL to fetch them from."""


@dataclass(frozen=True)
class GivenImage:
    """An image of a request."""

    name: str
    source: Source
    any_ratio: bool


@dataclass(frozen=True)
class ParamType:
    """What a parameter may be. ``default`` is what the gateway takes where it is absent; ``type`` is JSON Schema's."""

    type: ClassVar[str] = "string"
    default: Any = field(default=None, kw_only=True)
    required: bool = field(default=False, kw_only=True)

    def check(self, name: str, value: Any) -> Any:
        """The value as the emulator goes on with it, or :class:`ParameterError`."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """The JSON Schema of this kind, as a model contract has it."""
        return {"type": self.type} | ({} if self.default is None else {"default": self.default})


def required(param_type: ParamType) -> ParamType:
    """The same kind, required."""
    return replace(param_type, required=True)


def shown(value: object) -> str:
    """A value for an error text: short, and without the half characters that no encoder takes."""
    return str(value)[:60].encode("utf-8", "replace").decode("utf-8")


def text_of(name: str, value: Any) -> str:
    """A string that can be written down."""
    if not isinstance(value, str):
        raise ParameterError(name, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(name, "has half of a surrogate pair in it") from error
    return value


@dataclass(frozen=True)
class Text(ParamType):
    """A string of so many characters."""

    low: int = 0
    high: int | None = None
    error_key: str = ""

    def check(self, name: str, value: Any) -> str:
        """The text."""
        text = text_of(name, value)
        if len(text) < self.low or (self.high is not None and len(text) > self.high):
            raise ParameterError(
                name, f"has {len(text)} characters, {self.low} to {self.high} are allowed", self.error_key
            )
        return text

    def spec(self) -> dict[str, Any]:
        """A string with its lengths."""
        limits = {"minLength": self.low or None, "maxLength": self.high}
        return {**super().spec(), **{key: value for key, value in limits.items() if value is not None}}


@dataclass(frozen=True)
class Choice(ParamType):
    """One of some strings. A number is refused: the pages say string, and so does Kling (section 16, 3)."""

    options: tuple[str, ...] = ()
    error_key: str = ""

    def check(self, name: str, value: Any) -> str:
        """The option."""
        if not isinstance(value, str) or value not in self.options:
            raise ParameterError(
                name, "must be one of " + ", ".join(f'"{option}"' for option in self.options), self.error_key
            )
        return value

    def spec(self) -> dict[str, Any]:
        """A string with its options."""
        return {**super().spec(), "enum": list(self.options)}


@dataclass(frozen=True)
class Number(ParamType):
    """A number within bounds."""

    type = "number"
    low: float = 0
    high: float = 1

    def check(self, name: str, value: Any) -> float:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ParameterError(name, f"must be a number from {self.low} to {self.high}")
        return float(value)

    def spec(self) -> dict[str, Any]:
        """A number with its bounds."""
        return {**super().spec(), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Integer(ParamType):
    """A whole number."""

    type = "integer"

    def check(self, name: str, value: Any) -> int:
        """The number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ParameterError(name, "must be a whole number")
        return value


@dataclass(frozen=True)
class Flag(ParamType):
    """True or false."""

    type = "boolean"

    def check(self, name: str, value: Any) -> bool:
        """The flag."""
        if not isinstance(value, bool):
            raise ParameterError(name, "must be true or false")
        return value


@dataclass(frozen=True)
class Url(ParamType):
    """An http or https URL."""

    def check(self, name: str, value: Any) -> str:
        """The URL."""
        text = text_of(name, value)
        if not is_url(text):
            raise ParameterError(name, "must be an http or https URL")
        return text


@dataclass(frozen=True)
class ImageParam(ParamType):
    """An image: a URL, or bare base64. Of masks no size is stated."""

    any_ratio: bool = False
    any_size: bool = False

    def check(self, name: str, value: Any) -> GivenImage:
        """The image. Decodes it: call it in a worker thread."""
        text = text_of(name, value)
        if not text:
            raise ParameterError(name, "is empty", "missing")
        if text.lower().startswith(("http://", "https://")):
            if not is_url(text):
                raise ParameterError(name, "this URL is not usable", "format")
            return GivenImage(name, text, self.any_ratio)
        data = _plain_base64(name, text)
        check_image(data, name, any_ratio=self.any_ratio, any_size=self.any_size)
        return GivenImage(name, data, self.any_ratio)


@dataclass(frozen=True)
class ObjectOf(ParamType):
    """An object. ``closed`` ones take no other fields than those."""

    type = "object"
    fields: Mapping[str, ParamType] = field(default_factory=dict)
    closed: bool = False

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """The object, each field checked."""
        if not isinstance(value, dict):
            raise ParameterError(name, f"must be an object, not {type(value).__name__}")
        prefix = f"{name}." if name else ""
        for each in value:
            if self.closed and each not in self.fields:
                raise ParameterError(f"{prefix or 'params.'}{shown(each)}", "unknown parameter")
        for each, param_type in self.fields.items():
            if param_type.required and each not in value:
                raise ParameterError(
                    f"{prefix}{each}", "is required", "missing" if isinstance(param_type, ImageParam) else ""
                )
        return {
            each: self.fields[each].check(f"{prefix}{each}", inner) if each in self.fields else inner
            for each, inner in value.items()
        }

    def spec(self) -> dict[str, Any]:
        """An object with its fields."""
        needed = [name for name, param_type in self.fields.items() if param_type.required]
        return {
            **super().spec(),
            "properties": {name: param_type.spec() for name, param_type in self.fields.items()},
            **({"required": needed} if needed else {}),
            "additionalProperties": not self.closed,
        }


@dataclass(frozen=True)
class ListOf(ParamType):
    """A list of objects."""

    type = "array"
    item: ObjectOf = field(default_factory=ObjectOf)
    low: int = 0
    high: int | None = None

    def check(self, name: str, value: Any) -> list[dict[str, Any]]:
        """The list, each item checked."""
        if not isinstance(value, list):
            raise ParameterError(name, f"must be a list, not {type(value).__name__}")
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            raise ParameterError(name, f"has {len(value)} items, {self.low} to {self.high} are allowed")
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
        raise ParameterError(name, "base64 must come without a data: prefix", "format")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParameterError(name, "neither a URL nor plain base64", "format") from error
