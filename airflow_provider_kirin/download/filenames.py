"""File names from a template: each value becomes one safe path component, so that no file leaves its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from string import Formatter

from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinDestinationError

#: The default path of a video below its folder.
DEFAULT_TEMPLATE = "{dag_id}/{run_id}/{kirin_task_id}-{index}.mp4"
PLACEHOLDERS = (
    "dag_id", "run_id", "task_id", "map_index", "kirin_task_id", "external_task_id", "model", "index",
)  # fmt: skip
_NUMBERS = frozenset({"map_index", "index"})
_NUMBER_FORMAT = re.compile(r"(0\d{1,2})?d?")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
#: Replaced without a hash, because the date in every Airflow run id has them.
_DATE_CHARACTERS = {ord(":"): "-", ord("+"): "-"}
#: For values that may differ in such a character only.
_UNIQUE: Mapping[int, str] = {}
_MAX_VALUE = 120
#: Most file systems and stores allow 255 bytes; the hidden name of an unfinished file needs some of them.
_MAX_PART = 200


def check_template(template: str, placeholders: Iterable[str] = PLACEHOLDERS) -> None:
    """Check a template.

    :param template: such as ``"{run_id}/{index:03d}.mp4"``
    :param placeholders: those that it may have
    :raises KirinDestinationError: with the rule and the remedy
    """
    render_filename(template, {name: 0 if name in _NUMBERS else name for name in placeholders})


def render_filename(template: str, values: Mapping[str, object]) -> str:
    """Return a relative path.

    :param template: with placeholders in braces
    :param values: the values of all placeholders that the template may have
    :raises KirinDestinationError: the template or the resulting path is invalid
    """
    if not isinstance(template, str):
        raise _unusable(template, "must be a string")
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise _unusable(template, f"cannot be read ({error})") from None
    path = ""
    for literal, name, format_spec, conversion in parsed:
        path += literal
        if name is not None:
            path += _value(template, name, format_spec or "", conversion, values)
    _check_path(template, path)
    return path


def _value(template: str, name: str, format_spec: str, conversion: str | None, values: Mapping[str, object]) -> str:
    if name not in values:
        raise _unusable(template, f"has an unknown placeholder {short_repr(name)}; known are {', '.join(values)}")
    if conversion or not _NUMBER_FORMAT.fullmatch(format_spec) or (format_spec and name not in _NUMBERS):
        raise _unusable(template, f"formats {name}; only map_index and index may have a width, like {{index:03d}}")
    value = values[name]
    if name in _NUMBERS and isinstance(value, int):
        return format(value, format_spec)
    return key_part(str(value)) if name == "key" else safe_part(str(value))


def key_part(key: str) -> str:
    """Return a row's key as one path component: the keys "a:b" and "a-b" must not share a file.

    :param key: of a row
    """
    return safe_part(key, plain=_UNIQUE)


def safe_part(value: str, *, plain: Mapping[int, str] = _DATE_CHARACTERS) -> str:
    """Return a value as one path component of ASCII letters, digits, ``.``, ``_`` and ``-``.

    ``:`` and ``+`` become ``-``. If anything else is replaced or truncated, a short hash of the value is appended, so
    that different values do not share a name.

    :param value: any string
    :param plain: what is replaced without a hash
    """
    translated = value.translate(plain)
    safe = _UNSAFE.sub("_", translated)[:_MAX_VALUE]
    # No "..", and no hidden file.
    if safe.startswith("."):
        safe = "_" + safe[1:]
    return safe if safe == translated and safe else with_hash(value, shown=safe)


def with_hash(value: str, *, shown: str | None = None) -> str:
    """Return a value with a short hash of it, which keeps it apart from values that look the same.

    :param value: any string
    :param shown: what is written instead of the value
    """
    return f"{value if shown is None else shown}-{sha256(value.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _check_path(template: str, path: str) -> None:
    if "\\" in path or "://" in path or not path.isprintable() or path.startswith("~"):
        raise _unusable(template, "must be a relative path with / between its parts")
    for part in path.split("/"):
        if part.strip() in ("", ".", ".."):
            raise _unusable(template, "must be a relative path that stays in its folder: no empty part, no . and no ..")
        if len(part.encode()) > _MAX_PART:
            raise _unusable(template, f"makes a name of more than {_MAX_PART} bytes")


def _unusable(template: object, rule: str) -> KirinDestinationError:
    shown = short_repr(template, 120)
    return KirinDestinationError(f'filename_template = {shown} {rule}. The default is "{DEFAULT_TEMPLATE}".')
