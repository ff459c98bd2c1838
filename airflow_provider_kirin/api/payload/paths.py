"""Paths inside a payload: walk it, find images by the model's schema, replace values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from airflow_provider_kirin.api.images.rules import ImageRules

#: The path to a value: ``("image_list", 0, "image")``.
FieldPath = tuple[str | int, ...]
#: A path with ``"*"`` for every item of a list.
FieldPattern = tuple[str, ...]

#: Maximum nesting. No model nests deeper than five; anything beyond this is a mistake or an attack.
MAX_DEPTH: Final = 20
#: Maximum number of values. No model takes a tenth of this, but lists that contain the same list many times may hold
#: billions.
MAX_VALUES: Final = 10_000
#: Where Kirin models usually have their images: used for fields that are not documented.
COMMON_IMAGE_FIELDS: Final[tuple[FieldPattern, ...]] = (
    ("image",),
    ("image_tail",),
    ("image_url",),
    ("image_list", "*"),
    ("image_list", "*", "image"),
    ("image_list", "*", "image_url"),
    ("static_mask",),
    ("dynamic_masks", "*", "mask"),
)
#: The largest image that a first-party client sends as Base64 (seacloud-cli: 10 MiB); no other limit is known.
DEFAULT_IMAGE_RULES: Final = ImageRules(max_bytes=10 * 1024 * 1024 + 1, min_side=1)


def format_path(path: FieldPath) -> str:
    """Format a path for messages: ``image_list.0.image``.

    :param path: the path to a value
    """
    return ".".join(map(str, path))


def parse_path(name: str) -> FieldPath:
    """Parse a path that :func:`format_path` formatted.

    :param name: the formatted path, such as ``image_list.0.image``
    """
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))


def leaves(value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield every leaf of a payload with its path; what is nested too deeply counts as a leaf.

    :param value: a payload, or a part of one
    :param path: the path of that part
    """
    if len(path) <= MAX_DEPTH and isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif len(path) <= MAX_DEPTH and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def is_larger_than(limit: int, value: Any, children: Callable[[Any], Collection[Any]] | None = None) -> bool:
    """Return whether a structure has more than ``limit`` values, without visiting more than that.

    :param limit: the maximum; a value that occurs several times counts several times
    :param value: a payload, or a part of one; it may be recursive
    :param children: returns the children of a value; by default those of mappings, lists and tuples
    """
    children, left, count = children or _children, [value], 0
    while left and count + len(left) <= limit:
        left.extend(children(left.pop()))
        count += 1
    return bool(left)


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple)) else ()


def replace_at(value: Any, changes: Mapping[FieldPath, Any]) -> Any:
    """Return a copy of a payload with some values replaced; paths that do not exist are ignored.

    :param value: a payload, or a part of one
    :param changes: the new values by path
    """
    if () in changes:
        return changes[()]
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    heads: dict[str | int, dict[FieldPath, Any]] = {}
    for path, new in changes.items():
        heads.setdefault(path[0], {})[path[1:]] = new
    if isinstance(value, Mapping):
        return {**value, **{head: replace_at(value.get(head), inner) for head, inner in heads.items()}}
    return [replace_at(item, heads[index]) if index in heads else item for index, item in enumerate(value)]


def find_matches(value: Any, pattern: FieldPattern, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield every value that matches a pattern, with its path.

    :param value: a payload, or a part of one
    :param pattern: the pattern, relative to that part
    :param path: the path of that part
    """
    if not pattern:
        yield path, value
    elif pattern[0] == "*":
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from find_matches(item, pattern[1:], (*path, index))
    elif isinstance(value, Mapping) and pattern[0] in value:
        yield from find_matches(value[pattern[0]], pattern[1:], (*path, pattern[0]))


def image_patterns(schema: Mapping[str, Any], pattern: FieldPattern = ()) -> Iterator[tuple[FieldPattern, ImageRules]]:
    """Yield the pattern and the rules of every image field (``x-image``) in a schema, at any depth.

    :param schema: a model's JSON Schema, or a part of one
    :param pattern: the pattern of that part
    """
    if "x-image" in schema:
        yield pattern, ImageRules.from_schema(schema["x-image"])
    for name, rules in schema.get("properties", {}).items():
        yield from image_patterns(rules, (*pattern, name))
    if "items" in schema:
        yield from image_patterns(schema["items"], (*pattern, "*"))
