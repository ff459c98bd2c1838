"""What a trigger tells the task that it wakes, written and read in one place; what is not understood fails closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_kirin import exceptions
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinConfigError,
    KirinError,
    KirinPayloadError,
    KirinReplyError,
    KirinTimeoutError,
    KirinUnfinishedError,
)

#: How one wait ended: with the finished generation, or with the reason why there is none.
Outcome = KirinTask | KirinError

_VERSION = 1
_DEADLINE = "hand_back_deadline"
_ERRORS: dict[str, type[KirinError]] = {
    name: value
    for name, value in vars(exceptions).items()
    # A payload is no trigger's business, and its error is built from more than a message.
    if isinstance(value, type) and issubclass(value, KirinError) and value is not KirinPayloadError
}


def abandoned_by_fail_fast(kirin_task_id: str) -> KirinUnfinishedError:
    """Return the outcome of a wait that was given up for another one's failure.

    :param kirin_task_id: the generation
    """
    return KirinUnfinishedError(
        f"The wait for Kirin generation {kirin_task_id} was given up, because another one gave no video (fail_fast)."
    )


class EventPayload(dict[str, Any]):
    """A dict that does not show signed URLs: the triggerer logs every event that it fires."""

    def __repr__(self) -> str:
        if _DEADLINE in self:
            return "<left to a worker>"
        ends = [result["error"]["type"] if "error" in result else "completed" for result in self["results"]]
        counts = ", ".join(f"{end}: {ends.count(end)}" for end in sorted(set(ends)))
        return f"<Kirin generations {counts or 'none'}>"

    __str__ = __repr__


def dump_event(outcomes: Sequence[Outcome]) -> EventPayload:
    """Return the payload of a trigger event.

    :param outcomes: how each wait ended, in the order of the trigger's ids
    """
    return EventPayload(version=_VERSION, results=[_write(outcome) for outcome in outcomes])


def load_event(event: Any, *, expected: int) -> list[Outcome]:
    """Read what :func:`dump_event` wrote, after its trip through Airflow's database.

    :param event: what Airflow hands to the method that resumes
    :param expected: how many outcomes it has to hold
    :raises KirinReplyError: for anything else
    """
    results = event.get("results") if isinstance(event, dict) and event.get("version") == _VERSION else None
    if not isinstance(results, list) or len(results) != expected:
        raise KirinReplyError("The trigger's event cannot be understood; nothing is known about the generation.")
    return [_read(result) for result in results]


def hand_back_to_worker(deadline: float) -> EventPayload:
    """Return the payload of a trigger event that leaves the whole wait to a worker.

    :param deadline: when the wait has to end, in seconds since the epoch
    """
    return EventPayload({"version": _VERSION, _DEADLINE: deadline})


def hand_back_deadline(event: Any) -> float | None:
    """Return the deadline of a wait that :func:`hand_back_to_worker` left; None for any other event.

    :param event: what Airflow hands to the method that resumes
    """
    deadline = event.get(_DEADLINE) if isinstance(event, dict) and event.get("version") == _VERSION else None
    return deadline if isinstance(deadline, float) else None


def _write(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, KirinTask):
        return {"kirin_task": outcome.to_dict()}
    error: dict[str, Any] = {"type": type(outcome).__name__, "message": str(outcome), "retryable": outcome.retryable}
    if isinstance(outcome, KirinAPIError):
        error |= {"code": outcome.code, "http_status": outcome.http_status, "request_id": outcome.request_id}
        if outcome.kirin_task is not None:
            # What failed may have cost something.
            error["kirin_task"] = outcome.kirin_task.to_dict()
    if isinstance(outcome, KirinConfigError):
        error["http_status"] = outcome.http_status
    if isinstance(outcome, KirinTimeoutError):
        error["kirin_task_ids"] = list(outcome.kirin_task_ids)
    return {"error": error}


def _read(result: Any) -> Outcome:
    if not isinstance(result, dict) or len(result) != 1:
        raise KirinReplyError("The trigger's event holds something that is no outcome.")
    if "kirin_task" in result:
        kirin_task = KirinTask.from_dict(result["kirin_task"])
        if kirin_task.status != "completed" or not kirin_task.videos:
            raise KirinReplyError(f"The trigger's event calls Kirin generation {kirin_task.id} done, and it is not.")
        return kirin_task
    return _read_error(result.get("error"))


def _read_error(error: Any) -> KirinError:
    fields = error if isinstance(error, dict) else {}
    name, message, retryable = fields.get("type"), fields.get("message"), fields.get("retryable")
    error_class = _ERRORS.get(name) if isinstance(name, str) else None
    if error_class is None or not isinstance(message, str) or not isinstance(retryable, bool):
        raise KirinReplyError("The trigger's event holds an error that cannot be understood.")
    if issubclass(error_class, KirinTimeoutError):
        ids = fields.get("kirin_task_ids")
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise KirinReplyError("The trigger's event holds a timeout that names no generation.")
        return error_class(message, kirin_task_ids=ids)
    if issubclass(error_class, KirinAPIError):
        known = {name: fields.get(name) for name in ("code", "http_status", "request_id")}
        refused = error_class(message, retryable=retryable, **known)
        refused.kirin_task = KirinTask.from_dict(fields["kirin_task"]) if "kirin_task" in fields else None
        return refused
    if issubclass(error_class, KirinConfigError):
        return error_class(message, http_status=fields.get("http_status"), retryable=retryable)
    plain = error_class(message)
    plain.retryable = retryable
    return plain
