"""Detect the source type of an image, describe it safely for messages, and load its bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from airflow_provider_kirin.api.images.rules import KNOWN_FORMATS
from airflow_provider_kirin.api.redaction import may_hold_password
from airflow_provider_kirin.exceptions import Problem

#: Opens a storage URI for reading; the hook layer provides one that uses Airflow's connections.
OpenUri = Callable[[str], AbstractContextManager[BinaryIO]]

#: No path is longer than this (PATH_MAX), so a longer string can only be Base64, or a mistake.
_MAX_PATH: Final = 4096
_MAX_URL: Final = 8192
_MAX_SHOWN: Final = 120
#: Maximum size of an image that is decoded and hashed for a log line; larger ones are described by their length.
_MAX_HASHED: Final = 32 * 1024 * 1024
_READ_STEP: Final = 1024 * 1024

_SCHEME: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.\-]+)://")
_URL_LIKE: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.\-]+:/+)([^/?#]*)([^?#]*)(.?)", re.DOTALL)
_HOST: Final = re.compile(r"[^:\[\]\s]+(:\d*)?|\[[0-9A-Fa-f:.]+\](:\d*)?|")
_BASE64_ONLY: Final = re.compile(r"[A-Za-z0-9+/=_\-\s]*")
#: How JPEG, PNG, GIF and WebP start in Base64. The first one looks like a path.
_BASE64_STARTS: Final = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR")
_MIN_BASE64: Final = 48

#: Errors that another try cannot fix. Other storage errors (network, throttling) propagate, so that Airflow retries.
_FINAL_FILE_ERRORS: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FINAL_STORAGE_ERRORS: Final = (*_FINAL_FILE_ERRORS, AttributeError, ImportError, TypeError, ValueError)
_EXPECTED: Final = "an image is a URL, a file path, a storage URI, bytes or a Base64 string"


class SourceType(Enum):
    """The kind of source that a value is, as far as it can be detected without reading anything."""

    URL = "http(s) URL"
    STORAGE = "storage URI"
    FILE_URI = "file URI"
    PATH = "path"
    OPENABLE = "object with open()"
    BYTES = "bytes"
    DATA_URI = "data URI"
    BASE64 = "Base64 string"
    TEMPLATE = "Jinja template"
    EMPTY = "empty"
    OTHER = "anything else"


class ImageRejected(ValueError):
    """An image breaks at least one rule. The payload validation collects the problems of all fields.

    :param problems: all problems of the image
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def source_type_of(value: object) -> SourceType:
    """Detect the source type of a value, in time that does not depend on its size.

    :param value: the user's value
    """
    if isinstance(value, str):
        return _source_type_of_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return SourceType.BYTES if _size(value) else SourceType.EMPTY
    # Airflow's ObjectStoragePath is a PathLike too, but only its own open() can access the storage.
    if isinstance(value, os.PathLike) and not hasattr(value, "protocol"):
        return SourceType.PATH
    return SourceType.OPENABLE if callable(getattr(value, "open", None)) else SourceType.OTHER


def _source_type_of_text(text: str) -> SourceType:
    head = text[:_MAX_PATH]
    if not head or (len(text) <= _MAX_PATH and head.isspace()):
        return SourceType.EMPTY
    if "{{" in head or "{%" in head:
        return SourceType.TEMPLATE
    if head.lstrip()[:5].lower() == "data:":
        return SourceType.DATA_URI
    if scheme := _SCHEME.match(head[:64]):
        return {"http": SourceType.URL, "https": SourceType.URL, "file": SourceType.FILE_URI}.get(
            scheme[1].lower(), SourceType.STORAGE
        )
    if len(text) > _MAX_PATH:
        return SourceType.BASE64 if _BASE64_ONLY.fullmatch(head[:64]) else SourceType.PATH
    if len(text) >= _MIN_BASE64 and head.lstrip().startswith(_BASE64_STARTS) and _BASE64_ONLY.fullmatch(head):
        return SourceType.BASE64
    return SourceType.PATH


def _size(data: bytes | bytearray | memoryview) -> int:
    try:
        return memoryview(data).nbytes
    except ValueError:  # a memoryview that was released
        return 0


def describe(value: object) -> str:
    """Describe an image in at most 120 characters, without its bytes or secrets.

    :param value: the user's value
    :return: ``<JPEG image, 123456 bytes, sha256 1a2b3c4d>``, a path, or a URL without query and user
    """
    source_type = source_type_of(value)
    if isinstance(value, bytes | bytearray | memoryview):
        shown = _describe_bytes(value) if source_type is SourceType.BYTES else "<empty bytes>"
    elif isinstance(value, str):
        shown = _describe_text(value, source_type)
    elif source_type is SourceType.PATH:
        shown = _describe_text(os.fsdecode(value), SourceType.PATH)  # type: ignore[arg-type]
    elif source_type is SourceType.OPENABLE and hasattr(value, "protocol"):
        shown = _describe_text(str(value), SourceType.STORAGE)
    elif isinstance(value, list | tuple | set | dict):
        shown = f"<{type(value).__name__} of {len(value)}>"
    else:
        shown = "None" if value is None else f"<{type(value).__name__}>"
    return shown if len(shown) <= _MAX_SHOWN else f"{shown[:40]}...{shown[43 - _MAX_SHOWN :]}"


def address(value: object) -> str | None:
    """Return the full URI of an image for lineage, without user, query and fragment.

    :param value: the user's value
    :return: None for an inline image (bytes, Base64), and if the host cannot be distinguished from a password
    """
    # An ObjectStoragePath has a URI; other objects with open() do not.
    text = os.fsdecode(value) if source_type_of(value) is SourceType.PATH else str(value)  # type: ignore[arg-type]
    source_type = (
        source_type_of(text) if isinstance(value, str | os.PathLike) or hasattr(value, "protocol") else SourceType.OTHER
    )
    if source_type in (SourceType.URL, SourceType.STORAGE):
        return without_secrets(text)
    if source_type not in (SourceType.PATH, SourceType.FILE_URI):
        return None
    with suppress(RuntimeError, ValueError):  # no home folder; a null byte
        path = from_file_uri(text) if source_type is SourceType.FILE_URI else Path(text)
        return Path(os.path.abspath(path.expanduser())).as_uri()  # noqa: PTH100 - resolve() would follow links
    return None


def without_secrets(uri: str) -> str | None:
    """Return a URI without user, query and fragment, which may contain secrets or signatures.

    :param uri: a URI of any scheme
    :return: None if it is not a URI, or if the host cannot be distinguished from a password
    """
    link = _URL_LIKE.match(uri)
    if link is None:
        return None
    scheme, authority, path, _ = link.groups()
    host = authority.rpartition("@")[2]
    if not _HOST.fullmatch(host) or may_hold_password(host, path):
        return None
    return f"{scheme.strip()}{host}{path.rstrip()}"


def is_signed_url(value: object) -> bool:
    """Return whether a value is a URL that may contain a secret: a query, or a password before the host.

    The user part of a storage URI (``s3://conn_id@bucket``) is an Airflow connection id, which is not a secret.

    :param value: the user's value
    """
    if not isinstance(value, str) or (source_type := source_type_of(value)) not in (SourceType.URL, SourceType.STORAGE):
        return False
    link = _URL_LIKE.match(value[:_MAX_URL])
    if link is None:
        return False
    user, at, host = link[2].rpartition("@")
    if source_type is SourceType.STORAGE:
        return ":" in user
    return bool(at or "?" in value or "#" in value or may_hold_password(host, link[3]))


def _describe_bytes(data: bytes | bytearray | memoryview) -> str:
    from hashlib import sha256

    from airflow_provider_kirin.api.images.validation import detect_format

    size = _size(data)
    if size > _MAX_HASHED:
        return f"<{size} bytes>"
    whole = bytes(data)
    file_format = detect_format(whole)
    image = " image" if file_format in KNOWN_FORMATS else ""
    what = f"{file_format}{image}, " if file_format else ""
    return f"<{what}{size} bytes, sha256 {sha256(whole).hexdigest()[:8]}>"


def _describe_text(text: str, source_type: SourceType) -> str:
    if source_type is SourceType.EMPTY:
        return "<empty string>"
    if source_type in (SourceType.DATA_URI, SourceType.BASE64):
        if len(text) <= _MAX_HASHED:
            with suppress(ValueError):
                return _describe_bytes(_decode(text, source_type, _MAX_HASHED))
        return f"<string of {len(text)} characters>"
    if link := _URL_LIKE.match(text[:_MAX_URL]):
        plain = without_secrets(link[0])
        text = f"{link[1]}..." if plain is None else plain + (link[4] and "?...")
        return "".join(char if char.isprintable() else "?" for char in text)
    if len(text) > _MAX_PATH or not text.isprintable():
        return f"<string of {len(text)} characters>"
    path, question, _ = text.partition("?")
    return f"{path}?..." if question else path


def shape_problems(value: object, source_type: SourceType, field: str) -> list[Problem]:
    """Return the problems of a value itself, without reading or decoding anything.

    :param value: the user's value
    :param source_type: what :func:`source_type_of` returned for it
    :param field: the payload's field
    """
    rule = remedy = ""
    if source_type is SourceType.EMPTY:
        rule, remedy = "an image cannot be empty", f"Pass an image: {_EXPECTED}."
    elif source_type is SourceType.OTHER:
        rule, remedy = _EXPECTED, "Pass one of these."
        if isinstance(value, list | tuple | set):
            rule, remedy = "must be a single image, not several", "Pass the image itself; map the task over a list."
    elif source_type is SourceType.TEMPLATE:
        rule, remedy = "a template must be rendered before it is used", "Use it in a templated field of the operator."
    elif isinstance(value, str):
        rule, remedy = _text_problem(value, source_type)
    return [Problem(field, describe(value), rule, remedy)] if rule else []


def _text_problem(text: str, source_type: SourceType) -> tuple[str, str]:
    if source_type is SourceType.PATH and len(text) > _MAX_PATH:
        return f"{_EXPECTED}; this long string is none of these", "Encode the file with base64.b64encode(...).decode()."
    if source_type is SourceType.DATA_URI and not text[:256].partition(",")[0].rstrip().lower().endswith(";base64"):
        return "a data URI must be like data:image/png;base64,...", "Encode the image in Base64."
    if source_type in (SourceType.URL, SourceType.STORAGE):
        if len(text) > _MAX_URL:
            return f"a URL may have at most {_MAX_URL} characters", "Use a shorter URL."
        # Storage keys may contain spaces, and storage URIs may lack a host (hdfs:///teapot.png).
        if not text.isprintable() or (" " in text if source_type is SourceType.URL else text[0] == " "):
            return "a URL must have no spaces, line breaks or control characters", "Strip it, or write a space as %20."
        if source_type is SourceType.URL and not _has_host(text):
            return "a URL must have a host, like https://example.com/teapot.jpg", "Use the full URL."
    return "", ""


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return any(char.isalnum() for char in parts.hostname or "") and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def load(value: Any, source_type: SourceType, *, field: str, limit: int, open_uri: OpenUri | None) -> tuple[str, bytes]:
    """Load the bytes of an image.

    :param value: a value without :func:`shape_problems`
    :param source_type: what :func:`source_type_of` returned for it; not a URL
    :param field: the payload's field
    :param limit: maximum bytes to read; a result of this length or more means that the image is too large
    :param open_uri: opens a storage URI
    :return: the image's name for messages, and its first ``limit`` bytes or slightly more
    :raises ImageRejected: the bytes cannot be read
    """
    if source_type is SourceType.BYTES:
        view = memoryview(value)
        return "the given bytes", (view[:limit] if view.ndim == view.itemsize == 1 else view).tobytes()
    if source_type in (SourceType.DATA_URI, SourceType.BASE64):
        try:
            return "the given Base64 string", _decode(value, source_type, limit)
        except ValueError:
            rule = "a Base64 string uses A-Z a-z 0-9 + / and is padded with = to a multiple of four"
            remedy = "Encode the file with base64.b64encode(...).decode(), and do not truncate the string."
            raise ImageRejected([Problem(field, describe(value), rule, remedy)]) from None
    if source_type in (SourceType.PATH, SourceType.FILE_URI):
        return _load_file(value, source_type, field, limit)
    return _load_storage(value, source_type, field, limit, open_uri)


def _decode(text: str, source_type: SourceType, limit: int) -> bytes:
    """Decode Base64 strictly, and no more of it than ``limit`` needs.

    :raises ValueError: it is not Base64
    """
    from binascii import a2b_base64

    start = text.find(",", 0, 256) + 1 if source_type is SourceType.DATA_URI else 0
    needed = (limit + 2) // 3 * 4
    # Line breaks are a few percent of a string: twice the length leaves ample room, and is a bound.
    window = text[start : start + 2 * needed]
    for blank in "\r\n\t ":
        window = window.replace(blank, "")
    if len(window) < needed and len(text) - start > 2 * needed:
        raise ValueError("more white space than text")
    return a2b_base64(window[:needed], strict_mode=True)


def _load_file(value: Any, source_type: SourceType, field: str, limit: int) -> tuple[str, bytes]:
    rule = ""
    remedy = "Check the path and its permissions on the worker, or put the file into storage that workers share."
    try:
        path = (from_file_uri(value) if source_type is SourceType.FILE_URI else Path(os.fsdecode(value))).expanduser()
        if path.is_file():
            with path.open("rb") as file:
                # In one piece: joining chunks would take as long as encoding the image.
                return describe(path.name), _read(file, limit, step=limit)
        if not path.is_absolute():
            remedy = "It is relative to the worker's current folder, whatever that is: give an absolute path or a URI."
        path.stat()  # raises the reason if the path does not exist or is not accessible
        rule, remedy = "a path must lead to a file", "Use a regular file, not a directory, pipe or device."
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        rule = f"the file must be readable where the task runs ({reason})"
    raise ImageRejected([Problem(field, describe(value), rule, remedy)])


def from_file_uri(uri: str) -> Path:
    """Return the local path of a ``file://`` URI.

    :param uri: the URI
    :raises ValueError: it is on another host
    """
    parts = urlsplit(uri.strip())
    if parts.netloc not in ("", "localhost"):
        raise ValueError("a file of another host")
    return Path(unquote(parts.path))


def _load_storage(
    value: Any, source_type: SourceType, field: str, limit: int, open_uri: OpenUri | None
) -> tuple[str, bytes]:
    if source_type is SourceType.STORAGE and open_uri is None:
        rule, remedy = "storage URIs cannot be read here", "Read the file yourself and pass its bytes, or pass a URL."
        raise ImageRejected([Problem(field, describe(value), rule, remedy)])
    try:
        with open_uri(value) if open_uri and source_type is SourceType.STORAGE else value.open("rb") as file:
            return describe(value).rpartition("/")[2], _read(file, limit)
    except _FINAL_STORAGE_ERRORS as error:
        rule = f"the file must exist in the storage and be readable ({type(error).__name__})"
        remedy = "Check the URI, the Airflow connection of the storage, and that its provider package is installed."
        raise ImageRejected([Problem(field, describe(value), rule, remedy)]) from error


def _read(file: BinaryIO, limit: int, *, step: int = _READ_STEP) -> bytes:
    chunks: list[bytes] = []
    left = limit
    while left > 0 and (chunk := file.read(min(left, step))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
