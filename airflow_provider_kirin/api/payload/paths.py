"""Where things stand in a payload: walk it, find images by the model's schema, put values in other values' places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from airflow_provider_kirin.api.images.rules import ImageRules

#: The way to a value: ``("image_list", 0, "image")``.
Place = tuple[str | int, ...]
#: The same with ``"*"`` for each item of a list.
Pattern = tuple[str, ...]

#: No model nests deeper than five; whatever goes beyond this is a mistake, or an attack.
DEEPEST: Final = 20
#: Nor does any model take a tenth of this. Lists in which the same list stands again and again may hold billions.
MOST_VALUES: Final = 10_000
#: Where Kirin models have their images: looked at where a model is not documented.
USUAL: Final[tuple[Pattern, ...]] = (
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
LENIENT: Final = ImageRules(max_bytes=10 * 1024 * 1024 + 1, min_side=1)


def dotted(place: Place) -> str:
    """Return a place as messages name it: ``image_list.0.image``.

    :param place: the way to a value
    """
    return ".".join(map(str, place))


def place_of(name: str) -> Place:
    """Return the place that :func:`dotted` named.

    :param name: such as ``image_list.0.image``
    """
    return tuple(int(part) if part.isdecimal() else part for part in name.split("."))


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield everything in a payload that holds nothing else, and what lies too deep as it is.

    :param value: a payload, or a part of one
    :param place: where that part stands
    """
    if len(place) <= DEEPEST and isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, (*place, name))
    elif len(place) <= DEEPEST and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place, value


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


def put(value: Any, changes: Mapping[Place, Any]) -> Any:
    """Return a copy of a payload with other values in some places; a place that is not there is passed over.

    :param value: a payload, or a part of one
    :param changes: the new values
    """
    if () in changes:
        return changes[()]
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    heads: dict[str | int, dict[Place, Any]] = {}
    for place, new in changes.items():
        heads.setdefault(place[0], {})[place[1:]] = new
    if isinstance(value, Mapping):
        return {**value, **{head: put(value.get(head), inner) for head, inner in heads.items()}}
    return [put(item, heads[index]) if index in heads else item for index, item in enumerate(value)]


def matching(value: Any, pattern: Pattern, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield what stands in the places that a pattern means.

    :param value: a payload, or a part of one
    :param pattern: the rest of the way
    :param place: where that part stands
    """
    if not pattern:
        yield place, value
    elif pattern[0] == "*":
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                yield from matching(item, pattern[1:], (*place, index))
    elif isinstance(value, Mapping) and pattern[0] in value:
        yield from matching(value[pattern[0]], pattern[1:], (*place, pattern[0]))


def image_patterns(schema: Mapping[str, Any], pattern: Pattern = ()) -> Iterator[tuple[Pattern, ImageRules]]:
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
