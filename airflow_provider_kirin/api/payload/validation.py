"""Validate a payload against its JSON Schema, and explain each problem with field, value, rule and remedy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.models import all_parameters
from airflow_provider_kirin.api.payload.keywords import keywords
from airflow_provider_kirin.api.payload.paths import leaves
from airflow_provider_kirin.api.redaction import redact_url, short_repr
from airflow_provider_kirin.exceptions import Problem

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

#: How the remedy for a misspelled name begins.
DID_YOU_MEAN = "Did you mean"
#: The rule that a parameter breaks if the model does not have it.
NOT_A_PARAMETER = "is not a parameter of this model"
#: The same if the model is only partly documented, and the name looks like a misspelling.
NOT_A_KNOWN_PARAMETER = "is not a known parameter of this model"
_TYPE_NAMES = {
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}

#: How alike two names are of which one is a misspelling of the other: "promt" and "duratoin" are, "image_title" is not.
_TYPO = 0.85


def _nothing(value: Any) -> bool:
    return False


def validate(
    instance: dict[str, Any], schema: dict[str, Any], *, skip: Callable[[Any], bool] = _nothing
) -> list[Problem]:
    """Return all violations of a schema.

    :param instance: the payload, with images replaced by empty strings
    :param schema: a model's JSON Schema; it is not modified
    :param skip: returns whether a value cannot be checked yet (a template)
    """
    problems: list[Problem] = []
    if skip is not _nothing:
        schema = _without_unresolved_rules(schema, instance, skip)
    for error in _validator_class()(schema).iter_errors(instance):
        if not skip(error.instance):
            problems.extend(problem for problem in _problems(error, skip) if problem not in problems)
    return problems


def find_misspelled(given: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> Iterator[Problem]:
    """Yield a problem for each name that a partly documented object may know, but that is more likely a typo.

    It spells a known name in another way, or resembles one that is not given, and is not a parameter of another model.

    :param given: the payload, converted, without the defaults
    :param schema: a model's JSON Schema, or that of an object in it
    :param path: of the object, with a dot at its end
    """
    known = schema.get("properties", {})
    unknown = [name for name in given if name not in known and isinstance(name, str)]
    # Where all is documented, any other name is refused anyway. The other models' schemas are read only if needed.
    if unknown and known and schema.get("additionalProperties", True):
        missing = tuple(name for name in known if name not in given)
        for name in sorted(set(unknown) - all_parameters()):
            if near := _misspelled(name, missing, tuple(known)):
                hint = (
                    f"{DID_YOU_MEAN} {near!r}?"
                    if near in missing
                    else f"{near!r} is given, too: leave one of them out."
                )
                remedy = f"{hint} To send it as it is, set allow_unknown_model=True"
                yield Problem(f"{path}{name}"[:80], "(not shown)", NOT_A_KNOWN_PARAMETER, remedy)
    for name in given.keys() & known.keys():
        value, rules = given[name], known[name]
        if isinstance(value, Mapping):
            yield from find_misspelled(value, rules, f"{path}{name}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from find_misspelled(item, rules.get("items", {}), f"{path}{name}.{index}.")


@functools.lru_cache
def _misspelled(name: str, missing: tuple[str, ...], known: tuple[str, ...]) -> str | None:
    """Return the parameter that a name is a misspelling of. The rows of a table repeat their names."""
    import difflib

    spelled = {_letters(other): other for other in known}
    if same := spelled.get(_letters(name)):
        return same
    near = difflib.get_close_matches(_letters(name), map(_letters, missing), n=1, cutoff=_TYPO)
    return spelled[near[0]] if near else None


def _letters(name: str) -> str:
    """Return a name without what differs between the spellings ``negative_prompt``, ``negativePrompt`` and others."""
    return "".join(filter(str.isalnum, name[:100].casefold()))


def _without_unresolved_rules(
    schema: dict[str, Any], instance: dict[str, Any], skip: Callable[[Any], bool]
) -> dict[str, Any]:
    """Drop the cross-field rules that involve a field which cannot be checked yet, as a template may satisfy them."""
    later = {name for name, value in instance.items() if any(skip(leaf) for _, leaf in leaves(value))}
    rules = schema.get("allOf", ())
    if not later or not rules:
        return schema
    return {**schema, "allOf": [rule for rule in rules if not later & set(_names(rule))]}


def _names(rule: Any) -> Iterator[str]:
    """Yield every string in a rule: field names, and others that do no harm."""
    if isinstance(rule, dict):
        for name, inner in rule.items():
            yield name
            yield from _names(inner)
    elif isinstance(rule, list):
        for inner in rule:
            yield from _names(inner)
    elif isinstance(rule, str):
        yield rule


@functools.cache
def _validator_class() -> type[Validator]:
    from jsonschema import Draft202012Validator, validators

    def is_finite_number(checker: Any, value: Any) -> bool:
        # JSON has neither NaN nor infinity, and NaN would pass `minimum` and `maximum`.
        try:
            return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:
            return False

    extended: type[Validator] = validators.extend(  # type: ignore[no-untyped-call]
        Draft202012Validator,
        validators=keywords(),
        type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", is_finite_number),
    )
    return extended


def _problems(error: ValidationError, skip: Callable[[Any], bool]) -> Iterator[Problem]:
    path = ".".join(str(part) for part in error.absolute_path)
    schema = error.schema if isinstance(error.schema, dict) else {}
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        unknown = [name for name in instance if name not in known and not skip(name)]
        yield from (_unknown_parameter(name, known, path) for name in unknown)
        return
    if error.validator == "required":
        missing = [name for name in schema["required"] if name not in instance]
        yield from (_missing_parameter(name, path, schema) for name in missing)
        return
    rule, remedy = _explain(error, schema)
    yield Problem(
        field=schema.get("x-field") or path or "payload",
        value=_show(error, schema),
        rule=schema.get("x-rule", rule),
        remedy=schema.get("x-remedy", remedy),
    )


def _show(error: ValidationError, schema: dict[str, Any]) -> str:
    if "x-field" in schema:
        given = error.instance.get(schema["x-field"]) if isinstance(error.instance, dict) else None
        # An image is an empty string here.
        return {"None": "(missing)", "''": "(given)"}.get(short_repr(given), short_repr(given))
    # A callback URL often carries a token in its query.
    if schema.get("x-url") and isinstance(error.instance, str):
        return short_repr(redact_url(error.instance))
    return short_repr(error.instance)


def _explain(error: ValidationError, schema: dict[str, Any]) -> tuple[str, str]:
    """Return the rule and the remedy for a violated keyword."""
    wanted: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "type":
            name = _TYPE_NAMES.get(str(wanted), str(wanted))
            return f"must be {name}", f"Pass {name}"
        case "enum":
            options = ", ".join(repr(option) for option in wanted)
            return f"must be one of {options}", _did_you_mean(instance, list(wanted)) or "Use one of these"
        case "const":
            return f"must be {wanted!r}", f"Use {wanted!r}, or leave it out"
        case "minLength" | "maxLength":
            bound = "at least" if error.validator == "minLength" else "at most"
            has = len(instance)
            rule = f"must have {bound} {wanted:,} character{'s' if wanted != 1 else ''} (it has {has:,})"
            return rule, "Write more" if bound == "at least" else f"Shorten it by {has - wanted:,}"
        case "minItems" | "maxItems":
            bound = "at least" if error.validator == "minItems" else "at most"
            rule = f"must have {bound} {wanted:,} item{'s' if wanted != 1 else ''} (it has {len(instance):,})"
            return rule, "Add some" if bound == "at least" else f"Leave out {len(instance) - wanted:,}"
        case "x-nonZero":
            return f"must have exactly {wanted} non-zero value", "Set all others to 0, or leave them out"
        case "minimum" | "maximum":
            low, high = schema.get("minimum"), schema.get("maximum")
            return f"must be between {low} and {high}", f"Use a number from {low} to {high}"
        case "x-url":
            return "must be an http or https URL with a host", "Use a full URL, such as https://example.com/hook"
        case _:
            return f"breaks the rule {error.validator}: {short_repr(wanted)}", "See the model's page in the docs"


def _unknown_parameter(name: str, known: list[str], path: str) -> Problem:
    if name == "input":
        remedy = "Pass the parameters themselves; the provider wraps them in input[0].params"
    else:
        remedy = _did_you_mean(name, known) or f"Known parameters: {', '.join(known)}"
    # The value is not shown: under a misspelt name it may be a secret.
    full = f"{path}.{name}" if path else name
    return Problem(field=full[:80], value="(not shown)", rule=NOT_A_PARAMETER, remedy=remedy)


def _missing_parameter(name: str, path: str, schema: dict[str, Any]) -> Problem:
    full = f"{path}.{name}" if path else name
    rule, remedy = schema.get("x-rule", "is required"), schema.get("x-remedy", f"Add {name}")
    return Problem(field=full, value="(missing)", rule=rule, remedy=remedy)


def _did_you_mean(given: Any, known: list[Any]) -> str | None:
    import difflib

    text = given[:100] if isinstance(given, str) else short_repr(given)
    names = list(map(str, known))
    # image_tial means image_tail; image_url means image, although image_tail is the closer match.
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.85)
    near = near or [name for name in names if text.startswith(f"{name}_")]
    near = near or difflib.get_close_matches(text, names, n=1)
    return f"{DID_YOU_MEAN} {near[0]!r}?" if near else None
