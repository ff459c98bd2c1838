"""Prove that Airflow can encode an event before a trigger yields it: one that it cannot ends the whole triggerer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.exceptions import KirinReplyError
from airflow_provider_kirin.triggers.events import EventPayload, Outcome, dump_event

try:
    from airflow.sdk.serde import serialize
except ImportError:
    from airflow.serialization.serde import serialize  # type: ignore[no-redef,import-not-found,unused-ignore]

try:
    # From Airflow 3.1 on, what passes between a triggerer and its supervisor is msgpack.
    from airflow.sdk.execution_time.comms import _new_encoder
except ImportError:
    _new_encoder = None  # type: ignore[assignment,unused-ignore]


def make_event(outcomes: Sequence[Outcome]) -> TriggerEvent:
    """Return the event of a trigger. An outcome that cannot be encoded becomes an error, and the others stay.

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
    return KirinReplyError(
        f"How the wait ended cannot be passed on, because Airflow cannot encode it: {type(error).__name__}: "
        f"{one_line(error)}. The next try asks the gateway again."
    )


def _encoding_error(payload: EventPayload) -> Exception | None:
    """Do with an event's payload all that Airflow does with it, and return what it would raise."""
    try:
        # As the arguments with which the task resumes, in a JSON column.
        stored: Any = serialize(payload)
        if "\\u0000" in json.dumps(stored, allow_nan=False):
            raise ValueError("PostgreSQL stores no NUL")
        json.dumps(stored, ensure_ascii=False).encode()
        if _new_encoder is not None:
            _new_encoder().encode(TriggerEvent(payload).model_dump())
    except Exception as error:
        return error
    return None
