"""The errors of a submission: what they say about money, and what to do next."""

from __future__ import annotations

from typing import Literal

from airflow_provider_kirin.api.record import EarlierSubmission
from airflow_provider_kirin.exceptions import (
    KirinConflictError,
    KirinError,
    KirinLostTaskError,
    KirinTaskFailedError,
    KirinUnavailableError,
    KirinUnknownSubmitError,
)

OnUnknownSubmit = Literal["stop", "resubmit"]


def unknown_submission(
    external_task_id: str, why: str, *, on_unknown_submit: OnUnknownSubmit, lookup_verified: bool, retryable: bool
) -> KirinUnknownSubmitError:
    """Return the error for a submission that may have been accepted, and cannot be found.

    :param external_task_id: the id to look for
    :param why: why its outcome is unknown, as a sentence
    :param on_unknown_submit: what the user wants in this case
    :param lookup_verified: whether the lookup by external task id is known to work
    :param retryable: whether another try may find it
    """
    if retryable and (lookup_verified or on_unknown_submit == "stop"):
        remedy = "Another try cannot pay twice: it looks up this id first."
    elif retryable:
        remedy = "Another try looks up this id first. If it finds nothing, it submits again and may pay twice."
    elif on_unknown_submit == "resubmit":
        remedy = (
            'It was submitted again, as on_unknown_submit="resubmit" allows, with the same outcome, and each may '
            "be billed. Look for the id in your Kirin account before you run this step again."
        )
    else:
        remedy = (
            "The gateway finds nothing under this id, but its lookup has not been verified to work, so nothing "
            "was submitted again. Look for the id in your Kirin account. If it is not there, increase the "
            'operator\'s `take` and clear the task (before Airflow 3.3: with on_unknown_submit="resubmit", which '
            "submits again automatically and may pay twice)."
        )
    return KirinUnknownSubmitError(
        f"Kirin may have accepted, and may bill, a generation with the external task id {external_task_id}: {why} "
        f"{remedy}",
        external_task_id=external_task_id,
        retryable=retryable,
    )


def other_connection(earlier: EarlierSubmission, conn_id: str) -> KirinUnknownSubmitError:
    """Return the error for a try whose connection is not that of an earlier one.

    :param earlier: what that try submitted
    :param conn_id: this try's connection
    """
    return KirinUnknownSubmitError(
        f"An earlier try of this task submitted {earlier} through the connection {earlier.conn_id}; this try "
        f"uses the connection {conn_id}. A retry never submits a second generation, so nothing was "
        "submitted. Switch back to the first connection, or clear the task to pay through the new one.",
        external_task_id=earlier.external_task_id,
    )


def id_used_up(external_task_id: str, kirin_task_id: str) -> KirinTaskFailedError:
    """Return the error for a user's own id whose generation failed.

    :param external_task_id: the user's id
    :param kirin_task_id: the failed generation
    """
    return KirinTaskFailedError(
        f"Kirin generation {kirin_task_id} with your external_task_id {external_task_id} failed. An id can "
        "be used only once: set another external_task_id (or none) for a new generation.",
        retryable=False,
    )


def id_in_use(external_task_id: str, *, is_ours: bool) -> KirinConflictError:
    """Return the error for an id that the gateway reports as in use, and does not find.

    :param external_task_id: the id
    :param is_ours: whether an earlier submission of this step may have used it
    """
    whose = (
        "An earlier submission of this step probably created it. The next try looks it up again, at no cost."
        if is_ours
        else "This try submitted nothing. Look for that id in your Kirin account."
    )
    return KirinConflictError(
        f"The gateway reports that external task id {external_task_id} is in use, but does not find it. {whose}",
        retryable=is_ours,
    )


def lookup_failed(external_task_id: str, error: KirinError) -> KirinUnavailableError:
    """Return the error for an earlier generation that could not be looked up, which is not the same as "not found".

    :param external_task_id: of that generation
    :param error: the error of the lookup
    """
    return KirinUnavailableError(
        f"Could not look up an earlier generation of this step (external task id {external_task_id}), so "
        f"nothing was submitted. The next try looks it up again. {error}",
        retryable=True,
    )


def lost_generation(kirin_task_id: str, external_task_id: str) -> KirinLostTaskError:
    """Return the error for a recorded generation that the gateway no longer knows.

    :param kirin_task_id: the generation
    :param external_task_id: the id it was submitted under
    """
    return KirinLostTaskError(
        f"This step submitted Kirin generation {kirin_task_id} (external task id {external_task_id}), but the "
        "gateway no longer knows it. Nothing was submitted again. Check that the connection still uses the same "
        "account; for a new, paid generation increase the operator's `take` and clear the task."
    )
