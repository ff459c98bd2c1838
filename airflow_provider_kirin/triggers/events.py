"""The payload of trigger events: encoded and decoded in one place. Decoding fails closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_kirin import exceptions
from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinConfigError,
    KirinError,
    KirinPayloadError,
    KirinResponseError,
    KirinTimeoutError,
    KirinUnfinishedError,
)

_VERSION = 1
_DEADLINE = "hand_back_deadline"
_ERRORS: dict[str, type[KirinError]] = {
    name: value
    for name, value in vars(exceptions).items()
    # No wait ends in a payload error, and its constructor takes more than a message.
    if isinstance(value, type) and issubclass(value, KirinError) and value is not KirinPayloadError
}


def abandoned_by_fail_fast(kirin_task_id: str) -> KirinUnfinishedError:
    """Return the outcome of a wait that was abandoned because another generation failed.

    :param kirin_task_id: the generation
    """
    return KirinUnfinishedError(
        f"The wait for Kirin generation {kirin_task_id} was abandoned, because another one has no video (fail_fast)."
    )


class EventPayload(dict[str, Any]):
    """A dict whose repr hides signed URLs: the triggerer logs every event that it fires."""

    def __repr__(self) -> str:
        if _DEADLINE in self:
            return "<handed back to a worker>"
        ends = [result["error"]["type"] if "error" in result else "completed" for result in self["results"]]
        counts = ", ".join(f"{end}: {ends.count(end)}" for end in sorted(set(ends)))
        return f"<Kirin generations {counts or 'none'}>"

    __str__ = __repr__


def dump_event(outcomes: Sequence[Outcome]) -> EventPayload:
    """Return the payload of a trigger event.

    :param outcomes: how each wait ended, in the order of the trigger's ids
    """
    return EventPayload(version=_VERSION, results=[_dump(outcome) for outcome in outcomes])


def load_event(event: Any, *, expected: int) -> list[Outcome]:
    """Return the outcomes that :func:`dump_event` encoded, after their trip through Airflow's database.

    :param event: the event that Airflow passes to ``execute_complete``
    :param expected: the number of outcomes that it must hold
    :raises KirinResponseError: if the event is anything else
    """
    results = event.get("results") if isinstance(event, dict) and event.get("version") == _VERSION else None
    if not isinstance(results, list) or len(results) != expected:
        raise KirinResponseError("The trigger's event is invalid; nothing is known about the generation.")
    return [_load(result) for result in results]


def hand_back_to_worker(deadline: float) -> EventPayload:
    """Return the payload of a trigger event that hands the wait back to a worker.

    :param deadline: when the wait has to end, in seconds since the epoch
    """
    return EventPayload({"version": _VERSION, _DEADLINE: deadline})


def hand_back_deadline(event: Any) -> float | None:
    """Return the deadline in an event of :func:`hand_back_to_worker`; None for any other event.

    :param event: the event that Airflow passes to ``execute_complete``
    """
    deadline = event.get(_DEADLINE) if isinstance(event, dict) and event.get("version") == _VERSION else None
    return deadline if isinstance(deadline, float) else None


def _dump(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, KirinTask):
        return {"kirin_task": outcome.to_dict()}
    error: dict[str, Any] = {"type": type(outcome).__name__, "message": str(outcome), "retryable": outcome.retryable}
    if isinstance(outcome, KirinAPIError):
        error |= {"code": outcome.code, "http_status": outcome.http_status, "request_id": outcome.request_id}
        if outcome.kirin_task is not None:
            # A failed generation may have been billed.
            error["kirin_task"] = outcome.kirin_task.to_dict()
    if isinstance(outcome, KirinConfigError):
        error["http_status"] = outcome.http_status
    if isinstance(outcome, KirinTimeoutError):
        error["kirin_task_ids"] = list(outcome.kirin_task_ids)
    return {"error": error}


def _load(result: Any) -> Outcome:
    if not isinstance(result, dict) or len(result) != 1:
        raise KirinResponseError("The trigger's event holds something that is not an outcome.")
    if "kirin_task" in result:
        kirin_task = KirinTask.from_dict(result["kirin_task"])
        if kirin_task.status != "completed" or not kirin_task.videos:
            raise KirinResponseError(
                f"The trigger's event has Kirin generation {kirin_task.id} as a result, but without a video."
            )
        return kirin_task
    return _load_error(result.get("error"))


def _load_error(error: Any) -> KirinError:
    fields = error if isinstance(error, dict) else {}
    name, message, retryable = fields.get("type"), fields.get("message"), fields.get("retryable")
    error_class = _ERRORS.get(name) if isinstance(name, str) else None
    if error_class is None or not isinstance(message, str) or not isinstance(retryable, bool):
        raise KirinResponseError("The trigger's event holds an invalid error.")
    if issubclass(error_class, KirinTimeoutError):
        ids = fields.get("kirin_task_ids")
        if not isinstance(ids, list) or not all(isinstance(kirin_task_id, str) for kirin_task_id in ids):
            raise KirinResponseError("The trigger's event holds a timeout without the ids of its generations.")
        return error_class(message, kirin_task_ids=ids)
    if issubclass(error_class, KirinAPIError):
        known = {name: fields.get(name) for name in ("code", "http_status", "request_id")}
        api_error = error_class(message, retryable=retryable, **known)
        api_error.kirin_task = KirinTask.from_dict(fields["kirin_task"]) if "kirin_task" in fields else None
        return api_error
    if issubclass(error_class, KirinConfigError):
        return error_class(message, http_status=fields.get("http_status"), retryable=retryable)
    other = error_class(message)
    other.retryable = retryable
    return other
