"""The sensor that waits for Kirin generations."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.compat import is_unmapped_copy
from airflow_provider_kirin.exceptions import KirinConfigError, KirinError, KirinTimeoutError, KirinUnfinishedError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.links.kirin import KirinGenerationLink
from airflow_provider_kirin.utils.deferral import DEFAULT_WAIT, as_seconds, deferrable_default
from airflow_provider_kirin.utils.retry_defaults import RetriedByDefault
from airflow_provider_kirin.utils.start_from_trigger import (
    InstanceProperty,
    decide,
    start_arguments,
    why_end_on_worker,
    why_start_on_worker,
)
from airflow_provider_kirin.utils.task_errors import fail_or_skip
from airflow_provider_kirin.utils.task_instance import require_task_instance

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import StartTriggerArgs

    from airflow_provider_kirin.api.polling import Outcome, Poller
    from airflow_provider_kirin.hooks.kirin import KirinHook

#: Seconds between processes in reschedule mode, at least, without a poke_interval.
_MIN_RESCHEDULE = 30.0
#: Passed to the base class, which requires a number. Seconds.
_PLACEHOLDER_INTERVAL = 3.0
#: A retry of a longer list defers at once: the trigger polls concurrently.
_MAX_POLLS = 20


class KirinTaskSensor(RetriedByDefault, BaseSensorOperator):
    """Wait until one or more Kirin generations have their videos, and return them.

    Waits in the triggerer by default, without holding a worker; with ``deferrable=False`` in ``mode="poke"`` or
    ``mode="reschedule"``, like any sensor. On Airflow 3.3 and later the task also ends in the triggerer if nothing that
    the DAG asks for needs a worker (see the sensor's page in the docs). A failed generation fails the task without a
    retry, since polling again cannot change it. ``timeout``, ``soft_fail`` and ``never_fail`` work as for any sensor.

    :param kirin_task_id: a Kirin task id, or a list of them (templated): ``submit.output`` of one submit operator or
        of a mapped one
    :param kirin_conn_id: the Airflow connection of type ``kirin`` (templated)
    :param deferrable: whether to wait in the triggerer; the default is yes, unless
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` in the environment says no
    :param timeout: seconds to wait at most; the generation itself continues at Kirin
    :param poke_interval: seconds between polls, in every mode; None adapts them to what is known of the generation
    :param fail_fast: for a list, whether to fail as soon as one generation has no video; False waits for all, then
        lists every one that failed
    :param start_from_trigger: whether to start in the triggerer, without a worker; needs Airflow 3.3
    :param end_from_trigger: whether the triggerer ends the task once all videos are there: None if nothing needs a
        worker, False never, True always
    :return: :meth:`.KirinTask.to_dict` of the generation; for a list of ids, a list in the same order
    :raises ValueError: when the DAG is parsed, for True where a worker is needed
    """

    template_fields: Sequence[str] = ("kirin_task_id", "kirin_conn_id")
    operator_extra_links = (KirinGenerationLink(),)
    ui_color = "#ece3fb"
    _is_set_up = False

    def __init__(
        self,
        *,
        kirin_task_id: str | Sequence[str],
        kirin_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool | None = None,
        timeout: float | timedelta = DEFAULT_WAIT,
        poke_interval: float | timedelta | None = None,
        fail_fast: bool = False,
        start_from_trigger: bool = False,
        end_from_trigger: bool | None = None,
        **kwargs: Any,
    ) -> None:
        # The base class requires a number; without a poke_interval, poke() sets it before each pause.
        super().__init__(
            timeout=timeout, poke_interval=_PLACEHOLDER_INTERVAL if poke_interval is None else poke_interval, **kwargs
        )
        self.kirin_task_id = kirin_task_id
        self.kirin_conn_id = kirin_conn_id
        self.deferrable = deferrable_default() if deferrable is None else deferrable
        self.poll_interval = None if poke_interval is None else as_seconds(poke_interval, "poke_interval")
        self.fail_fast = fail_fast
        self.end_from_trigger = end_from_trigger
        self._wants_start_from_trigger = bool(start_from_trigger)
        self._reset()
        self._is_set_up = True

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Refuse ``start_from_trigger=True`` for a mapped sensor, then map it as Airflow does."""
        if kwargs.get("start_from_trigger"):
            reasons = iter(["it is mapped, and only a worker resolves the arguments of each instance"])
            decide(True, reasons, argument="start_from_trigger", task_id=str(kwargs.get("task_id")))
        return super().partial(**kwargs)

    def _starts_from_trigger(self) -> bool:
        # Airflow reads the property before the constructor has finished, too.
        if not self._is_set_up or is_unmapped_copy(self):
            return False
        if self.end_from_trigger:
            # Raises if that is not possible.
            self._ends_from_trigger()
        return decide(
            self._wants_start_from_trigger,
            why_start_on_worker(self),
            argument="start_from_trigger",
            task_id=self.task_id,
        )

    def _ends_from_trigger(self) -> bool:
        return decide(
            self.end_from_trigger,
            why_end_on_worker(self),
            argument="end_from_trigger",
            task_id=self.task_id,
        )

    def _start_arguments(self) -> StartTriggerArgs | None:
        return start_arguments(self, end_from_trigger=self._ends_from_trigger()) if self.start_from_trigger else None

    # Properties, because cluster policies, outlets and dependants are known only when Airflow serializes the DAG.
    start_from_trigger = InstanceProperty(_starts_from_trigger, on_class=False)
    start_trigger_args = InstanceProperty(_start_arguments)

    def _reset(self) -> None:
        """Reset the state of a try: a retry may run on the same object."""
        self._began_at: float | None = None
        self._known_ids: list[str] | None = None
        self._pollers: dict[str, Poller] = {}
        self._outcomes: dict[str, Outcome] = {}

    def execute(self, context: Context) -> Any:
        """Wait in the triggerer, or on this worker."""
        require_task_instance(context)
        self._reset()
        with fail_or_skip(self):
            ids = self._ids()
            if not ids:
                self.log.info("There are no Kirin generations to wait for.")
                return []
            if self.deferrable and (context["ti"].try_number == 1 or len(ids) > _MAX_POLLS):
                self._defer(ids)
            # In deferrable mode too: a retry may find everything finished, and poke() defers if not.
            return super().execute(context)

    def execute_complete(self, context: Context, event: Any) -> Any:
        """Resume after the wait in the triggerer.

        :param context: the task's context
        :param event: the payload of the trigger's event
        """
        from airflow_provider_kirin.triggers.events import hand_back_deadline, load_event

        if (deadline := hand_back_deadline(event)) is not None:
            # The triggerer could not render the ids.
            self.timeout = max(deadline - time.time(), 0.0)
            return self.execute(context)
        with fail_or_skip(self):
            return self._conclude(context, load_event(event, expected=len(self._ids())))

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll every unfinished generation.

        :param context: the task's context
        """
        from airflow_provider_kirin.api.pauses import pause_length
        from airflow_provider_kirin.hooks.kirin import KirinHook
        from airflow_provider_kirin.triggers.events import abandoned_by_fail_fast

        ids = self._ids()
        started_at = self._started_at(context)
        with closing(KirinHook(self.kirin_conn_id)) as hook:
            delay = self._poll(hook, ids, started_at)
            # A rescheduled process does not know earlier 404s, so this one polls again until they are conclusive.
            while self.reschedule and any(self._pollers[key].is_not_found for key in self._unfinished(ids)):
                time.sleep(delay)
                delay = self._poll(hook, ids, started_at)
        if not self._unfinished(ids) or (
            self.fail_fast and any(isinstance(outcome, KirinError) for outcome in self._outcomes.values())
        ):
            outcomes = [self._outcomes.get(key) or abandoned_by_fail_fast(key) for key in ids]
            with fail_or_skip(self):
                return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, outcomes, started_at))
        if self.deferrable:
            self._defer(ids)
        # In reschedule mode each poll starts a process, which does not know the progress of the last one.
        floor = pause_length(_MIN_RESCHEDULE) if self.reschedule and self.poll_interval is None else 0.0
        self.poke_interval = max(delay, floor)
        return PokeReturnValue(is_done=False)

    def _unfinished(self, ids: Iterable[str]) -> list[str]:
        """Return the ids whose outcome is not known, each once."""
        return [kirin_task_id for kirin_task_id in dict.fromkeys(ids) if kirin_task_id not in self._outcomes]

    def _poll(self, hook: KirinHook, ids: Iterable[str], started_at: float) -> float:
        """Poll every unfinished generation, and return the seconds until the next time."""
        from airflow_provider_kirin.api.pauses import pause_length
        from airflow_provider_kirin.hooks.poller_factory import log_progress, new_poller

        delays: list[float] = []
        asked: list[float] = []
        for kirin_task_id in self._unfinished(ids):
            if kirin_task_id not in self._pollers:
                self._pollers[kirin_task_id] = new_poller(kirin_task_id, self.timeout, self.poll_interval, started_at)
            result = log_progress(hook.log, hook.poll_once(self._pollers[kirin_task_id]))
            if result.outcome is not None:
                self._outcomes[kirin_task_id] = result.outcome
            else:
                (asked if self._pollers[kirin_task_id].has_to_wait else delays).append(pause_length(result.delay))
        return max(asked) if asked else min(delays, default=0.0)

    def _defer(self, ids: list[str]) -> NoReturn:
        from airflow_provider_kirin.triggers.kirin import deferral_until_done

        shape = "one" if self._is_one else "list"
        try:
            ends = self._ends_from_trigger()
        except ValueError as error:
            # Raised at parse already, unless only this worker knows. The generation is paid for: do not fail.
            self.log.warning("%s Falling back to completing the task on a worker.", error)
            ends = False
        self.defer(
            **deferral_until_done(
                ids,
                kirin_conn_id=self.kirin_conn_id,
                timeout=self.timeout,
                poll_interval=self.poll_interval,
                fail_fast=self.fail_fast,
                result_shape=shape if ends else None,
                do_xcom_push=self.do_xcom_push,
            )
        )

    def on_kill(self) -> None:
        """Log which generations may continue at Kirin; waiting again costs nothing."""
        self.log.warning("The wait was stopped; %s may continue at Kirin.", short_repr(self.kirin_task_id, 200))

    def _ids(self) -> list[str]:
        from airflow_provider_kirin.api.requests import validate_task_ids

        if self._known_ids is None:
            # Resolving a mapped task's output asks Airflow's API server: once per try, not per poll.
            self._known_ids = validate_task_ids(self.kirin_task_id)
        return self._known_ids

    @property
    def _is_one(self) -> bool:
        """Whether one id was given, not a list: a string, or the integer that native rendering makes of it."""
        return isinstance(self.kirin_task_id, (str, int))

    def _started_at(self, context: Context) -> float:
        """Return when the wait began: in reschedule mode, in an earlier process."""
        if self._began_at is None:
            first = getattr(context["ti"], "get_first_reschedule_date", None) if self.reschedule else None
            rescheduled_at = first(context) if first else None
            self._began_at = rescheduled_at.timestamp() if rescheduled_at else time.time()
        return self._began_at

    def _conclude(self, context: Context, outcomes: Sequence[Outcome], since: float | None = None) -> Any:
        """Return the results in the order of the ids, or raise one error that lists every failure."""
        from airflow_provider_kirin.state.usage import record_outcomes

        # An id that was given twice is one generation.
        by_id = dict(zip(self._ids(), outcomes, strict=True))
        record_outcomes(context, list(by_id.values()), kirin_conn_id=self.kirin_conn_id, since=since)
        errors = [outcome for outcome in by_id.values() if isinstance(outcome, KirinError)]
        failed = [error for error in errors if not isinstance(error, KirinUnfinishedError)]
        if failed:
            if isinstance(failed[0], KirinConfigError) and failed[0].retryable:
                # The connection could not be looked up, so nothing was polled: another try may find it.
                raise failed[0]
            # A failure outranks a timeout: a failed generation stays failed however long the wait is.
            final = [error for error in failed if not isinstance(error, KirinTimeoutError)]
            text = str(failed[0])
            if len(by_id) > 1:
                lines = "".join(f"\n  - {error}" for error in failed)
                text = f"{len(failed)} of {len(by_id)} Kirin generations have no video:{lines}"
            if unfinished := len(errors) - len(failed):
                text += f"\n{unfinished} more may continue at Kirin and be billed; fail_fast did not wait for them."
            raise (AirflowFailException if final else AirflowSensorTimeout)(text) from failed[0]
        done = {key: outcome for key, outcome in by_id.items() if not isinstance(outcome, KirinError)}
        for kirin_task in done.values():
            self.log.info(kirin_task.describe_end())
        results = [done[kirin_task_id].to_dict() for kirin_task_id in self._ids()]
        return results[0] if self._is_one else results
