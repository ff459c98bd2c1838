"""The external task id of a step's generation: the same on every try, so that no state is needed to find it again.

It has to be unique within an account (doc.vtrix.ai, kirin-v1-6-i2v). It is a hash, so it reveals neither a DAG id nor a
prompt.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from airflow_provider_kirin.api.payload import PreparedPayload
from airflow_provider_kirin.api.payload.paths import parse_path, replace_at
from airflow_provider_kirin.api.presigned import without_signature

_PREFIX = "airflow-"


def payload_fingerprint(prepared: PreparedPayload) -> str:
    """Return a digest of a payload as it will be sent; images count by their bytes, wherever they were stored.

    Equivalent values are equal: 1 and 1.0, both Unicode forms of a string, a URL signed now or an hour ago. If an image
    was made to fit, its original bytes count, so that another Pillow version does not change the digest.

    :param prepared: the prepared payload; its own external task id is ignored
    """
    params = {name: value for name, value in prepared.params.items() if name != "external_task_id"}
    images = {parse_path(name): image.identity or image.text for name, image in prepared.images.items()}
    return _hash(prepared.model, json.dumps(_canonical(replace_at(params, images)), sort_keys=True, ensure_ascii=True))


def arguments_fingerprint(model: str, args: Iterable[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a digest of the arguments of a function that returns a payload.

    It replaces the payload's digest, as calling the function twice may return two different payloads. Values without
    comparable content count by their type, so that the digest is the same on every try.

    :param model: the model's id
    :param args: the function's positional arguments
    :param kwargs: the function's keyword arguments
    """
    return _hash(model, json.dumps([_plain(list(args)), _plain(kwargs)], sort_keys=True, ensure_ascii=True))


def _canonical(value: Any) -> Any:
    """Return the canonical form of a JSON value, in which equivalent values are equal."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", without_signature(value))
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {_canonical(name): _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """Return a JSON-serializable form of a value, equal for equal contents, whatever the order of a mapping or set."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return _canonical(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if isinstance(value, (os.PathLike, Decimal, UUID, Enum, date, time, timedelta)):
        return [type(value).__name__, str(value)]
    if isinstance(value, Mapping):
        return ["mapping", sorted(([_plain(key), _plain(item)] for key, item in value.items()), key=json.dumps)]
    if isinstance(value, Set):
        return ["set", sorted((_plain(item) for item in value), key=json.dumps)]
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {field.name: _plain(getattr(value, field.name)) for field in fields(value)}]
    return ["object", type(value).__qualname__]


@dataclass(frozen=True, kw_only=True)
class StepIdentity:
    """What makes a step the same one on every try.

    :param conn_id: the connection, which decides who pays
    :param dag_id: the DAG id
    :param run_id: the DAG run id
    :param task_id: the task id
    :param map_index: the index of a mapped task; -1 if it is not mapped
    :param take: the number of the take, to generate the same payload again
    :param namespace: distinguishes deployments that share an account and the ids above; empty for none
    """

    conn_id: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    take: Any
    namespace: str = ""

    def external_task_id(self, payload: str) -> str:
        """Return the external task id of a generation of the step: short, opaque, and the same on every try.

        :param payload: what distinguishes it from others of the step, such as what :func:`payload_fingerprint` or
            :func:`arguments_fingerprint` returned
        """
        ids = (self.conn_id, self.dag_id, self.run_id, self.task_id, str(self.map_index), _take(self.take))
        return _PREFIX + _hash(*([self.namespace] if self.namespace else []), *ids, payload)


def _take(take: Any) -> str:
    """Return a take as a string: a number is the same take as an integer, a float or a rendered template."""
    text = unicodedata.normalize("NFC", str(take).strip())
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    is_whole = number.is_finite() and abs(number.adjusted()) < 30 and number == number.to_integral_value()
    return str(int(number)) if is_whole else text


def attempt_id(external_task_id: str, number: int) -> str:
    """Return the external task id of the n-th generation of a step: after a failed one, a retry submits the next.

    :param external_task_id: the external task id of the first generation
    :param number: 1 for the first
    """
    return external_task_id if number == 1 else f"{external_task_id}-{number}"


def is_of_series(external_task_id: str, first: str) -> bool:
    """Return whether an external task id is the first one of a series, or one that :func:`attempt_id` made from it.

    :param external_task_id: any
    :param first: the external task id of the first generation
    """
    base, _, number = external_task_id.rpartition("-")
    return external_task_id == first or (base == first and number.isdecimal() and bool(first))


def _hash(*parts: str) -> str:
    """Return a hash of several strings; JSON separates them unambiguously."""
    hashed = hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()
    # 130 bits in 26 letters and digits.
    return base64.b32encode(hashed).decode().lower()[:26]
