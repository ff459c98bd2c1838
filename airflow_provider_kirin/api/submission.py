"""Buy one generation, once: look up before paying, and after every payment whose outcome is unknown.

This module has no Airflow and no HTTP in it: a gateway, a record that survives a crash and a clock are given. What it
promises: it submits only if no earlier submission of the same step can have been accepted, as far as the gateway's
look-up by external task id can be trusted; if it cannot be trusted, it stops with an error that names the id.

The automatic retries of one task are a *round*. A round buys one generation, whatever its tries want to buy: its latest
external task id binds all of them until that generation has failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Literal, Protocol

from airflow_provider_kirin.api.idempotency import attempt_id, is_of_series
from airflow_provider_kirin.api.lookup import PATIENCE, Lookup, LookupClient
from airflow_provider_kirin.api.record import Record
from airflow_provider_kirin.api.retry import (
    LOOKUP_RETRY_DELAYS,
    SubmissionOutcome,
    backoff_delay,
    classify_submission_error,
)
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinConflictError,
    KirinError,
    KirinLostTaskError,
    KirinTaskFailedError,
    KirinUnavailableError,
    KirinUnknownSubmitError,
)

#: The same submission is sent so often at most in one try, each time after a look-up said that nothing is there.
MAX_SUBMISSIONS = 3
#: A step whose generations fail again and again stops here.
MAX_ATTEMPTS = 50

_LEFT_OPEN = "An earlier try ended before its answer was kept."

OnUnknownSubmit = Literal["stop", "resubmit"]


class GenerationClient(LookupClient, Protocol):
    """What is asked of the API."""

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Send the step's payload under an external task id. Costs money."""


@dataclass(frozen=True)
class Submitted:
    """What a step got.

    :param kirin_task: the generation
    :param external_task_id: its external task id
    :param adopted: whether an earlier try had bought it
    :param differs: whether that try may have bought something else than this one would have
    """

    kirin_task: KirinTask
    external_task_id: str
    adopted: bool
    differs: bool = False


class Submission:
    """One step's purchase.

    :param client: the API
    :param record: what earlier tries left behind
    :param external_task_id: the step's, the same on every try; empty if there is nothing to buy
    :param is_user_id: whether the user chose it: then it is sent as given, and there is no series
    :param model: the model that is bought
    :param on_unknown_submit: what to do if a submission may have been accepted and cannot be looked up
    :param lookup_verified: connection to whether its look-up works, kept for the life of the process
    :param conn_id: the connection
    :param log: a logger
    :param sleep: pauses
    """

    def __init__(
        self,
        client: GenerationClient,
        record: Record,
        *,
        external_task_id: str,
        is_user_id: bool = False,
        model: str = "",
        on_unknown_submit: OnUnknownSubmit = "stop",
        lookup_verified: dict[str, bool] | None = None,
        conn_id: str = "",
        log: Any = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client = client
        self.record = record
        self.external_task_id = external_task_id
        self.is_user_id = is_user_id
        self.model = model
        self.on_unknown_submit = on_unknown_submit
        self.log = log or getLogger(__name__)
        self._conn_id = conn_id
        self._sleep = sleep
        self._lookup = Lookup(client, conn_id=conn_id, sleep=sleep, verified=lookup_verified, log=self.log)
        self._earlier = record.latest()
        #: The external task id under which a submission may be on its way, for whoever has to explain a kill.
        self.in_flight: str | None = None

    def submit_or_adopt(self) -> Submitted:
        """Return the step's generation: adopted if there is one, otherwise bought.

        :raises KirinUnknownSubmitError: it may have been bought, and cannot be found
        :raises KirinLostTaskError: it was bought, and the gateway does not know it any more
        :raises KirinError: the gateway refused, or could not be asked; nothing was bought
        """
        external_task_id, found = self._look_through_round()
        if external_task_id is None:
            external_task_id, found = self._first_open_attempt()
        return self._submit_with_lookup(external_task_id) if found is None else self._adopt(found, external_task_id)

    def find_existing(self) -> Submitted | None:
        """Return the step's generation if there is one, and buy nothing. What is raised is as for
        :meth:`submit_or_adopt`.
        """
        external_task_id, found = self._look_through_round()
        if external_task_id is None and self.external_task_id:
            external_task_id, found = self._first_open_attempt()
        if external_task_id and found is None and self.record.has_unresolved_intent(external_task_id):
            found = self._search(external_task_id, _LEFT_OPEN)
        return self._adopt(found, external_task_id) if external_task_id and found else None

    def _look_through_round(self) -> tuple[str | None, KirinTask | None]:
        """Return the external task id that binds this try, used by an earlier one of its round, and its generation.

        If none binds, this try's own counts. If there is no generation, it may have to be bought, under that id.
        """
        earlier = self._earlier
        if earlier is None or not earlier.is_same_round:
            return None, None
        is_own = self._is_own(earlier.external_task_id)
        # A user's own id is the same on every connection. What is on record is asked for, and never bought again.
        if earlier.conn_id != self._conn_id and not (is_own and earlier.kirin_task_id):
            raise KirinUnknownSubmitError(
                f"An earlier try of this task bought {earlier}, through the connection {earlier.conn_id}; this try has "
                f"the connection {self._conn_id}. A retry does not buy a second one, so nothing was submitted. Give "
                "the first connection again, or clear the task to pay through the new one.",
                external_task_id=earlier.external_task_id,
            )
        if is_own:
            return None, None
        external_task_id = earlier.external_task_id
        kirin_task = self._find(external_task_id)
        if kirin_task is None or not _is_over(kirin_task):
            return external_task_id, kirin_task
        self._note_failed(external_task_id, kirin_task)
        return None, None

    def _first_open_attempt(self) -> tuple[str, KirinTask | None]:
        """Return the first external task id whose generation has not failed, and that generation, if there is one."""
        for number in range(1, MAX_ATTEMPTS + 1):
            external_task_id = self.record.sent_as(attempt_id(self.external_task_id, number))
            kirin_task = self._find(external_task_id)
            if kirin_task is None or not _is_over(kirin_task):
                return external_task_id, kirin_task
            self._note_failed(external_task_id, kirin_task)
            if self.is_user_id:
                raise KirinTaskFailedError(
                    f"Kirin generation {kirin_task.id} with your external_task_id {external_task_id} failed. An id can "
                    "be used "
                    "once: give another external_task_id (or none) for a new generation.",
                    retryable=False,
                )
        raise KirinTaskFailedError(
            f"{MAX_ATTEMPTS} generations of this step failed; it is not tried again.", retryable=False
        )

    def _note_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        self.record.mark_failed(external_task_id, kirin_task)
        cost = kirin_task.usage.cost if kirin_task.usage else None
        billed = f" It cost {cost:f} USD." if cost else ""
        self.log.info(
            "Kirin generation %s (external task id %s) failed earlier.%s", kirin_task.id, external_task_id, billed
        )

    def _is_own(self, external_task_id: str) -> bool:
        """Return whether an external task id belongs to what this try would buy."""
        own = self.record.sent_as(self.external_task_id)
        return (
            external_task_id == own
            if self.is_user_id
            else is_of_series(external_task_id, own) or is_of_series(external_task_id, self.external_task_id)
        )

    def _model_of(self, external_task_id: str) -> str:
        """Return the model that was submitted under an external task id; empty if that is not known."""
        if self._earlier and self._earlier.external_task_id == external_task_id:
            return self._earlier.model
        # The model is part of a hash. A user's own id may have been used for anything.
        return "" if self.is_user_id or not is_of_series(external_task_id, self.external_task_id) else self.model

    def _find(self, external_task_id: str, *, has_unresolved_intent: bool = False) -> KirinTask | None:
        """Look for an earlier try's generation; None if the gateway knows none."""
        on_record = self.record.kirin_task_id(external_task_id)
        try:
            return (
                self._fetch(on_record, external_task_id)
                if on_record
                else self._look_up(external_task_id, has_unresolved_intent=has_unresolved_intent)
            )
        except KirinError as error:
            if not error.retryable:
                raise
            # Not found and could not look are different: nothing is paid before the gateway has answered.
            raise KirinUnavailableError(
                f"Could not look for an earlier generation of this step (external task id {external_task_id}), so "
                "nothing was "
                f"submitted; the next try looks again. {error}",
                retryable=True,
            ) from error

    def _fetch(self, kirin_task_id: str, external_task_id: str) -> KirinTask:
        """Ask for a generation that is on record. A 404 may be lag; it never leads to another submission."""
        if found := self._lookup.by_id(kirin_task_id):
            return found
        raise KirinLostTaskError(
            f"This step bought Kirin generation {kirin_task_id} (external task id {external_task_id}), and the gateway "
            "does not "
            "know it any more. Nothing was submitted anew. Check the connection's account; for a new, paid generation "
            "increase the operator's `take` and clear the task."
        )

    def _look_up(self, external_task_id: str, *, has_unresolved_intent: bool = False) -> KirinTask | None:
        return self._lookup.by_external_id(
            external_task_id, model=self._model_of(external_task_id), has_unresolved_intent=has_unresolved_intent
        )

    def _adopt(self, kirin_task: KirinTask, external_task_id: str) -> Submitted:
        self.record.mark_submitted(external_task_id, kirin_task.id)
        differs = not self._is_own(external_task_id)
        if differs:
            self.log.warning(
                "Kirin generation %s (%s, external task id %s) was bought by an earlier try of this task, and the "
                "payload, model, `take` or external_task_id of this try differs. It is adopted, and nothing is paid: a "
                "retry never buys a second one. For a generation of what is asked for now clear the task when it ends.",
                *(kirin_task.id, kirin_task.status, external_task_id),
            )
        else:
            self.log.info(
                "Kirin generation %s (%s, external task id %s) exists already. It is adopted, and nothing is paid. "
                "For a new generation %s.",
                *(kirin_task.id, kirin_task.status, external_task_id),
                "give another external_task_id" if self.is_user_id else "of the same payload increase the `take`",
            )
        return Submitted(kirin_task, external_task_id, adopted=True, differs=differs)

    def _submit_with_lookup(self, external_task_id: str) -> Submitted:
        lookup_untrusted = False
        has_unresolved_intent = self.record.has_unresolved_intent(external_task_id)
        if has_unresolved_intent:
            self.log.warning(
                "An earlier try may have submitted %s; looking for it before anything is paid.", external_task_id
            )
            if found := self._search(external_task_id, _LEFT_OPEN):
                return self._adopt(found, external_task_id)
            lookup_untrusted = not self._lookup.is_verified
            if not self._is_own(external_task_id) and (own := self._first_open_attempt())[1]:
                return self._adopt(own[1], own[0])
        if self._earlier and not self._earlier.is_same_round and not self._is_own(self._earlier.external_task_id):
            self.log.warning(
                "This task was cleared with another payload, model or `take`, so it buys anew. It bought before: %s.",
                self._earlier,
            )
        for left in reversed(range(MAX_SUBMISSIONS)):
            had_unresolved_intent = has_unresolved_intent
            outcome = self._submit(external_task_id, has_unresolved_intent=has_unresolved_intent)
            if isinstance(outcome, Submitted):
                return outcome
            lost, has_unresolved_intent = outcome, True
            self.log.warning("Looking for the generation %s after: %s", external_task_id, lost)
            exists = classify_submission_error(lost) is SubmissionOutcome.ALREADY_EXISTS
            if found := self._search(external_task_id, str(lost), exists=exists, is_ours=had_unresolved_intent):
                return self._adopt(found, external_task_id)
            if not left or (lookup_untrusted and not self._lookup.is_verified):
                break
            # Without a look-up that works the user allows one that may be paid twice, and not one after the other.
            lookup_untrusted = not self._lookup.is_verified
            self.log.warning("Kirin knows no generation %s; submitting again.", external_task_id)
        raise self._unknown_submit_error(external_task_id, str(lost), retryable=self._lookup.is_verified) from lost

    def _submit(self, external_task_id: str, *, has_unresolved_intent: bool) -> Submitted | KirinError:
        """Submit; after a refusal that may pass wait, look whether it was one, and submit again.

        :param has_unresolved_intent: whether an earlier submission left a mark, which a later refusal must not wipe out
        :return: the error, if something may have been accepted
        """
        spent, attempt = 0.0, 0
        while True:
            self.record.mark_intent(
                external_task_id, instead_of=None if self._is_own(external_task_id) else self.external_task_id
            )
            self.in_flight = external_task_id
            try:
                kirin_task = self.client.submit_as(external_task_id)
            except KirinError as error:
                if classify_submission_error(error) is not SubmissionOutcome.REJECTED:
                    return error
                if not has_unresolved_intent:
                    self.record.clear_intent(external_task_id)
                self.in_flight = None
                attempt += 1
                delay = backoff_delay(error, attempt)
                spent += delay
                if not error.retryable or spent > PATIENCE:
                    if has_unresolved_intent:
                        _append(
                            error, f"An earlier submission may be billed; its external task id is {external_task_id}."
                        )
                    raise
                self.log.warning("Submission rejected; retrying in %.0f s: %s", delay, error)
                self._sleep(delay)
                # Free, and a gateway that rejects and accepts all the same is not paid once more.
                if found := self._find(external_task_id, has_unresolved_intent=True):
                    return self._adopt(found, external_task_id)
            else:
                # Before it is kept: should that fail, the log names what was paid.
                self.log.info("Kirin generation %s is submitted.", kirin_task.id)
                self.record.mark_submitted(external_task_id, kirin_task.id)
                self.in_flight = None
                return Submitted(kirin_task, external_task_id, adopted=False)

    def _search(
        self, external_task_id: str, why: str, *, exists: bool = False, is_ours: bool = False
    ) -> KirinTask | None:
        """Look for a generation that may have been bought. None means that it may be bought now.

        :param external_task_id: its external task id
        :param why: what left it unknown
        :param exists: the gateway itself said that there is one
        :param is_ours: whether that can be an earlier submission of this step
        """
        try:
            for delay in (0.0, *LOOKUP_RETRY_DELAYS):
                self._sleep(delay)
                if found := self._look_up(external_task_id, has_unresolved_intent=True):
                    return found
        except KirinError as error:
            raise self._unknown_submit_error(
                external_task_id, f"{why}; and it cannot be looked up: {error}", retryable=True
            ) from error
        if exists:
            whose = (
                "An earlier submission of this step bought it, it seems. Another try looks again, and pays nothing."
                if is_ours
                else "Nothing was bought by this try. Look for that id in your Kirin account."
            )
            raise KirinConflictError(
                f"The gateway says that external task id {external_task_id} is in use, and does not find it. {whose}",
                retryable=is_ours,
            )
        try:
            is_certain = self._lookup.verify(self.record.known_generations())
        except KirinError as error:
            raise self._unknown_submit_error(
                external_task_id, f"{why}; and the look-up cannot be proven: {error}", retryable=True
            ) from error
        if is_certain or self.on_unknown_submit == "resubmit":
            return None
        raise self._unknown_submit_error(external_task_id, why, retryable=False)

    def _unknown_submit_error(self, external_task_id: str, why: str, *, retryable: bool) -> KirinUnknownSubmitError:
        if retryable and (self._lookup.is_verified or self.on_unknown_submit == "stop"):
            remedy = "Another try cannot pay twice: it looks for this id first."
        elif retryable:
            remedy = "Another try looks for this id first. If it finds nothing it submits again, and may pay twice."
        elif self.on_unknown_submit == "resubmit":
            remedy = (
                'It was submitted again, as on_unknown_submit="resubmit" allows, with the same end, and each may be '
                "billed. Look for the id in your Kirin account before you run this step again."
            )
        else:
            remedy = (
                "The gateway finds nothing under this id, and its look-up is not proven to work, so nothing was "
                "submitted again. Look for the id in your Kirin account. If it is not there, increase the "
                'operator\'s `take` and clear the task (before Airflow 3.3: with on_unknown_submit="resubmit", which '
                "submits again by itself, and may pay twice)."
            )
        return KirinUnknownSubmitError(
            f"Kirin may have accepted, and may bill, a generation with the external task id {external_task_id}: {why} "
            f"{remedy}",
            external_task_id=external_task_id,
            retryable=retryable,
        )


def _append(error: KirinError, said: str) -> None:
    """Add a sentence to an error's message."""
    error.message = f"{error.message} {said}"
    error.args = (error.message,)


def _is_over(kirin_task: KirinTask) -> bool:
    """Return whether a generation failed for sure, so that the next one may be bought.

    An unknown status with an error ends a wait. It is no proof: what is "retrying" may still become a video.
    """
    is_guess = bool(kirin_task.raw_status) and kirin_task.has_unknown_status
    return kirin_task.status == "failed" and not is_guess
