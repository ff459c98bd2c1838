"""Look up generations, and decide what a response proves: it counts only if it matches the request.

There are four outcomes: found, not found, lookup failed (a temporary error), and a gateway that does not support
lookup by external task id at all. A response that contradicts the request is a failed lookup: it is neither an
adoption, nor "not found", nor evidence that the lookup works.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from logging import getLogger
from typing import Any, Protocol

from airflow_provider_kirin.api.models import without_alias
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.api.retry import LOOKUP_RETRY_DELAYS
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinInputError,
    KirinNotFoundError,
    KirinResponseError,
    KirinUnavailableError,
)

#: Seconds that one lookup keeps retrying temporary errors.
PATIENCE = 120.0
#: How many earlier generations at most are looked up to verify that the lookup works.
MAX_VERIFICATIONS = 5
#: Connection id -> whether its lookup by external task id works, as far as this process knows.
LOOKUP_VERIFIED: dict[str, bool] = {}


class LookupClient(Protocol):
    """The API call that a lookup needs."""

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        """Look up a generation by its own id or by its external task id."""


def mismatch(
    kirin_task: KirinTask,
    *,
    external_task_id: str | None = None,
    kirin_task_id: str | None = None,
    model: str | None = None,
) -> KirinResponseError | None:
    """Return the error if a response describes another generation than the requested one, or none.

    :param kirin_task: the generation in the response
    :param external_task_id: the external task id that was requested, or None
    :param kirin_task_id: the Kirin task id that was requested, or None
    :param model: the model that was submitted, if known
    """
    if kirin_task_id is not None and kirin_task.id != kirin_task_id:
        found = f"Kirin generation {short_repr(kirin_task.id)}"
    elif external_task_id is not None and kirin_task.id == external_task_id:
        found = "a generation without an id of its own"
    elif external_task_id is not None and kirin_task.external_task_id not in (None, external_task_id):
        found = f"the generation with the external task id {short_repr(kirin_task.external_task_id)}"
    elif model and kirin_task.model and without_alias(kirin_task.model) != without_alias(model):
        found = (
            f"a generation of the model {short_repr(kirin_task.model)}, but it was submitted with {short_repr(model)}"
        )
    else:
        return None
    return KirinResponseError(
        f"The gateway was asked for {kirin_task_id or external_task_id} and answered with {found}."
    )


def check_response(kirin_task: KirinTask, **requested: str | None) -> KirinTask:
    """Return the generation that a lookup found, if it is the requested one.

    :param requested: see :func:`mismatch`
    :raises KirinResponseError: it is another one
    """
    if error := mismatch(kirin_task, **requested):
        raise error
    return kirin_task


def settle_not_found(error: KirinNotFoundError, *, is_submitted: bool) -> KirinNotFoundError:
    """Return the last of several 404s about a generation, with the one rule for whether another try may find it.

    A load balancer's 404 says nothing about the generation. The API's own is final, unless it is certain that the
    generation was submitted: the lookup may lag, and the next try of the task has the id on record.

    :param error: the 404
    :param is_submitted: whether it is certain
    """
    error.retryable = is_submitted or not error.from_api
    return error


def is_certain_failure(kirin_task: KirinTask) -> bool:
    """Return whether a generation failed for sure, so that the next one may be submitted.

    An unknown status with an error ends a wait. That proves nothing: what is "retrying" may still become a video.
    """
    is_guess = bool(kirin_task.raw_status) and kirin_task.has_unknown_status
    return kirin_task.status == "failed" and not is_guess


class Lookup:
    """Looks up the generations of one account.

    :param client: the API client
    :param conn_id: the Airflow connection id, the key in ``verified``
    :param verified: see :data:`LOOKUP_VERIFIED`
    :param sleep: called with the seconds to wait
    :param log: the logger to write to; by default this module's
    """

    def __init__(
        self,
        client: LookupClient,
        *,
        conn_id: str,
        sleep: Callable[[float], None],
        verified: dict[str, bool] = LOOKUP_VERIFIED,
        log: Any = None,
    ) -> None:
        self._client = client
        self._conn_id = conn_id
        self._sleep = sleep
        self._verified = verified
        self._log = log or getLogger(__name__)

    @property
    def is_verified(self) -> bool:
        """Whether the lookup by external task id is known to find an existing generation."""
        return self._verified.get(self._conn_id, False)

    def by_external_id(
        self, external_task_id: str, *, model: str = "", has_unresolved_intent: bool = False
    ) -> KirinTask | None:
        """Return the generation with an external task id; None if the gateway does not know it.

        :param external_task_id: the external task id to look up
        :param model: the model it was submitted with; empty if it is not known
        :param has_unresolved_intent: whether a submission under this id may have been accepted: then only a 404 of the
            API itself counts as "not found", not one of a load balancer in front of it
        :raises KirinError: the lookup failed
        """
        try:
            found = self._client.get_task(external_task_id, patience=PATIENCE)
        except KirinNotFoundError as error:
            if has_unresolved_intent:
                _require_api_answer(error)
            return None
        except KirinInputError as error:
            if error.http_status not in (400, 422):
                raise
            # The gateway accepts only its own ids, so "not found" proves nothing.
            self._log.debug("This gateway does not support lookup by external task id: %s", error)
            self._verified[self._conn_id] = False
            return None
        check_response(found, external_task_id=external_task_id, model=model)
        self._verified[self._conn_id] = True
        return found

    def recorded(self, kirin_task_id: str, external_task_id: str, *, model: str = "") -> KirinTask | None:
        """Return a recorded generation; None if the gateway still does not know it after the usual lag.

        If the response to the submission had another generation's id, the external task id still finds the right one.

        :param kirin_task_id: the generation's id, as that response had it
        :param external_task_id: what it was submitted under
        :param model: the model it was submitted with; empty if it is not known
        :raises KirinError: the lookup failed
        """
        contradiction = None
        try:
            if found := self._by_id(kirin_task_id, external_task_id):
                return found
        except KirinResponseError as error:
            contradiction = error
        found = self.by_external_id(external_task_id, model=model, has_unresolved_intent=True)
        if contradiction and not found:
            raise contradiction
        return found

    def _by_id(self, kirin_task_id: str, external_task_id: str) -> KirinTask | None:
        for delay in (0.0, *LOOKUP_RETRY_DELAYS):
            self._sleep(delay)
            try:
                return check_response(self._get(kirin_task_id), external_task_id=external_task_id)
            except KirinNotFoundError as error:
                _require_api_answer(error)
                self._log.info("The gateway does not know Kirin generation %s (yet).", kirin_task_id)
        return None

    def verify(self, known: Iterable[tuple[str, str]]) -> bool:
        """Check, once per connection and process, whether the lookup finds a generation that is known to exist.

        :param known: pairs of external task id and Kirin task id that belong together
        :raises KirinError: the lookup failed
        """
        for external_task_id, kirin_task_id in itertools.islice(known, MAX_VERIFICATIONS):
            if self._conn_id in self._verified:
                break
            self._verify(external_task_id, kirin_task_id)
        return self.is_verified

    def _verify(self, external_task_id: str, kirin_task_id: str) -> None:
        try:
            found = self._client.get_task(external_task_id, patience=PATIENCE)
        except (KirinNotFoundError, KirinInputError):
            # The gateway may keep generations for a limited time: one that is gone under both ids proves nothing.
            if self._still_there(kirin_task_id):
                self._verified[self._conn_id] = False
            return
        check_response(found, external_task_id=external_task_id)
        check_response(found, kirin_task_id=kirin_task_id)
        self._verified[self._conn_id] = True

    def _still_there(self, kirin_task_id: str) -> bool:
        try:
            self._get(kirin_task_id)
        except KirinNotFoundError:
            return False
        return True

    def _get(self, kirin_task_id: str) -> KirinTask:
        return check_response(self._client.get_task(kirin_task_id, patience=PATIENCE), kirin_task_id=kirin_task_id)


def _require_api_answer(error: KirinNotFoundError) -> None:
    """Accept a 404 only from the API itself: one from a load balancer does not mean that the generation is missing."""
    if not error.from_api:
        raise KirinUnavailableError(error.message, http_status=404) from error
