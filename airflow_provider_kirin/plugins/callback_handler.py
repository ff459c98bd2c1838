"""What a callback causes: Airflow asks the gateway itself, and ends the waits that this can end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.callback_health import KEPT
from airflow_provider_kirin.api.callback_token import CallbackToken
from airflow_provider_kirin.api.errors import error_from_task
from airflow_provider_kirin.api.lookup import check_response
from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.plugins import wake
from airflow_provider_kirin.plugins.callback_inbox import Handled
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger
from airflow_provider_kirin.triggers.encoding import limit_size
from airflow_provider_kirin.triggers.events import abandoned_by_fail_fast
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger

log = logging.getLogger(__name__)

#: Seconds that one lookup may take.
LOOKUP_TIMEOUT = 10.0
#: Lookups that one callback may cause for a task that waits for a list. Others follow with the next callback, or poll.
MAX_LIST_LOOKUPS = 20
#: Finished generations that are remembered, for tasks that wait for lists, and for events that are held back.
MAX_REMEMBERED = 2000
#: Seconds for which they are remembered: the links to their videos expire.
REMEMBERED_SECONDS = 600.0
#: Seconds after which a callback is handled again that comes while a worker works on a batch, and for which Airflow's
#: database is not asked again whether it still does.
WAVE_SECONDS = 5.0
#: Seconds for which such a callback is kept: after a longer wave the trigger polls at once. Clocks may differ a bit.
WAVE_KEPT = 2 * KEPT
#: Seconds for which the first callback of a batch waits for others: what was submitted together ends together.
GATHER_SECONDS = 3.0
#: Batches for which is remembered what has ended since their last wave.
MAX_WAVES = 200

LookUp = Callable[[str, str], Awaitable[KirinTask]]
T = TypeVar("T")


class CallbackHandler:
    """Handles the genuine callbacks of one API server process.

    :param look_up: looks up one generation by connection id and Kirin task id
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        # Airflow's own threads are few, and an XCom backend may hang. One at a time writes: SQLite allows no more.
        self._reader = ThreadPoolExecutor(2, thread_name_prefix="kirin-callback-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kirin-callback-write")
        self._ended: dict[tuple[str, str], KirinTask] = {}
        self._waves: dict[tuple[Any, float], dict[str, tuple[KirinTask, float]]] = {}
        #: Task instances whose batch a worker has -> until when that is taken for granted, in seconds since the epoch.
        self._in_wave: dict[tuple[str, str, str, int], float] = {}

    def close(self) -> None:
        """Release the threads."""
        for executor in (self._reader, self._writer):
            executor.shutdown(wait=False, cancel_futures=True)

    async def handle(self, token: CallbackToken) -> Handled:
        """Look at the generation of a token, and do what is to be done now.

        :param token: a genuine one
        """
        submitter, now = (token.dag_id, token.run_id, token.task_id, token.map_index), time.time()
        if (left := self._in_wave.get(submitter, now) - now) > 0:
            return Handled("held", wait=left, keep=WAVE_KEPT)
        found = await self._run(self._reader, wake.find, token)
        if found.batch is not None:
            return await self._resume_batch(found.batch, token)
        if found.in_wave:
            self._in_wave = {each: until for each, until in self._in_wave.items() if until > now}
            self._in_wave[submitter] = now + WAVE_SECONDS
            return Handled("held", wait=WAVE_SECONDS, keep=WAVE_KEPT)
        if not found.waits and found.submission is None:
            # A worker records its submission in a moment, and the wait that it begins relies on this callback.
            return Handled("ignored", again=found.may_defer)
        kirin_task = await self._ask_for_end(token, found.kirin_task_id)
        if isinstance(kirin_task, Handled):
            return kirin_task
        # The gateway does not repeat it, and a sensor may wait for it.
        kirin_task = replace(kirin_task, external_task_id=token.external_task_id)
        results = [await self._end_wait(wait, kirin_task) for wait in found.waits]
        if found.submission is not None and error_from_task(kirin_task) is None:
            emitted = await self._run(self._writer, wake.emit_asset_event, token, kirin_task, found.submission)
            results.append(Handled("asset" if emitted else "ignored"))
        waiting = [handled for handled in results if handled.wait is not None]
        return next(iter([*waiting, *results]), Handled("ignored"))

    async def _resume_batch(self, wait: wake.Wait[KirinBatchTrigger], token: CallbackToken) -> Handled:
        """Begin the next wave of a batch if that is worth a worker by now, or look again when it will be."""
        in_flight = {str(kirin_task_id) for kirin_task_id, _ in wait.trigger.in_flight or ()}
        if not in_flight:
            # They did not fit into the trigger's arguments, so it polls.
            return Handled("ignored")
        kirin_task = await self._ask_for_end(token)
        if isinstance(kirin_task, Handled):
            return kirin_task
        if kirin_task.id not in in_flight:
            return Handled("ignored")
        ended = self._ends_of_wave(wait)
        ended.setdefault(kirin_task.id, (replace(kirin_task, metadata={}), time.time()))
        schedule = wait.trigger.schedule(wait.trigger.remaining_hold(deferred_at=wait.trigger.deferred_at))
        ended_at = [at for _, at in ended.values()]
        waiting = len(in_flight) - len(ended)
        wake_at = max(schedule.wake_at(waiting, ended_at), min(ended_at) + GATHER_SECONDS if waiting else 0.0)
        if (left := wake_at - time.time()) > 0:
            return Handled("held", wait=left)
        reported = Reported(time.time(), {each: known for each, (known, _) in ended.items()})
        has_begun = await self._run(self._writer, wake.begin_wave, wait, kirin_task.id, reported)
        self._waves.pop((wait.ti_id, wait.trigger.deferred_at), None)
        # Another callback was faster: this one may have come too late for its event.
        return Handled("resumed") if has_begun else Handled("held", wait=WAVE_SECONDS, keep=WAVE_KEPT)

    def _ends_of_wave(self, wait: wake.Wait[KirinBatchTrigger]) -> dict[str, tuple[KirinTask, float]]:
        """Return which generations of a batch were reported to have ended since it deferred, and when."""
        key = (wait.ti_id, wait.trigger.deferred_at)
        if key not in self._waves:
            while len(self._waves) >= MAX_WAVES:
                del self._waves[next(iter(self._waves))]
            self._waves[key] = {}
        return self._waves[key]

    async def _end_wait(self, wait: wake.Wait[KirinTaskTrigger], kirin_task: KirinTask) -> Handled:
        outcomes = await self._outcomes(wait, kirin_task)
        if outcomes is None:
            return Handled("incomplete")
        outcomes = await self._run(self._reader, limit_size, outcomes)
        if result := wait.trigger.result_of(outcomes):
            ended = await self._run(self._writer, wake.end, wait, kirin_task.id, result)
            return Handled("ended" if ended else "ignored")
        if hold := wait.trigger.remaining_hold(deferred_at=wait.trigger.started_at):
            return Handled("held", wait=hold)
        resumed = await self._run(self._writer, wake.resume, wait, kirin_task.id, outcomes)
        return Handled("resumed" if resumed else "ignored")

    async def _outcomes(self, wait: wake.Wait[KirinTaskTrigger], kirin_task: KirinTask) -> Sequence[Outcome] | None:
        """Return how each generation of a wait has ended, or None if the task has to wait for others."""
        trigger, outcome = wait.trigger, _outcome(kirin_task)
        known = dict.fromkeys({kirin_task.id, kirin_task.external_task_id or ""}, outcome)
        is_enough = trigger.fail_fast and isinstance(outcome, KirinError)
        others = [each for each in dict.fromkeys(trigger.kirin_task_ids) if each not in known]
        if not is_enough:
            unknown = [each for each in others if (trigger.kirin_conn_id, each) not in self._ended]
            if len(unknown) > MAX_LIST_LOOKUPS:
                return None
            for kirin_task_id in others:
                try:
                    other = await self._ask(trigger.kirin_conn_id, kirin_task_id)
                except (KirinError, TimeoutError):
                    return None
                if not other.is_final:
                    return None
                known[kirin_task_id] = _outcome(other)
        return [known.get(each) or abandoned_by_fail_fast(each) for each in trigger.kirin_task_ids]

    async def _ask_for_end(self, token: CallbackToken, kirin_task_id: str | None = None) -> KirinTask | Handled:
        """Return the generation of a token if it has ended; otherwise what became of the callback.

        :param token: the token
        :param kirin_task_id: the generation, if Airflow knows it; otherwise its external task id is looked up
        """
        any_id = kirin_task_id or token.external_task_id
        external_task_id = None if kirin_task_id else token.external_task_id
        try:
            kirin_task = check_response(
                await self._ask(token.kirin_conn_id, any_id),
                kirin_task_id=kirin_task_id,
                external_task_id=external_task_id,
            )
        except (KirinError, TimeoutError) as error:
            reason = str(error) or f"no response within {LOOKUP_TIMEOUT:g} s"
            log.info("Kirin called back, but could not be asked about %s: %s", any_id, reason)
            return Handled("error", again=True)
        return kirin_task if kirin_task.is_final else Handled("early", again=True)

    async def _ask(self, kirin_conn_id: str, kirin_task_id: str) -> KirinTask:
        """Return a generation as it is now; one that has ended is not asked for again."""
        key = (kirin_conn_id, kirin_task_id)
        if key not in self._ended:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                kirin_task = await self._look_up(*key)
            if not kirin_task.is_final:
                return kirin_task
            while len(self._ended) >= MAX_REMEMBERED:
                del self._ended[next(iter(self._ended))]
            self._ended[key] = kirin_task
            asyncio.get_running_loop().call_later(REMEMBERED_SECONDS, self._ended.pop, key, None)
            return kirin_task
        return self._ended[key]

    @staticmethod
    async def _run(executor: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *args)


def _outcome(kirin_task: KirinTask) -> Outcome:
    return error_from_task(kirin_task) or kirin_task
