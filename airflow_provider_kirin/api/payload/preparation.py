"""What may be sent: defaults, validation and the rules between fields, from the model's JSON Schema.

All problems of a payload come in one :class:`~airflow_provider_kirin.exceptions.KirinPayloadError`, before a cent is
spent. A payload that is still partly a template is judged as far as it can be (:func:`check_static`), so that a
typo shows when the DAG is parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_kirin.api import images
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
from airflow_provider_kirin.api.payload.validation import validate
from airflow_provider_kirin.api.payload.warnings import find_warnings
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.requests import validate_task_id
from airflow_provider_kirin.exceptions import KirinIdError, KirinPayloadError, Problem

FitImages = Literal["error", "auto"]
#: A shorter key is an emulator's, and may be a word of any prompt.
_SHORTEST_SECRET = 8


@dataclass(frozen=True)
class PreparedPayload:
    """A payload as it will be sent.

    :param model: the model's id
    :param params: what goes to ``input[0].params``
    :param images: what became of each image, by its field: ``image``, ``image_list.0.image``
    :param warnings: what the log should tell: parameters that were not checked, a default that costs more
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
    allow_unknown_model: bool = False,
    fit_images: FitImages = "error",
) -> PreparedPayload:
    """Check a whole payload, read and check its images, and return what will be sent.

    :param payload: the model's parameters as a mapping (or as JSON text, which is what a template renders to)
    :param model: the model's id
    :param replacing: values that take the place of the payload's own, by parameter or by
        :data:`~airflow_provider_kirin.api.payload.paths.FieldPath`
    :param open_uri: opens a storage URI such as ``s3://bucket/key`` for reading
    :param fit_images: what to do with an image that breaks a limit: ``"error"``, or ``"auto"`` to make it fit
    :param allow_unknown_model: whether a model without a schema is sent as it is, its usual image fields prepared
    :raises KirinPayloadError: with everything that is wrong
    """
    fitting = check_fit_images(fit_images) == "auto"
    schema = find_schema(model, allow_unknown=allow_unknown_model)
    changes = {(key,) if isinstance(key, str) else key: value for key, value in (replacing or {}).items()}
    whole: dict[str, Any] = replace_at(as_mapping(payload, model), changes)
    given = normalize(whole, schema)
    found = list(_images_of(given, schema))
    problems = validate(replace_at(given, {path: "" for path, _, _ in found}), schema)
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
    """Judge what can be judged when a DAG is parsed; read no file, ask no gateway.

    :param payload: the operator's argument, in which any value may be a template or an XComArg still
    :param model: the model's id
    :param is_dynamic: tells whether a value will only be known at run time
    :param allow_unknown_model: whether a model without a schema is let through
    :raises KirinPayloadError: with everything that is wrong already
    """
    if is_dynamic(payload) or is_dynamic(model):
        return
    schema = find_schema(model, allow_unknown=allow_unknown_model)
    given = normalize(as_mapping(payload, model), schema)
    found = list(_images_of(given, schema))
    problems = validate(replace_at(given, {path: "" for path, _, _ in found}), schema, skip=is_dynamic)
    for path, value, _ in found:
        if not is_dynamic(value):
            problems.extend(images.check_without_reading(value, field=format_path(path)))
    if not is_dynamic(given.get("external_task_id")):
        problems.extend(_unusable_id(given))
    if problems:
        raise KirinPayloadError(_in_order(problems, schema), model=model)


def refuse_secret(ready: PreparedPayload, secret: str) -> None:
    """Refuse to send a secret that found its way into a payload. Image bytes are left out: they hold any text.

    :param ready: the prepared payload
    :param secret: what must not be in it
    :raises KirinPayloadError: names the fields, and shows neither them nor the secret
    """
    if len(secret) < _SHORTEST_SECRET:
        return
    encoded = {parse_path(name) for name, image in ready.images.items() if image.sha256}
    problems = [
        Problem(
            format_path(path)[:80],
            "(not shown)",
            "holds the API key of the connection, which is never sent in a payload",
            "Look for a template such as {{ conn... }}: Airflow renders those in the rows of expand_kwargs(), too",
        )
        for path, value in leaves(ready.params)
        if isinstance(value, str) and path not in encoded and secret in value
    ]
    if problems:
        raise KirinPayloadError(problems, model=ready.model)


def signed_urls(payload: Any) -> dict[FieldPath, str]:
    """Return every URL in a payload that may carry a signature, a token or a password; each value is one URL.

    :param payload: the operator's argument
    """
    return {path: value for path, value in leaves(payload) if path and images.is_signed_url(value)}


def inline_images(payload: Any) -> dict[FieldPath, Any]:
    """Return everything in a payload that is an image itself (bytes, Base64): it must stay out of templates.

    They are found by what they are, wherever they stand, so that no mistake in a name lets one slip through.

    :param payload: the operator's argument
    """
    return {path: value for path, value in leaves(payload) if path and images.is_inline(value)}


def _images_of(given: dict[str, Any], schema: dict[str, Any]) -> Iterator[tuple[FieldPath, Any, images.ImageRules]]:
    """Yield place, value and rules of each image. In a field that nobody describes, only what looks like one is."""
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
    """Refuse an external task id by which nobody could ask for the generation afterwards."""
    own = given.get("external_task_id")
    # What is no text, or empty, is the schema's to judge.
    if isinstance(own, str) and own:
        try:
            validate_task_id(own)
        except KirinIdError:
            rule = "must be an id that can be asked for: printable, at most 512 characters, not None, . or .., no list"
            yield Problem("external_task_id", short_repr(own), rule, 'Give something like "order-17"')


def _shown(value: Any) -> str:
    """Return a value for a log; an image in a field that nobody describes shows none of its bytes either."""
    return images.describe(value) if images.is_inline(value) else short_repr(value)


def _unserializable(params: dict[str, Any], problems: list[Problem]) -> list[Problem]:
    """Return what JSON cannot say, and no rule has complained of."""
    reported = {problem.field.partition(".")[0] for problem in problems}
    return [problem for problem in find_unserializable(params) if problem.field.partition(".")[0] not in reported]


def _in_order(problems: list[Problem], schema: dict[str, Any]) -> list[Problem]:
    order = {name: index for index, name in enumerate(schema["properties"])}
    return sorted(problems, key=lambda problem: order.get(problem.field.partition(".")[0], len(order)))
