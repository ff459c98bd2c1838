"""What a response, or an error, means for a row of a batch, and for the rows that come after it."""

from __future__ import annotations

from typing import Any, Literal

from airflow_provider_kirin.api.batch.state import RowState, refused
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.api.video_file import VideoFile
from airflow_provider_kirin.exceptions import (
    KirinAPIError,
    KirinAuthError,
    KirinBudgetError,
    KirinCapacityError,
    KirinConfigError,
    KirinConflictError,
    KirinCreditError,
    KirinError,
    KirinLostTaskError,
    KirinNotFoundError,
    KirinPayloadError,
    KirinTaskFailedError,
    KirinUnknownSubmitError,
)

#: How often a row is tried that fails for reasons that may pass, while others succeed.
MAX_TRANSIENT_ERRORS = 3
#: Seconds after which the gateway must know a generation that it accepted.
_LOST_AFTER = 60.0

#: What a failed submission is about: the account's places, the gateway, the account itself, or a single row, which is
#: tried again after the others or not at all.
Scope = Literal["full", "unavailable", "halted", "again", "row"]


def scope_of(error: KirinError) -> Scope:
    """Return what a failed submission means for the other rows."""
    if isinstance(error, KirinCapacityError):
        return "full"
    if isinstance(error, KirinPayloadError):
        return "row"
    if isinstance(error, (KirinBudgetError, KirinCreditError, KirinAuthError, KirinConfigError)):
        return "unavailable" if error.retryable else "halted"
    return "again" if error.retryable else "row"


def after_rejection(state: RowState, error: KirinError) -> RowState:
    """Return the state of a row whose submission failed in a way that a repetition cannot change."""
    if isinstance(error, KirinPayloadError):
        return refused(state, error.problems)
    name = type(error).__name__
    # With the intent still on record, an earlier submission may have been accepted.
    is_unresolved = state.status == "intent" and not isinstance(error, KirinTaskFailedError)
    if is_unresolved or isinstance(error, (KirinUnknownSubmitError, KirinConflictError, KirinLostTaskError)):
        return state.with_error("unknown", name, error, retryable=False)
    code = error.code if isinstance(error, KirinAPIError) and error.code else name
    return state.with_error("failed", code, error, retryable=False, failures=state.failures + 1)


def after_transient_error(state: RowState, error: KirinError, *, are_others_accepted: bool) -> RowState:
    """Return the state of a row to try again, or to give up if that fails again and again while others are accepted."""
    # After an unknown outcome the lookup worked: the gateway is available.
    is_about_row = are_others_accepted or isinstance(error, KirinUnknownSubmitError)
    if state.transient_errors + 1 < MAX_TRANSIENT_ERRORS or not is_about_row:
        return state.to(state.status, transient_errors=state.transient_errors + 1)
    status: Literal["unknown", "failed"] = "unknown" if state.status == "intent" else "failed"
    return state.with_error(status, type(error).__name__, error, retryable=status == "unknown")


def after_poll_error(state: RowState, error: KirinError, now: float) -> RowState | None:
    """Return the state of a row that could not be polled; None if the error is not about this row.

    :raises KirinError: the error, if no poll of any row can succeed
    """
    if isinstance(error, KirinNotFoundError) and error.from_api:
        # Right after a submission, a replica may lag.
        if now - (state.since or 0.0) <= _LOST_AFTER:
            return state
        text = f"The gateway no longer knows Kirin generation {state.kirin_task_id}."
        return state.with_error("unknown", "KirinLostTaskError", text, retryable=False)
    is_proxy = isinstance(error, KirinAPIError) and not error.from_api
    if error.retryable or is_proxy:
        return None
    if isinstance(error, (KirinAuthError, KirinConfigError, KirinCreditError)):
        raise error
    text = f"Kirin generation {state.kirin_task_id} cannot be polled: {error}"
    return state.with_error("unknown", type(error).__name__, text, retryable=False)


def after_timeout(state: RowState, last_error: KirinError | None, now: float) -> RowState:
    """Return the state of a row whose generation has run out of time.

    :param last_error: why it was not seen to end, if it could not be polled
    """
    text = (
        f"Kirin generation {state.kirin_task_id} did not end within {now - (state.since or 0.0):.0f} s. It may "
        f"continue, and be billed.{'' if last_error is None else f' The last error: {last_error}'}"
    )
    return state.with_error("timeout", "KirinTimeoutError", text)


def after_end(state: RowState, kirin_task: KirinTask, now: float) -> RowState:
    """Return the state of a row whose generation has ended, with a video or without."""
    cost, error = billed_cost(kirin_task), error_from_task(kirin_task)
    known: dict[str, Any] = {
        "cost": None if cost is None else show_usd(cost),
        "seconds": round(now - (state.since or now), 1),
        "model": kirin_task.model or state.model,
    }
    if error is None:
        return state.to("done", code=None, error=None, transient_errors=0, **known)
    return state.with_error(
        "failed",
        error.code or type(error).__name__,
        error,
        retryable=error.retryable,
        failures=state.failures + 1,
        order=None,
        **known,
    )


def after_download(state: RowState, outcome: list[VideoFile] | KirinError, *, is_unavailable: bool = False) -> RowState:
    """Return the state of a row after its videos were stored, or could not be.

    :param outcome: the files, or why there are none
    :param is_unavailable: whether no video can be stored, which says nothing about this row
    """
    if not isinstance(outcome, KirinError):
        files = {"files": tuple(file.uri for file in outcome), "file_details": tuple(outcome)}
        return state.to("saved", **files, order=None, code=None, error=None, transient_errors=0)
    if isinstance(outcome, KirinTaskFailedError):
        return state.with_error("failed", outcome.code or type(outcome).__name__, outcome, retryable=False, order=None)
    transient_errors = state.transient_errors + 1 if outcome.retryable else MAX_TRANSIENT_ERRORS
    if is_unavailable:
        transient_errors = state.transient_errors
    return state.with_error("done", type(outcome).__name__, outcome, transient_errors=transient_errors)
