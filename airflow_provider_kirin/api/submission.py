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

from airflow_provider_kirin.api.idempotency import is_of_series, nth
from airflow_provider_kirin.api.lookup import PATIENCE, Lookup, LookupClient
from airflow_provider_kirin.api.record import Record
from airflow_provider_kirin.api.retry import LAG_PAUSES, Verdict, judge_submission, pause
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
MOST_SUBMISSIONS = 3
#: A step whose generations fail again and again stops here.
LONGEST_SERIES = 50

_LEFT_OPEN = "An earlier try ended before its answer was kept."

OnUnknownSubmit = Literal["stop", "resubmit"]


class Gateway(LookupClient, Protocol):
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

    :param gateway: the API
    :param record: what earlier tries left behind
    :param external_task_id: the step's, the same on every try; empty if there is nothing to buy
    :param is_own_id: whether the user chose it: then it is sent as given, and there is no series
    :param model: the model that is bought
    :param on_unknown_submit: what to do if a submission may have been accepted and cannot be looked up
    :param proofs: connection to whether its look-up works, kept for the life of the process
    :param conn_id: the connection
    :param log: a logger
    :param sleep: pauses
    """

    def __init__(
        self,
        gateway: Gateway,
        record: Record,
        *,
        external_task_id: str,
        is_own_id: bool = False,
        model: str = "",
        on_unknown_submit: OnUnknownSubmit = "stop",
        proofs: dict[str, bool] | None = None,
        conn_id: str = "",
        log: Any = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.gateway = gateway
        self.record = record
        self.external_task_id = external_task_id
        self.is_own_id = is_own_id
        self.model = model
        self.on_unknown_submit = on_unknown_submit
        self.log = log or getLogger(__name__)
        self._conn_id = conn_id
        self._sleep = sleep
        self._lookup = Lookup(gateway, conn_id=conn_id, sleep=sleep, verified=proofs, log=self.log)
        self._earlier = record.latest()
        #: The external task id under which a submission may be on its way, for whoever has to explain a kill.
        self.in_flight: str | None = None

    def run(self) -> Submitted:
        """Return the step's generation: adopted if there is one, otherwise bought.

        :raises KirinUnknownSubmitError: it may have been bought, and cannot be found
        :raises KirinLostTaskError: it was bought, and the gateway does not know it any more
        :raises KirinError: the gateway refused, or could not be asked; nothing was bought
        """
        name, found = self._look_through_round()
        if name is None:
            name, found = self._look_through_series()
        return self._buy(name) if found is None else self._adopt(found, name)

    def find(self) -> Submitted | None:
        """Return the step's generation if there is one, and buy nothing. What is raised is as for :meth:`run`."""
        name, found = self._look_through_round()
        if name is None and self.external_task_id:
            name, found = self._look_through_series()
        if name and found is None and self.record.may_have_posted(name):
            found = self._search(name, _LEFT_OPEN)
        return self._adopt(found, name) if name and found else None

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
        name = earlier.external_task_id
        kirin_task = self._find(name)
        if kirin_task is None or kirin_task.status != "failed":
            return name, kirin_task
        self._note_failed(name, kirin_task)
        return None, None

    def _look_through_series(self) -> tuple[str, KirinTask | None]:
        """Return the first external task id whose generation has not failed, and that generation, if there is one."""
        for number in range(1, LONGEST_SERIES + 1):
            name = self.record.sent_as(nth(self.external_task_id, number))
            kirin_task = self._find(name)
            if kirin_task is None or kirin_task.status != "failed":
                return name, kirin_task
            self._note_failed(name, kirin_task)
            if self.is_own_id:
                raise KirinTaskFailedError(
                    f"Kirin generation {kirin_task.id} with your external_task_id {name} failed. An id can be used "
                    "once: give another external_task_id (or none) for a new generation.",
                    retryable=False,
                )
        raise KirinTaskFailedError(
            f"{LONGEST_SERIES} generations of this step failed; it is not tried again.", retryable=False
        )

    def _note_failed(self, name: str, kirin_task: KirinTask) -> None:
        self.record.failed(name, kirin_task)
        cost = kirin_task.usage.cost if kirin_task.usage else None
        billed = f" It cost {cost:f} USD." if cost else ""
        self.log.info("Kirin generation %s (external task id %s) failed earlier.%s", kirin_task.id, name, billed)

    def _is_own(self, name: str) -> bool:
        """Return whether an external task id belongs to what this try would buy."""
        own = self.record.sent_as(self.external_task_id)
        return name == own if self.is_own_id else is_of_series(name, own) or is_of_series(name, self.external_task_id)

    def _model_of(self, name: str) -> str:
        """Return the model that was submitted under an external task id; empty if that is not known."""
        if self._earlier and self._earlier.external_task_id == name:
            return self._earlier.model
        # The model is part of a hash. A user's own id may have been used for anything.
        return "" if self.is_own_id or not is_of_series(name, self.external_task_id) else self.model

    def _find(self, name: str, *, in_doubt: bool = False) -> KirinTask | None:
        """Look for an earlier try's generation; None if the gateway knows none."""
        on_record = self.record.kirin_task_id(name)
        try:
            return self._fetch(on_record, name) if on_record else self._look_up(name, in_doubt=in_doubt)
        except KirinError as error:
            if not error.retryable:
                raise
            # Not found and could not look are different: nothing is paid before the gateway has answered.
            raise KirinUnavailableError(
                f"Could not look for an earlier generation of this step (external task id {name}), so nothing was "
                f"submitted; the next try looks again. {error}",
                retryable=True,
            ) from error

    def _fetch(self, kirin_task_id: str, name: str) -> KirinTask:
        """Ask for a generation that is on record. A 404 may be lag; it never leads to another submission."""
        if found := self._lookup.by_id(kirin_task_id):
            return found
        raise KirinLostTaskError(
            f"This step bought Kirin generation {kirin_task_id} (external task id {name}), and the gateway does not "
            "know it any more. Nothing was submitted anew. Check the connection's account; for a new, paid generation "
            "increase the operator's `take` and clear the task."
        )

    def _look_up(self, name: str, *, in_doubt: bool = False) -> KirinTask | None:
        return self._lookup.by_external_id(name, model=self._model_of(name), in_doubt=in_doubt)

    def _adopt(self, kirin_task: KirinTask, name: str) -> Submitted:
        self.record.bought(name, kirin_task.id)
        differs = not self._is_own(name)
        if differs:
            self.log.warning(
                "Kirin generation %s (%s, external task id %s) was bought by an earlier try of this task, and the "
                "payload, model, `take` or external_task_id of this try differs. It is adopted, and nothing is paid: a "
                "retry never buys a second one. For a generation of what is asked for now clear the task when it ends.",
                *(kirin_task.id, kirin_task.status, name),
            )
        else:
            self.log.info(
                "Kirin generation %s (%s, external task id %s) exists already. It is adopted, and nothing is paid. "
                "For a new generation %s.",
                *(kirin_task.id, kirin_task.status, name),
                "give another external_task_id" if self.is_own_id else "of the same payload increase the `take`",
            )
        return Submitted(kirin_task, name, adopted=True, differs=differs)

    def _buy(self, name: str) -> Submitted:
        is_blind = False
        in_doubt = self.record.may_have_posted(name)
        if in_doubt:
            self.log.warning("An earlier try may have submitted %s; looking for it before anything is paid.", name)
            if found := self._search(name, _LEFT_OPEN):
                return self._adopt(found, name)
            is_blind = not self._lookup.is_verified
            if not self._is_own(name) and (own := self._look_through_series())[1]:
                return self._adopt(own[1], own[0])
        if self._earlier and not self._earlier.is_same_round and not self._is_own(self._earlier.external_task_id):
            self.log.warning(
                "This task was cleared with another payload, model or `take`, so it buys anew. It bought before: %s.",
                self._earlier,
            )
        for left in reversed(range(MOST_SUBMISSIONS)):
            was_in_doubt = in_doubt
            outcome = self._submit(name, in_doubt=in_doubt)
            if isinstance(outcome, Submitted):
                return outcome
            lost, in_doubt = outcome, True
            self.log.warning("Looking for the generation %s after: %s", name, lost)
            exists = judge_submission(lost) is Verdict.EXISTS
            if found := self._search(name, str(lost), exists=exists, is_ours=was_in_doubt):
                return self._adopt(found, name)
            if not left or (is_blind and not self._lookup.is_verified):
                break
            # Without a look-up that works the user allows one that may be paid twice, and not one after the other.
            is_blind = not self._lookup.is_verified
            self.log.warning("Kirin knows no generation %s; submitting again.", name)
        raise self._unknown(name, str(lost), retryable=self._lookup.is_verified) from lost

    def _submit(self, name: str, *, in_doubt: bool) -> Submitted | KirinError:
        """Submit; after a refusal that may pass wait, look whether it was one, and submit again.

        :param in_doubt: whether an earlier submission left a mark, which a later refusal must not wipe out
        :return: the error, if something may have been accepted
        """
        spent, attempt = 0.0, 0
        while True:
            self.record.posting(name, instead_of=None if self._is_own(name) else self.external_task_id)
            self.in_flight = name
            try:
                kirin_task = self.gateway.submit_as(name)
            except KirinError as error:
                if judge_submission(error) is not Verdict.REFUSED:
                    return error
                if not in_doubt:
                    self.record.refused(name)
                self.in_flight = None
                attempt += 1
                delay = pause(error, attempt)
                spent += delay
                if not error.retryable or spent > PATIENCE:
                    raise
                self.log.warning("Submission rejected; retrying in %.0f s: %s", delay, error)
                self._sleep(delay)
                # Free, and a gateway that rejects and accepts all the same is not paid once more.
                if found := self._find(name, in_doubt=True):
                    return self._adopt(found, name)
            else:
                # Before it is kept: should that fail, the log names what was paid.
                self.log.info("Kirin generation %s is submitted.", kirin_task.id)
                self.record.bought(name, kirin_task.id)
                self.in_flight = None
                return Submitted(kirin_task, name, adopted=False)

    def _search(self, name: str, why: str, *, exists: bool = False, is_ours: bool = False) -> KirinTask | None:
        """Look for a generation that may have been bought. None means that it may be bought now.

        :param name: its external task id
        :param why: what left it unknown
        :param exists: the gateway itself said that there is one
        :param is_ours: whether that can be an earlier submission of this step
        """
        try:
            for delay in (0.0, *LAG_PAUSES):
                self._sleep(delay)
                if found := self._look_up(name, in_doubt=True):
                    return found
        except KirinError as error:
            raise self._unknown(name, f"{why}; and it cannot be looked up: {error}", retryable=True) from error
        if exists:
            whose = (
                "An earlier submission of this step bought it, it seems. Another try looks again, and pays nothing."
                if is_ours
                else "Nothing was bought by this try. Look for that id in your Kirin account."
            )
            raise KirinConflictError(
                f"The gateway says that external task id {name} is in use, and does not find it. {whose}",
                retryable=is_ours,
            )
        try:
            is_certain = self._lookup.verify(self.record.known_generations())
        except KirinError as error:
            raise self._unknown(name, f"{why}; and the look-up cannot be proven: {error}", retryable=True) from error
        if is_certain or self.on_unknown_submit == "resubmit":
            return None
        raise self._unknown(name, why, retryable=False)

    def _unknown(self, name: str, why: str, *, retryable: bool) -> KirinUnknownSubmitError:
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
            f"Kirin may have accepted, and may bill, a generation with the external task id {name}: {why} {remedy}",
            external_task_id=name,
            retryable=retryable,
        )
