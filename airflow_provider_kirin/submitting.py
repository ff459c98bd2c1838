"""Buy one generation, once: look before paying, and after every payment whose outcome is unknown.

No Airflow in here, and no HTTP: a gateway, a record that survives a crash and a clock are given. What this module
promises: it submits only where no earlier submission of the same step can have been accepted, as far as the gateway's
look-up by external task id can be trusted; where it cannot, it stops with an error that names the id.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Literal, Protocol

from airflow_provider_kirin.api.identity import nth
from airflow_provider_kirin.api.retrying import LAG_PAUSES, Verdict, judge_submission, pause
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinConflictError,
    KirinError,
    KirinInputError,
    KirinLostTaskError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinTaskFailedError,
    KirinUnavailableError,
    KirinUnknownSubmitError,
)

#: Seconds that one try spends on trouble before it gives up: a look-up that cannot be done, a gateway that is full.
PATIENCE = 120.0
#: The same submission is sent so often at most in one try, each time after a look-up said that nothing is there.
MOST_SUBMISSIONS = 3
#: Generations of earlier runs that the look-up is tried on, until one is still known.
MOST_PROOFS = 5
#: A step whose generations fail again and again stops here.
LONGEST_SERIES = 50

_LEFT_OPEN = "An earlier try ended before its answer was kept."

OnUnknownSubmit = Literal["stop", "resubmit"]


class Gateway(Protocol):
    """What is asked of the API."""

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        """Look up a generation by its own id or by its external task id."""

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Send the step's payload under a name. Costs money."""


class Record(Protocol):
    """What is known of earlier tries of the step, by external task id."""

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation that was bought under this name, where that is on record."""

    def may_have_posted(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose answer is not on record."""

    def posting(self, external_task_id: str) -> None:
        """Remember, before it is sent, that a submission is about to be sent."""

    def refused(self, external_task_id: str) -> None:
        """Remember that nothing was accepted."""

    def bought(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember what was accepted."""

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return pairs of external task id and Kirin task id that are known to belong together."""


class NoRecord:
    """A record of nothing: what does not outlive its process, and only the look-up tells what there is."""

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return nothing."""
        return None

    def may_have_posted(self, external_task_id: str) -> bool:
        """Return that nothing was sent."""
        return False

    def posting(self, external_task_id: str) -> None:
        """Remember nothing."""

    def refused(self, external_task_id: str) -> None:
        """Remember nothing."""

    def bought(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember nothing."""

    def known_generations(self) -> Iterable[tuple[str, str]]:
        """Return nothing."""
        return ()


@dataclass(frozen=True)
class Submitted:
    """What a step got.

    :param kirin_task: the generation
    :param external_task_id: its name
    :param adopted: whether an earlier try had bought it
    """

    kirin_task: KirinTask
    external_task_id: str
    adopted: bool


class Submission:
    """One step's purchase.

    :param gateway: the API
    :param record: what earlier tries left behind
    :param external_task_id: the step's name, the same on every try
    :param is_own_id: whether the user chose it: then it is honoured as given, and there is no series
    :param on_unknown_submit: what to do where a submission may have been accepted and cannot be looked up
    :param proofs: connection to whether its look-up works, kept for the life of the process
    :param conn_id: the connection, for ``proofs``
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
        self.on_unknown_submit = on_unknown_submit
        self.log = log or getLogger(__name__)
        self._proofs = _proofs if proofs is None else proofs
        self._conn_id = conn_id
        self._sleep = sleep
        #: The name under which a submission may be on its way, for whoever has to explain a kill.
        self.in_flight: str | None = None

    def run(self) -> Submitted:
        """Return the step's generation: adopted where there is one, bought where there is none.

        :raises KirinUnknownSubmitError: it may have been bought, and cannot be found
        :raises KirinLostTaskError: it was bought, and the gateway does not know it any more
        :raises KirinError: the gateway refused, or could not be asked; nothing was bought
        """
        name, found = self._look_through_series()
        return self._buy(name) if found is None else self._adopt(found, name)

    def find(self) -> Submitted | None:
        """Return the step's generation if there is one, and buy nothing. What is raised is as for :meth:`run`."""
        name, found = self._look_through_series()
        if found is None and self.record.may_have_posted(name):
            found = self._search(name, _LEFT_OPEN)
        return None if found is None else self._adopt(found, name)

    def _look_through_series(self) -> tuple[str, KirinTask | None]:
        """Return the first name whose generation has not failed, and that generation, if there is one."""
        for number in range(1, LONGEST_SERIES + 1):
            name = nth(self.external_task_id, number)
            kirin_task = self._find(name)
            if kirin_task is None or kirin_task.status != "failed":
                return name, kirin_task
            if self.is_own_id:
                raise KirinTaskFailedError(
                    f"Kirin generation {kirin_task.id} with your external_task_id {name} failed. An id can be used "
                    "once: give another external_task_id (or none) for a new generation.",
                    retryable=False,
                )
            self.log.info("Kirin generation %s (external task id %s) failed earlier.", kirin_task.id, name)
        raise KirinTaskFailedError(
            f"{LONGEST_SERIES} generations of this step failed; it is not tried again.", retryable=False
        )

    def _find(self, name: str) -> KirinTask | None:
        """Look for an earlier try's generation; None where the gateway knows none."""
        on_record = self.record.kirin_task_id(name)
        try:
            return self._look_up(name) if on_record is None else self._fetch(on_record, name)
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
        for delay in (0.0, *LAG_PAUSES):
            self._sleep(delay)
            try:
                return self.gateway.get_task(kirin_task_id, patience=PATIENCE)
            except KirinNotFoundError as error:
                _insist_on_the_api(error)
                self.log.info("The gateway does not know Kirin generation %s (yet).", kirin_task_id)
        raise KirinLostTaskError(
            f"This step bought Kirin generation {kirin_task_id} (external task id {name}), and the gateway does not "
            "know it any more. Nothing was submitted anew. Check the connection's account; for a new, paid generation "
            "raise the operator's `take`."
        )

    def _look_up(self, name: str, *, in_doubt: bool = False) -> KirinTask | None:
        try:
            kirin_task = self.gateway.get_task(name, patience=PATIENCE)
        except KirinNotFoundError as error:
            if in_doubt:
                _insist_on_the_api(error)
            return None
        except KirinInputError as error:
            # A gateway that takes nothing but its own ids for one: what it does not find proves nothing.
            self.log.debug("This gateway does not look up external task ids: %s", error)
            self._proofs[self._conn_id] = False
            return None
        self._proofs[self._conn_id] = True
        return kirin_task

    def _adopt(self, kirin_task: KirinTask, name: str) -> Submitted:
        self.record.bought(name, kirin_task.id)
        self.log.info(
            "Kirin generation %s (%s, external task id %s) exists already. It is adopted, and nothing is paid. For a "
            "new generation %s.",
            kirin_task.id,
            kirin_task.status,
            name,
            "give another external_task_id" if self.is_own_id else "of the same payload raise the operator's `take`",
        )
        return Submitted(kirin_task, name, adopted=True)

    def _buy(self, name: str) -> Submitted:
        is_blind = False
        in_doubt = self.record.may_have_posted(name)
        if in_doubt:
            self.log.warning("An earlier try may have submitted %s; looking for it before anything is paid.", name)
            if found := self._search(name, _LEFT_OPEN):
                return self._adopt(found, name)
            is_blind = not self._is_proven
        for left in reversed(range(MOST_SUBMISSIONS)):
            was_in_doubt = in_doubt
            try:
                return self._submit(name, in_doubt=in_doubt)
            except KirinError as error:
                verdict = judge_submission(error)
                if verdict is Verdict.REFUSED:
                    raise
                lost, in_doubt = error, True
            self.log.warning("Looking for the generation %s after: %s", name, lost)
            if found := self._search(name, str(lost), exists=verdict is Verdict.EXISTS, is_ours=was_in_doubt):
                return self._adopt(found, name)
            if isinstance(lost, KirinNetworkError) and lost.is_going_on:
                # It may still arrive, until this process ends: another one now could be a second.
                raise self._unknown(name, str(lost), retryable=True) from lost
            if not left or (is_blind and not self._is_proven):
                break
            # Without a look-up that works the user allows one that may be paid twice, and not one after the other.
            is_blind = not self._is_proven
            self.log.warning("Kirin knows no generation %s; submitting again.", name)
        raise self._unknown(name, str(lost), retryable=self._is_proven) from lost

    def _submit(self, name: str, *, in_doubt: bool) -> Submitted:
        """Submit; wait and submit again only as long as the gateway surely accepted nothing.

        :param in_doubt: whether an earlier submission left a mark, which a later refusal must not wipe out
        """
        spent, attempt = 0.0, 0
        while True:
            self.record.posting(name)
            self.in_flight = name
            try:
                kirin_task = self.gateway.submit_as(name)
            except KirinError as error:
                if judge_submission(error) is not Verdict.REFUSED:
                    raise
                if not in_doubt:
                    self.record.refused(name)
                self.in_flight = None
                attempt += 1
                delay = pause(error, attempt)
                spent += delay
                if not error.retryable or spent > PATIENCE:
                    raise
                self.log.warning("Kirin accepted nothing; next try in %.0f s: %s", delay, error)
                self._sleep(delay)
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
        for delay in (0.0, *LAG_PAUSES):
            self._sleep(delay)
            try:
                found = self._look_up(name, in_doubt=True)
            except KirinError as error:
                raise self._unknown(name, f"{why}; and it cannot be looked up: {error}", retryable=True) from error
            if found:
                return found
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
        if self._lookup_works(name, why) or self.on_unknown_submit == "resubmit":
            return None
        raise self._unknown(name, why, retryable=False)

    def _lookup_works(self, name: str, why: str) -> bool:
        """Tell, once per connection and process, whether the look-up finds what is known to exist."""
        try:
            for known, kirin_task_id in itertools.islice(self.record.known_generations(), MOST_PROOFS):
                if self._conn_id in self._proofs:
                    break
                self._prove(known, kirin_task_id)
        except KirinError as error:
            raise self._unknown(name, f"{why}; and the look-up cannot be proven: {error}", retryable=True) from error
        return self._is_proven

    @property
    def _is_proven(self) -> bool:
        return self._proofs.get(self._conn_id, False)

    def _prove(self, known: str, kirin_task_id: str) -> None:
        try:
            self._proofs[self._conn_id] = self.gateway.get_task(known, patience=PATIENCE).id == kirin_task_id
        except (KirinNotFoundError, KirinInputError):
            # Records may be kept for a while only: what is gone altogether proves nothing.
            if self._still_there(kirin_task_id):
                self._proofs[self._conn_id] = False

    def _still_there(self, kirin_task_id: str) -> bool:
        try:
            self.gateway.get_task(kirin_task_id, patience=PATIENCE)
        except KirinNotFoundError:
            return False
        return True

    def _unknown(self, name: str, why: str, *, retryable: bool) -> KirinUnknownSubmitError:
        if retryable and (self._is_proven or self.on_unknown_submit == "stop"):
            remedy = "Another try cannot pay twice: it looks for this id first."
        elif retryable:
            remedy = "Another try looks for this id first. Where it finds nothing it submits again, and may pay twice."
        elif self.on_unknown_submit == "resubmit":
            remedy = (
                'It was submitted again, as on_unknown_submit="resubmit" allows, with the same end, and each may be '
                "billed. Look for the id in your Kirin account before you run this step again."
            )
        else:
            remedy = (
                "The gateway finds nothing under this id, and its look-up is not proven to work, so nothing was "
                "submitted again. Look for the id in your Kirin account. If it is not there, raise the operator's "
                '`take` and run the step again (before Airflow 3.3: with on_unknown_submit="resubmit", which '
                "submits again by itself, and may pay twice)."
            )
        return KirinUnknownSubmitError(
            f"Kirin may have accepted, and may bill, a generation with the external task id {name}: {why} {remedy}",
            external_task_id=name,
            retryable=retryable,
        )


def _insist_on_the_api(error: KirinNotFoundError) -> None:
    """Let only the API itself say that a generation does not exist: a load balancer's 404 says nothing about it."""
    if not error.from_api:
        raise KirinUnavailableError(error.message, http_status=404) from error


#: Connection id -> whether the look-up by external task id works. For the life of the process.
_proofs: dict[str, bool] = {}
