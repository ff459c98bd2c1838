"""Prepare a payload for submission: defaults, validation and cross-field rules from the model's JSON Schema.

All problems of a payload are reported in one :class:`~airflow_provider_kirin.exceptions.KirinPayloadError`, before any
money is spent. A payload that still contains templates is checked as far as possible (:func:`check_static`), so that a
typo is reported when the DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_kirin.api import images
from airflow_provider_kirin.api.key_mask import MIN_SECRET
from airflow_provider_kirin.api.models import find_schema
from airflow_provider_kirin.api.payload.normalize import as_mapping, find_unserializable, normalize
from airflow_provider_kirin.api.payload.paths import (
    COMMON_IMAGE_FIELDS,
    DEFAULT_IMAGE_RULES,
    FieldPath,
    find_matches,
    format_path,
    image_patterns,
    leaves,
    parse_path,
    replace_at,
)
from airflow_provider_kirin.api.payload.validation import find_misspelled, validate
from airflow_provider_kirin.api.payload.warnings import find_warnings
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.exceptions import KirinIdError, KirinPayloadError, Problem

FitImages = Literal["error", "auto"]


@dataclass(frozen=True)
class PreparedPayload:
    """A payload as it will be sent.

    :param model: the model's id
    :param params: the value of ``input[0].params`` in the request
    :param images: the prepared images by field: ``image``, ``image_list.0.image``
    :param warnings: lines for the log: parameters that were not checked, a default that costs more
    """

    model: str
    params: dict[str, Any] = field(repr=False)
    images: dict[str, images.PreparedImage]
    warnings: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the payload as one short line for a log: no image bytes, no signed query."""
        shown = {
            name: str(self.images[name]) if name in self.images else _shown(value)
            for name, value in self.params.items()
        }
        shown |= {name: str(image) for name, image in self.images.items() if name not in shown}
        return ", ".join(f"{name}={text}" for name, text in shown.items())


def prepare_payload(
    payload: Any,
    model: str,
    *,
    replacing: Mapping[Any, Any] | None = None,
    open_uri: images.OpenUri | None = None,
    fit_images: FitImages = "error",
    allow_unknown_model: bool = False,
) -> PreparedPayload:
    """Validate a whole payload, load and validate its images, and return what will be sent.

    :param payload: the model's parameters as a mapping, or as a JSON string, which is what a template renders to
    :param model: the model's id
    :param replacing: values that replace the payload's own, by parameter or by
        :data:`~airflow_provider_kirin.api.payload.paths.FieldPath`
    :param open_uri: opens a storage URI such as ``s3://bucket/key`` for reading
    :param fit_images: what to do with an image that breaks a limit: ``"error"``, or ``"auto"`` to make it fit
    :param allow_unknown_model: whether the payload of a model without a schema is sent unchecked, with images prepared
        in the usual fields, and that of a partly documented one with names that resemble a parameter
    :raises KirinPayloadError: lists all problems
    """
    fitting = check_fit_images(fit_images) == "auto"
    schema = find_schema(model, allow_unknown=allow_unknown_model)
    changes = {(key,) if isinstance(key, str) else key: value for key, value in (replacing or {}).items()}
    whole: dict[str, Any] = replace_at(as_mapping(payload, model), changes)
    given = normalize(whole, schema)
    found = list(_images_of(given, schema))
    problems = validate(replace_at(given, {path: "" for path, _, _ in found}), schema)
    if not allow_unknown_model:
        problems.extend(find_misspelled(_without_defaults(given, whole), schema))
    prepared: dict[FieldPath, images.PreparedImage] = {}
    for path, value, rules in found:
        try:
            prepared[path] = images.prepare_image(
                value, field=format_path(path), rules=rules, open_uri=open_uri, fitting=fitting
            )
        except images.ImageRejected as rejected:
            problems.extend(rejected.problems)
    params: dict[str, Any] = replace_at(given, {path: image.text for path, image in prepared.items()})
    problems.extend(_unserializable(params, problems))
    problems.extend(_unusable_id(given))
    if problems:
        raise KirinPayloadError(_in_order(problems, schema), model=model)
    params.pop("model", None)
    shown = {format_path(path): image for path, image in prepared.items()}
    return PreparedPayload(model=model, params=params, images=shown, warnings=find_warnings(model, whole, schema))


def check_fit_images(value: Any) -> FitImages:
    """Return what to do with images that break a limit.

    :param value: ``"error"`` or ``"auto"``
    :raises ValueError: for anything else
    """
    if value not in ("error", "auto"):
        raise ValueError(f'fit_images = {short_repr(value)} must be "error" or "auto".')
    found: FitImages = value
    return found


def check_static(
    payload: Any, model: str, *, is_dynamic: Callable[[Any], bool], allow_unknown_model: bool = False
) -> None:
    """Validate as much of a payload as possible when a DAG is parsed, without reading files or calling the gateway.

    :param payload: the operator's argument, in which any value may still be a template or an XComArg
    :param model: the model's id
    :param is_dynamic: returns whether a value is only known at run time
    :param allow_unknown_model: whether to accept a model without a schema, and names that resemble a parameter
    :raises KirinPayloadError: lists all problems found so far
    """
    if is_dynamic(payload) or is_dynamic(model):
        return
    schema = find_schema(model, allow_unknown=allow_unknown_model)
    whole = as_mapping(payload, model)
    given = normalize(whole, schema)
    found = list(_images_of(given, schema))
    params: dict[str, Any] = replace_at(given, {path: "" for path, _, _ in found})
    problems = validate(params, schema, skip=is_dynamic)
    if not allow_unknown_model:
        problems.extend(find_misspelled(_without_defaults(given, whole), schema))
    for path, value, _ in found:
        if not is_dynamic(value):
            problems.extend(images.check_without_reading(value, field=format_path(path)))
    problems.extend(_unserializable(params, problems, skip=is_dynamic))
    if not is_dynamic(given.get("external_task_id")):
        problems.extend(_unusable_id(given))
    if problems:
        raise KirinPayloadError(_in_order(problems, schema), model=model)


def with_example_images(payload: Any, model: str, image: bytes) -> dict[str, Any]:
    """Return a payload with the same price that needs no image: with defaults, and an example in place of each image.

    :param payload: the model's parameters
    :param model: the model's id
    :param image: the example
    :raises KirinPayloadError: it is not a mapping, or the model's id is not valid
    """
    schema = find_schema(model, allow_unknown=True)
    given = normalize(as_mapping(payload, model), schema)
    example: dict[str, Any] = replace_at(given, {path: image for path, _, _ in _images_of(given, schema)})
    return example


def refuse_secret(prepared: PreparedPayload, secret: str) -> None:
    """Refuse a payload that contains a secret. Image bytes are not searched, as they may contain any string by chance.

    :param prepared: the prepared payload
    :param secret: the string that must not occur in it
    :raises KirinPayloadError: names the fields, but shows neither their values nor the secret
    """
    if len(secret) < MIN_SECRET:
        return
    encoded = {parse_path(name) for name, image in prepared.images.items() if image.sha256}
    problems = [
        Problem(
            format_path(path)[:80],
            "(not shown)",
            "contains the connection's API key, which is never sent in a payload",
            "Look for a template such as {{ conn... }}: Airflow also renders those in the rows of expand_kwargs()",
        )
        for path, value in leaves(prepared.params)
        if isinstance(value, str) and path not in encoded and secret in value
    ]
    if problems:
        raise KirinPayloadError(problems, model=prepared.model)


def signed_urls(payload: Any) -> dict[FieldPath, str]:
    """Return every value of a payload that is a URL with a possible signature, token or password.

    :param payload: the operator's argument
    """
    return {path: value for path, value in leaves(payload) if path and images.is_signed_url(value)}


def inline_images(payload: Any) -> dict[FieldPath, Any]:
    """Return every inline image (bytes, Base64) in a payload: they must stay out of templates.

    They are recognized by content in any field, so that a misspelt field name does not let one through.

    :param payload: the operator's argument
    """
    return {path: value for path, value in leaves(payload) if path and images.is_inline(value)}


def _images_of(given: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[FieldPath, Any, images.ImageRules]]:
    """Yield path, value and rules of each image; in an undocumented field, of each value that looks like one."""
    for pattern, rules in image_patterns(schema):
        for path, value in find_matches(given, pattern):
            yield path, value, rules
    if schema["additionalProperties"]:
        for pattern in COMMON_IMAGE_FIELDS:
            if pattern[0] not in schema["properties"]:
                for path, value in find_matches(given, pattern):
                    if images.looks_like_image(value):
                        yield path, value, DEFAULT_IMAGE_RULES


def _unusable_id(given: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem if the generation could not be looked up by its external task id afterwards."""
    own = given.get("external_task_id")
    # The schema rejects other types and an empty string.
    if isinstance(own, str) and own:
        try:
            validate_task_id(own)
        except KirinIdError:
            rule = "must be a printable string of at most 512 characters, not None, . or .., not a list"
            yield Problem("external_task_id", short_repr(own), rule, 'Use an id such as "order-17"')


def _without_defaults(given: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if whole.get(name) is not None}


def _shown(value: Any) -> str:
    """Return a value for the log; an image in an undocumented field does not show its bytes either."""
    return images.describe(value) if images.is_inline(value) else short_repr(value)


def _unserializable(
    params: dict[str, Any], problems: list[Problem], *, skip: Callable[[Any], bool] | None = None
) -> list[Problem]:
    """Return a problem for each value that is not JSON serializable, in fields without another problem."""
    reported = {problem.field.partition(".")[0] for problem in problems}
    found = find_unserializable(params, skip=skip)
    return [problem for problem in found if problem.field.partition(".")[0] not in reported]


def _in_order(problems: list[Problem], schema: dict[str, Any]) -> list[Problem]:
    order = {name: index for index, name in enumerate(schema["properties"])}
    return sorted(problems, key=lambda problem: order.get(problem.field.partition(".")[0], len(order)))
