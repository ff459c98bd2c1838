"""Names of files from a template: each value becomes one safe part of a path, so that no name leaves its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from string import Formatter

from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.exceptions import KirinDestinationError

#: Where a video goes below a folder.
DEFAULT_TEMPLATE = "{dag_id}/{run_id}/{kirin_task_id}-{index}.mp4"
PLACEHOLDERS = (
    "dag_id", "run_id", "task_id", "map_index", "kirin_task_id", "external_task_id", "model", "index",
)  # fmt: skip
_NUMBERS = frozenset({"map_index", "index"})
_NUMBER_FORMAT = re.compile(r"(0\d{1,2})?d?")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
#: Airflow's run ids hold them, in their date. Every other sign is rare enough to make the name longer.
_TIME_SIGNS = str.maketrans(":+", "--")
_MAX_VALUE = 120
#: Most file systems and stores take 255 bytes; our own hidden name for half a file needs some of them.
_MAX_PART = 200


def check_template(template: str) -> None:
    """Find what is wrong with a template.

    :param template: such as ``"{run_id}/{index:03d}.mp4"``
    :raises KirinDestinationError: with the rule and the remedy
    """
    render_filename(template, {name: 0 if name in _NUMBERS else name for name in PLACEHOLDERS})


def render_filename(template: str, values: Mapping[str, object]) -> str:
    """Return a relative path.

    :param template: with placeholders in braces
    :param values: of all :data:`PLACEHOLDERS`
    :raises KirinDestinationError: for a template, or a result, that cannot be used
    """
    if not isinstance(template, str):
        raise _unusable(template, "must be text")
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise _unusable(template, f"cannot be read ({error})") from None
    path = ""
    for literal, name, form, conversion in parsed:
        path += literal
        if name is not None:
            path += _value(template, name, form or "", conversion, values)
    _check_path(template, path)
    return path


def _value(template: str, name: str, form: str, conversion: str | None, values: Mapping[str, object]) -> str:
    if name not in PLACEHOLDERS:
        raise _unusable(template, f"has an unknown placeholder {short_repr(name)}; known are {', '.join(PLACEHOLDERS)}")
    if conversion or not _NUMBER_FORMAT.fullmatch(form) or (form and name not in _NUMBERS):
        raise _unusable(template, f"formats {name}; only map_index and index may have a width, like {{index:03d}}")
    value = values[name]
    return format(value, form) if name in _NUMBERS and isinstance(value, int) else safe_part(str(value))


def safe_part(value: str) -> str:
    """Return a value as one part of a path: letters, figures, ``.``, ``_`` and ``-``.

    ``:`` and ``+`` become ``-``. Where anything else had to be replaced or cut, a short hash of the value follows, so
    that two values never share a name.

    :param value: any text
    """
    timed = value.translate(_TIME_SIGNS)
    safe = _UNSAFE.sub("_", timed)[:_MAX_VALUE]
    # No "..", and no hidden file.
    if safe.startswith("."):
        safe = "_" + safe[1:]
    return safe if safe == timed and safe else f"{safe}-{sha256(value.encode('utf-8', 'replace')).hexdigest()[:8]}"


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
