"""Submit a generation at most once: look up before submitting, and after every submission with an unknown outcome.

This module imports neither Airflow nor an HTTP client: the API client, a record that survives a crash and the sleep
function are passed in. The guarantee: it submits only if no earlier submission of the same step can have been accepted,
as far as the gateway's lookup by external task id can be trusted. If it cannot, the submission stops with an error
that contains the id.

The automatic retries of one task are a *round*. A round submits a single generation, even if the arguments change
between its tries: the latest external task id binds all of them until that generation has failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Any, Protocol

from airflow_provider_kirin.api.capacity import capacity_pause, no_place
from airflow_provider_kirin.api.idempotency import attempt_id, is_of_series
from airflow_provider_kirin.api.lookup import LOOKUP_VERIFIED, PATIENCE, Lookup, LookupClient, is_certain_failure
from airflow_provider_kirin.api.pauses import pause
from airflow_provider_kirin.api.record import InFlight, Record
from airflow_provider_kirin.api.retry import (
    LOOKUP_RETRY_DELAYS,
    SubmissionOutcome,
    backoff_delay,
    classify_submission_error,
)
from airflow_provider_kirin.api.submission_errors import (
    OnUnknownSubmit,
    id_in_use,
    id_used_up,
    lookup_failed,
    lost_generation,
    other_connection,
    unknown_submission,
)
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinCapacityError,
    KirinError,
    KirinTaskFailedError,
    KirinUnknownSubmitError,
)

#: How often one try sends the same submission at most, each time after a lookup that found nothing.
MAX_SUBMISSIONS = 3
#: How many generations of one step may fail before it is given up.
MAX_ATTEMPTS = 50

_LEFT_OPEN = "An earlier try ended before the response was recorded."


class GenerationClient(LookupClient, Protocol):
    """The API calls that a submission needs."""

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Submit the step's payload under an external task id. This costs money."""


@dataclass(frozen=True)
class Submitted:
    """The generation that a step submitted or adopted.

    :param kirin_task: the generation, with the external task id it was submitted under
    :param external_task_id: that id
    :param adopted: whether an earlier try submitted it
    :param differs: whether that try may have submitted something other than what this one asks for
    """

    kirin_task: KirinTask
    external_task_id: str
    adopted: bool
    differs: bool = False


class Submission:
    """Submits or adopts the generation of one step.

    :param client: the API client
    :param record: what earlier tries of the step recorded
    :param external_task_id: the step's external task id, the same on every try; empty if there is nothing to submit
    :param is_user_id: whether the user chose that id: then it is sent unchanged, and only once
    :param model: the model to submit to
    :param on_unknown_submit: what to do if a submission may have been accepted and cannot be looked up
    :param lookup_verified: see :data:`.LOOKUP_VERIFIED`
    :param conn_id: the Airflow connection id
    :param capacity_patience: seconds to wait here for a place in a full account; 0 to raise the refusal at once, for a
        caller that waits elsewhere
    :param in_flight: kept up to date with what is in progress, for a caller that may be interrupted
    :param log: the logger to write to; by default this module's
    :param sleep: called with the seconds to wait
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
        lookup_verified: dict[str, bool] = LOOKUP_VERIFIED,
        conn_id: str = "",
        capacity_patience: float = PATIENCE,
        in_flight: InFlight | None = None,
        log: Any = None,
        sleep: Callable[[float], None] = pause,
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
        self._capacity_patience = capacity_patience
        self._lookup = Lookup(client, conn_id=conn_id, sleep=sleep, verified=lookup_verified, log=self.log)
        self._earlier = record.latest()
        self.in_flight = in_flight or InFlight()

    def submit_or_adopt(self) -> Submitted:
        """Return the step's generation: adopt the existing one, or submit a new one.

        :raises KirinUnknownSubmitError: a submission may have been accepted, and cannot be found
        :raises KirinLostTaskError: the recorded generation is no longer known to the gateway
        :raises KirinCapacityError: the account is full; nothing was accepted
        :raises KirinError: the gateway rejected the submission or could not be reached; nothing was accepted
        """
        external_task_id, found = self._look_through_round()
        if external_task_id is None:
            external_task_id, found = self._first_open_attempt()
        return self._submit_with_lookup(external_task_id) if found is None else self._adopt(found, external_task_id)

    def find_existing(self) -> Submitted | None:
        """Return the step's generation if there is one, without submitting.

        Raises the same errors as :meth:`submit_or_adopt`.
        """
        external_task_id, found = self._look_through_round()
        if external_task_id is None and self.external_task_id:
            external_task_id, found = self._first_open_attempt()
        if external_task_id and found is None and self.record.has_unresolved_intent(external_task_id):
            found = self._search(external_task_id, _LEFT_OPEN)
        return self._adopt(found, external_task_id) if external_task_id and found else None

    def _look_through_round(self) -> tuple[str | None, KirinTask | None]:
        """Return the external task id that an earlier try of this round has bound, and its generation.

        Without an id, this try uses its own. Without a generation, one may have to be submitted under the returned id.
        """
        earlier = self._earlier
        if earlier is None or not earlier.is_same_round:
            return None, None
        is_own = self._is_own(earlier.external_task_id)
        # A user's id is the same on every connection. A recorded generation is looked up and never submitted again.
        if earlier.conn_id != self._conn_id and not (is_own and earlier.kirin_task_id):
            raise other_connection(earlier, self._conn_id)
        if is_own:
            return None, None
        external_task_id = earlier.external_task_id
        kirin_task = self._find(external_task_id)
        if kirin_task is None or not is_certain_failure(kirin_task):
            return external_task_id, kirin_task
        self._note_failed(external_task_id, kirin_task)
        return None, None

    def _first_open_attempt(self) -> tuple[str, KirinTask | None]:
        """Return the step's first external task id without a failed generation, and its generation if there is one."""
        for number in range(1, MAX_ATTEMPTS + 1):
            external_task_id = self.record.sent_as(attempt_id(self.external_task_id, number))
            kirin_task = self._find(external_task_id)
            if kirin_task is None or not is_certain_failure(kirin_task):
                return external_task_id, kirin_task
            self._note_failed(external_task_id, kirin_task)
            if self.is_user_id:
                raise id_used_up(external_task_id, kirin_task.id)
        raise KirinTaskFailedError(
            f"{MAX_ATTEMPTS} generations of this step have failed; no more are submitted.", retryable=False
        )

    def _note_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        self.record.mark_failed(external_task_id, kirin_task)
        cost = kirin_task.usage.cost if kirin_task.usage else None
        billed = f" It cost {cost:f} USD." if cost else ""
        self.log.info(
            "Kirin generation %s (external task id %s) failed earlier.%s", kirin_task.id, external_task_id, billed
        )

    def _is_own(self, external_task_id: str) -> bool:
        """Return whether an external task id belongs to what this try would submit."""
        own = self.record.sent_as(self.external_task_id)
        return (
            external_task_id == own
            if self.is_user_id
            else is_of_series(external_task_id, own) or is_of_series(external_task_id, self.external_task_id)
        )

    def _model_of(self, external_task_id: str) -> str:
        """Return the model that was used with an external task id; empty if it is not known."""
        if self._earlier and self._earlier.external_task_id == external_task_id:
            return self._earlier.model
        # A generated id includes a hash of the model. A user's id may have been used with any model.
        return "" if self.is_user_id or not is_of_series(external_task_id, self.external_task_id) else self.model

    def _find(self, external_task_id: str, *, has_unresolved_intent: bool = False) -> KirinTask | None:
        """Return the generation of an earlier try; None if the gateway does not know one."""
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
            # "Not found" is not "could not look up": nothing is submitted before the gateway has responded.
            raise lookup_failed(external_task_id, error) from error

    def _fetch(self, kirin_task_id: str, external_task_id: str) -> KirinTask:
        """Fetch a recorded generation. A 404 may be replication lag and never leads to another submission."""
        model = self._model_of(external_task_id)
        if found := self._lookup.recorded(kirin_task_id, external_task_id, model=model):
            return found
        raise lost_generation(kirin_task_id, external_task_id)

    def _look_up(self, external_task_id: str, *, has_unresolved_intent: bool = False) -> KirinTask | None:
        return self._lookup.by_external_id(
            external_task_id, model=self._model_of(external_task_id), has_unresolved_intent=has_unresolved_intent
        )

    def _adopt(self, kirin_task: KirinTask, external_task_id: str) -> Submitted:
        self.record.mark_submitted(external_task_id, kirin_task.id)
        differs = not self._is_own(external_task_id)
        if differs:
            self.log.warning(
                "Kirin generation %s (%s, external task id %s) was submitted by an earlier try of this task, and the "
                "payload, model, `take` or external_task_id of this try differs. Adopting it at no further cost: a "
                "retry never submits a second generation. To generate with the new arguments, clear the task once this "
                "generation has ended.",
                *(kirin_task.id, kirin_task.status, external_task_id),
            )
        else:
            self.log.info(
                "Kirin generation %s (%s, external task id %s) already exists. Adopting it at no further cost. "
                "For a new generation %s.",
                *(kirin_task.id, kirin_task.status, external_task_id),
                "set another external_task_id" if self.is_user_id else "of the same payload increase `take`",
            )
        # The response about a recorded Kirin task id may not repeat it.
        kirin_task = replace(kirin_task, external_task_id=external_task_id)
        return Submitted(kirin_task, external_task_id, adopted=True, differs=differs)

    def _submit_with_lookup(self, external_task_id: str) -> Submitted:
        """Submit a generation, and look it up whenever the outcome of a submission is unknown.

        That is before the first POST, if an earlier try left its outcome open, and after each POST that may have been
        accepted (a lost response, a 504): there is no other POST without a lookup in between.
        """
        lookup_untrusted = False
        has_unresolved_intent = self.record.has_unresolved_intent(external_task_id)
        if has_unresolved_intent:
            self.log.warning(
                "An earlier try may have submitted %s; looking it up before submitting anything.", external_task_id
            )
            if found := self._search(external_task_id, _LEFT_OPEN):
                return self._adopt(found, external_task_id)
            lookup_untrusted = not self._lookup.is_verified
            if not self._is_own(external_task_id) and (own := self._first_open_attempt())[1]:
                return self._adopt(own[1], own[0])
        if self._earlier and not self._earlier.is_same_round and not self._is_own(self._earlier.external_task_id):
            self.log.warning(
                "This task was cleared with another payload, model or `take`, so a new generation is submitted. "
                "Submitted before: %s.",
                self._earlier,
            )
        for left in reversed(range(MAX_SUBMISSIONS)):
            had_unresolved_intent = has_unresolved_intent
            outcome = self._submit_with_place(external_task_id, has_unresolved_intent=has_unresolved_intent)
            if isinstance(outcome, Submitted):
                return outcome
            lost, has_unresolved_intent = outcome, True
            self.log.warning("Looking up the generation %s after: %s", external_task_id, lost)
            exists = classify_submission_error(lost) is SubmissionOutcome.ALREADY_EXISTS
            if found := self._search(external_task_id, str(lost), exists=exists, is_ours=had_unresolved_intent):
                return self._adopt(found, external_task_id)
            if not left or (lookup_untrusted and not self._lookup.is_verified):
                break
            # on_unknown_submit="resubmit" permits one submission that may be billed twice, not a series of them.
            lookup_untrusted = not self._lookup.is_verified
            self.log.warning("Kirin does not know a generation %s; submitting again.", external_task_id)
        raise self._unknown_submit_error(external_task_id, str(lost), retryable=self._lookup.is_verified) from lost

    def _submit_with_place(self, external_task_id: str, *, has_unresolved_intent: bool) -> Submitted | KirinError:
        """Submit as :meth:`_submit` does, and wait for a place while the account is full."""
        waited, refusals = 0.0, 0
        while True:
            try:
                return self._submit(external_task_id, has_unresolved_intent=has_unresolved_intent)
            except KirinCapacityError as error:
                if not self._capacity_patience:
                    raise
                if waited >= self._capacity_patience:
                    raise no_place(error, waited) from error
                refusals += 1
                delay = max(capacity_pause(refusals), error.retry_after or 0.0)
                delay = min(delay, self._capacity_patience - waited)
                self.log.warning("The account is full; submitting again in %.0f s: %s", delay, error)
                self._sleep(delay)
                waited += delay
            if found := self._find(external_task_id, has_unresolved_intent=True):
                return self._adopt(found, external_task_id)

    def _submit(self, external_task_id: str, *, has_unresolved_intent: bool) -> Submitted | KirinError:
        """Submit. After a temporary rejection, wait, check that nothing was accepted, and submit again.

        :param has_unresolved_intent: whether an earlier submission is still unresolved: a later rejection must not
            clear its intent
        :return: the submitted generation, or the error if something may have been accepted
        """
        spent, attempt = 0.0, 0
        while True:
            self.record.mark_intent(
                external_task_id, instead_of=None if self._is_own(external_task_id) else self.external_task_id
            )
            self.in_flight.external_task_id = external_task_id
            try:
                kirin_task = self.client.submit_as(external_task_id)
            except KirinError as error:
                if classify_submission_error(error) is not SubmissionOutcome.REJECTED:
                    return error
                if not has_unresolved_intent:
                    self.record.clear_intent(external_task_id)
                self.in_flight.external_task_id = None
                attempt += 1
                delay = backoff_delay(error, attempt)
                spent += delay
                if not error.retryable or spent > PATIENCE or isinstance(error, KirinCapacityError):
                    if has_unresolved_intent:
                        error.append(
                            f"An earlier submission may be billed; its external task id is {external_task_id}."
                        )
                    raise
                self.log.warning("Submission rejected; retrying in %.0f s: %s", delay, error)
                self._sleep(delay)
                # A lookup is free, and avoids paying twice if the gateway accepted what it reported as rejected.
                if found := self._find(external_task_id, has_unresolved_intent=True):
                    return self._adopt(found, external_task_id)
            else:
                # Logged before it is recorded: if recording fails, the log still has the id of what was paid for.
                self.log.info("Submitted Kirin generation %s.", kirin_task.id)
                self.record.mark_submitted(external_task_id, kirin_task.id)
                self.in_flight.external_task_id = None
                return Submitted(kirin_task, external_task_id, adopted=False)

    def _search(
        self, external_task_id: str, why: str, *, exists: bool = False, is_ours: bool = False
    ) -> KirinTask | None:
        """Look up a generation that may have been accepted. None means that it is safe to submit.

        :param external_task_id: the external task id of the unresolved submission
        :param why: why its outcome is unknown
        :param exists: whether the gateway reported that the id is in use
        :param is_ours: whether an earlier submission of this step may have used it
        """
        if self.record.kirin_task_id(external_task_id):
            # Another try, which was taken for dead, has recorded it meanwhile.
            return self._find(external_task_id)
        try:
            for delay in (0.0, *LOOKUP_RETRY_DELAYS):
                self._sleep(delay)
                if found := self._look_up(external_task_id, has_unresolved_intent=True):
                    return found
        except KirinError as error:
            raise self._unknown_submit_error(
                external_task_id, f"{why}; and looking it up failed: {error}", retryable=True
            ) from error
        if exists:
            raise id_in_use(external_task_id, is_ours=is_ours)
        try:
            is_certain = self._lookup.verify(self.record.known_generations())
        except KirinError as error:
            raise self._unknown_submit_error(
                external_task_id, f"{why}; and the lookup could not be verified: {error}", retryable=True
            ) from error
        if is_certain or self.on_unknown_submit == "resubmit":
            return None
        raise self._unknown_submit_error(external_task_id, why, retryable=False)

    def _unknown_submit_error(self, external_task_id: str, why: str, *, retryable: bool) -> KirinUnknownSubmitError:
        return unknown_submission(
            external_task_id,
            why,
            on_unknown_submit=self.on_unknown_submit,
            lookup_verified=self._lookup.is_verified,
            retryable=retryable,
        )
