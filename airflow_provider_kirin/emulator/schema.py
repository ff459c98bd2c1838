"""Parameter types: what each accepts, and its JSON Schema. Independent of the client's schema files."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow_provider_kirin.emulator.errors import ParameterError
from airflow_provider_kirin.emulator.images import check_image

#: An image: bytes that were sent as base64, or the URL to fetch it from.
Source = bytes | str


@dataclass(frozen=True)
class GivenImage:
    """An image of a request."""

    name: str
    source: Source
    any_ratio: bool


@dataclass(frozen=True)
class ParamType:
    """The type of a parameter. ``default`` is what the gateway uses if it is absent; ``type`` is JSON Schema's."""

    type: ClassVar[str] = "string"
    default: Any = field(default=None, kw_only=True)
    required: bool = field(default=False, kw_only=True)

    def check(self, name: str, value: Any) -> Any:
        """Return the value as the emulator uses it, or raise :class:`ParameterError`."""
        raise NotImplementedError

    def spec(self) -> dict[str, Any]:
        """Return the JSON Schema, as in a model contract."""
        return {"type": self.type} | ({} if self.default is None else {"default": self.default})


def required(param_type: ParamType) -> ParamType:
    """Return the same type as a required parameter."""
    return replace(param_type, required=True)


def shown(value: object) -> str:
    """Return a value for an error message: short, and without lone surrogates."""
    return str(value)[:60].encode("utf-8", "replace").decode("utf-8")


def text_of(name: str, value: Any) -> str:
    """Return the value if it is a string without lone surrogates."""
    if not isinstance(value, str):
        raise ParameterError(name, f"must be a string, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ParameterError(name, "contains a lone surrogate") from error
    return value


@dataclass(frozen=True)
class Text(ParamType):
    """A string with ``low`` to ``high`` characters."""

    low: int = 0
    high: int | None = None
    error_key: str = ""

    def check(self, name: str, value: Any) -> str:
        """Return the string."""
        text = text_of(name, value)
        if len(text) < self.low or (self.high is not None and len(text) > self.high):
            raise ParameterError(
                name, f"has {len(text)} characters, {_range(self.low, self.high)} allowed", self.error_key
            )
        return text

    def spec(self) -> dict[str, Any]:
        """Return a string with its lengths."""
        return {**super().spec(), **_stated(minLength=self.low or None, maxLength=self.high)}


@dataclass(frozen=True)
class Choice(ParamType):
    """One of these strings. A number is rejected: the pages say string, and so does Kling (section 16, 3)."""

    options: tuple[str, ...] = ()
    error_key: str = ""

    def check(self, name: str, value: Any) -> str:
        """Return the option."""
        if not isinstance(value, str) or value not in self.options:
            raise ParameterError(
                name, "must be one of " + ", ".join(f'"{option}"' for option in self.options), self.error_key
            )
        return value

    def spec(self) -> dict[str, Any]:
        """Return a string with its options."""
        return {**super().spec(), "enum": list(self.options)}


@dataclass(frozen=True)
class Number(ParamType):
    """A number within bounds."""

    type = "number"
    low: float = 0
    high: float = 1

    def check(self, name: str, value: Any) -> float:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ParameterError(name, f"must be a number from {self.low} to {self.high}")
        return float(value)

    def spec(self) -> dict[str, Any]:
        """Return a number with its bounds."""
        return {**super().spec(), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Integer(ParamType):
    """An integer."""

    type = "integer"

    def check(self, name: str, value: Any) -> int:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ParameterError(name, "must be an integer")
        return value


@dataclass(frozen=True)
class Flag(ParamType):
    """True or false."""

    type = "boolean"

    def check(self, name: str, value: Any) -> bool:
        """Return the flag."""
        if not isinstance(value, bool):
            raise ParameterError(name, "must be true or false")
        return value


@dataclass(frozen=True)
class Url(ParamType):
    """An http or https URL."""

    def check(self, name: str, value: Any) -> str:
        """Return the URL."""
        text = text_of(name, value)
        if not is_url(text):
            raise ParameterError(name, "must be an http or https URL")
        return text


@dataclass(frozen=True)
class ImageParam(ParamType):
    """An image: a URL, or base64 without a prefix. No size is documented for masks."""

    any_ratio: bool = False
    any_size: bool = False

    def check(self, name: str, value: Any) -> GivenImage:
        """Return the image. Decodes it: call it in a worker thread."""
        text = text_of(name, value)
        if not text:
            raise ParameterError(name, "is empty", "missing")
        if text.lower().startswith(("http://", "https://")):
            if not is_url(text):
                raise ParameterError(name, "the URL is invalid", "format")
            return GivenImage(name, text, self.any_ratio)
        data = _plain_base64(name, text)
        check_image(data, name, any_ratio=self.any_ratio, any_size=self.any_size)
        return GivenImage(name, data, self.any_ratio)


@dataclass(frozen=True)
class ObjectOf(ParamType):
    """An object. If ``closed``, other fields are rejected."""

    type = "object"
    fields: Mapping[str, ParamType] = field(default_factory=dict)
    closed: bool = False

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """Return the object, with each field checked."""
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
        """Return an object with its fields."""
        required_names = [name for name, param_type in self.fields.items() if param_type.required]
        return {
            **super().spec(),
            "properties": {name: param_type.spec() for name, param_type in self.fields.items()},
            **({"required": required_names} if required_names else {}),
            "additionalProperties": not self.closed,
        }


@dataclass(frozen=True)
class ListOf(ParamType):
    """An array of objects."""

    type = "array"
    item: ObjectOf = field(default_factory=ObjectOf)
    low: int = 0
    high: int | None = None

    def check(self, name: str, value: Any) -> list[dict[str, Any]]:
        """Return the list, with each item checked."""
        if not isinstance(value, list):
            raise ParameterError(name, f"must be an array, not {type(value).__name__}")
        if len(value) < self.low or (self.high is not None and len(value) > self.high):
            raise ParameterError(name, f"has {len(value)} items, {_range(self.low, self.high)} allowed")
        return [self.item.check(f"{name}.{index}", item) for index, item in enumerate(value)]

    def spec(self) -> dict[str, Any]:
        """Return an array with its items."""
        return {**super().spec(), "items": self.item.spec(), **_stated(minItems=self.low or None, maxItems=self.high)}


def _range(low: int, high: int | None) -> str:
    return f"at least {low} {'is' if low == 1 else 'are'}" if high is None else f"{low} to {high} are"


def _stated(**limits: int | None) -> dict[str, int]:
    return {keyword: limit for keyword, limit in limits.items() if limit is not None}


def is_url(text: str) -> bool:
    """Return whether this is an http(s) URL with a host and a usable port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _plain_base64(name: str, text: str) -> bytes:
    """Decode base64. A ``data:`` prefix ([V] section 16, 6), line breaks and the URL-safe alphabet are rejected."""
    if text[:5].lower() == "data:":
        raise ParameterError(name, "base64 must not have a data: prefix", "format")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ParameterError(name, "must be a URL or base64", "format") from error
