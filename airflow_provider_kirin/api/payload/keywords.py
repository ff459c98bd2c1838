"""Custom JSON Schema keywords for rules of Kirin models that JSON Schema cannot express.

``x-url``: an http or https URL. ``x-nonZero: n``: exactly n numbers of an object are not zero.
``x-count: {of, max}``: the lists in ``of`` have at most ``max`` items in total. ``x-sum: {list, of, equals}``: a field
summed over the items of a list equals another field. Values of another type are left to ``type``; a sum that contains a
template is not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.redaction import is_web_url

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError


def keywords() -> dict[str, Callable[..., Iterator[ValidationError]]]:
    """Return the implementation of each keyword for a jsonschema validator."""
    checks: dict[str, Callable[[Any, Any], bool]] = {
        "x-url": _is_url,
        "x-nonZero": _has_non_zeros,
        "x-count": _is_within_count,
        "x-sum": _adds_up,
    }
    return {name: _as_keyword(name, check) for name, check in checks.items()}


def _as_keyword(name: str, check: Callable[[Any, Any], bool]) -> Callable[..., Iterator[ValidationError]]:
    def keyword(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        from jsonschema.exceptions import ValidationError

        if not check(wanted, instance):
            yield ValidationError(f"breaks {name}")

    return keyword


def _is_url(wanted: bool, instance: Any) -> bool:
    return not isinstance(instance, str) or is_web_url(instance)


def _has_non_zeros(wanted: int, instance: Any) -> bool:
    if not isinstance(instance, dict) or not all(isinstance(value, (int, float)) for value in instance.values()):
        return True
    return len([value for value in instance.values() if value != 0]) == wanted


def _is_within_count(wanted: dict[str, Any], instance: dict[str, Any]) -> bool:
    lists = [instance.get(name) for name in wanted["of"]]
    return sum(len(items) for items in lists if isinstance(items, list)) <= int(wanted["max"])


def _adds_up(wanted: dict[str, str], instance: dict[str, Any]) -> bool:
    items, total = instance.get(wanted["list"]), instance.get(wanted["equals"])
    if not isinstance(items, list):
        return True
    parts = [item.get(wanted["of"]) if isinstance(item, dict) else None for item in items]
    # A missing or malformed part is reported on its own.
    if not all(isinstance(part, str) and part.isdecimal() for part in [*parts, total]):
        return True
    return sum(int(str(part)) for part in parts) == int(str(total))
