"""Check that Airflow can encode an event before a trigger yields it: an event that it cannot ends the triggerer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.compat import supervisor_encoder
from airflow_provider_kirin.exceptions import KirinResponseError
from airflow_provider_kirin.triggers.events import EventPayload, dump_event

try:
    from airflow.sdk.serde import serialize
except ImportError:
    from airflow.serialization.serde import serialize  # type: ignore[no-redef,import-not-found,unused-ignore]


def make_event(outcomes: Sequence[Outcome]) -> TriggerEvent:
    """Return the event of a trigger. An outcome that cannot be encoded is replaced with an error.

    :param outcomes: how each wait ended, in the order of the trigger's ids
    """
    payload = dump_event(outcomes)
    if _encoding_error(payload) is not None:
        payload = dump_event([_encodable(outcome) for outcome in outcomes])
    return TriggerEvent(payload)


def _encodable(outcome: Outcome) -> Outcome:
    error = _encoding_error(dump_event([outcome]))
    if error is None:
        return outcome
    return KirinResponseError(
        f"Airflow cannot encode the outcome of the wait: {type(error).__name__}: {one_line(error)}. "
        "The next try polls the gateway again."
    )


def _encoding_error(payload: EventPayload) -> Exception | None:
    """Encode an event's payload in every way that Airflow does, and return the error that Airflow would raise."""
    try:
        # The arguments with which the task resumes, in a JSON column.
        stored: Any = serialize(payload)
        if "\\u0000" in json.dumps(stored, allow_nan=False):
            raise ValueError("PostgreSQL cannot store NUL")
        json.dumps(stored, ensure_ascii=False).encode()
        if (encoder := supervisor_encoder()) is not None:
            encoder.encode(TriggerEvent(payload).model_dump())
    except Exception as error:
        return error
    return None
