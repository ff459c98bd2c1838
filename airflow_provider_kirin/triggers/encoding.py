"""What an event may hold: what Airflow can encode, as any other ends the triggerer, and not more than it can carry."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.compat import supervisor_encoder
from airflow_provider_kirin.exceptions import KirinAPIError, KirinResponseError
from airflow_provider_kirin.triggers.events import EventPayload, dump_event

try:
    from airflow.sdk.serde import serialize
except ImportError:
    from airflow.serialization.serde import serialize  # type: ignore[no-redef,import-not-found,unused-ignore]


log = logging.getLogger(__name__)

#: Characters of a result, as JSON, that all outcomes of a wait share: it passes through the triggerer's event loop, its
#: supervisor and the database as a whole, where one of 100 million stops all other tasks for seconds.
MAX_RESULT = 4_000_000
#: Characters that each outcome may have, however many there are. With one video it has about a thousand.
MIN_SHARE = 8_000


def limit_size(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes without what is too large for a common result: metadata, or in the end the whole generation.

    :param outcomes: how each wait ended
    """
    share = max(MAX_RESULT // max(len(outcomes), 1), MIN_SHARE)
    return [_within(outcome, share) for outcome in outcomes]


def _within(outcome: Outcome, share: int) -> Outcome:
    if (size := _size(outcome)) <= share:
        return outcome
    if isinstance(outcome, KirinAPIError) and outcome.kirin_task is not None:
        outcome.kirin_task = replace(outcome.kirin_task, metadata={})
    if not isinstance(outcome, KirinTask):
        return outcome
    smaller = replace(outcome, metadata={})
    if _size(smaller) > share:
        return KirinResponseError(
            f"The result of Kirin generation {outcome.id} has {size:,} characters. {share:,} are allowed when so many "
            "generations are awaited together: wait for it alone."
        )
    log.warning("Dropped the metadata of Kirin generation %s: its result has %s characters.", outcome.id, f"{size:,}")
    return smaller


def _size(outcome: Outcome) -> int:
    return len(json.dumps(dump_event([outcome])))


def make_event(outcomes: Sequence[Outcome]) -> TriggerEvent:
    """Return the event of a trigger. An outcome that cannot be encoded is replaced with an error.

    :param outcomes: how each wait ended, in the order of the trigger's ids
    """
    # One by one: encoding all of them in one call would hold the interpreter's lock, and so stop the event loop.
    return TriggerEvent(dump_event([_encodable(outcome) for outcome in outcomes]))


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
