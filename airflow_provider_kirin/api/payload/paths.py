"""Where things stand in a payload: walk it, find images by the model's schema, put values in other values' places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from airflow_provider_kirin.api.images.rules import ImageRules

#: The way to a value: ``("image_list", 0, "image")``.
FieldPath = tuple[str | int, ...]
#: The same with ``"*"`` for each item of a list.
FieldPattern = tuple[str, ...]

#: No model nests deeper than five; whatever goes beyond this is a mistake, or an attack.
MAX_DEPTH: Final = 20
#: Nor does any model take a tenth of this. Lists in which the same list stands again and again may hold billions.
MOST_VALUES: Final = 10_000
#: Where Kirin models have their images: looked at where a model is not documented.
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
#: The largest that a first-party client sends as Base64 (seacloud-cli: 10 MiB); nothing else is known.
DEFAULT_IMAGE_RULES: Final = ImageRules(max_bytes=10 * 1024 * 1024 + 1, min_side=1)


def format_path(path: FieldPath) -> str:
    """Return a place as messages name it: ``image_list.0.image``.

    :param path: the way to a value
    """
    return ".".join(map(str, path))


def parse_path(name: str) -> FieldPath:
    """Return the place that :func:`format_path` named.

    :param name: such as ``image_list.0.image``
    """
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))


def leaves(value: Any, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    """Yield everything in a payload that holds nothing else, and what lies too deep as it is.

    :param value: a payload, or a part of one
    :param path: where that part stands
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
    """Return whether a structure holds more than so many values, without looking at more than that.

    :param limit: a count, in which what stands in several places counts several times
    :param value: a payload, or a part of one; it may even hold itself
    :param children: returns what a value holds; by default that of mappings, lists and tuples
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
    """Return a copy of a payload with other values in some places; a place that is not there is passed over.

    :param value: a payload, or a part of one
    :param changes: the new values
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
    """Yield what stands in the places that a pattern means.

    :param value: a payload, or a part of one
    :param pattern: the rest of the way
    :param path: where that part stands
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
    """Yield where a schema wants images (``x-image``), at any depth, and what they must be like.

    :param schema: a model's JSON Schema, or a part of one
    :param pattern: where that part stands
    """
    if "x-image" in schema:
        yield pattern, ImageRules.from_schema(schema["x-image"])
    for name, rules in schema.get("properties", {}).items():
        yield from image_patterns(rules, (*pattern, name))
    if "items" in schema:
        yield from image_patterns(schema["items"], (*pattern, "*"))
