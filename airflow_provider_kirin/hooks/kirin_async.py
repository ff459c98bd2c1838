"""The async hook, which triggers use to wait."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_kirin.api.pauses import pause_async
from airflow_provider_kirin.api.polling import Outcome, Poller, PollResult
from airflow_provider_kirin.api.requests import get_generation, validate_task_id
from airflow_provider_kirin.api.responses import parse_task
from airflow_provider_kirin.exceptions import KirinAuthError, KirinError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.hooks.poller_factory import log_oddities, log_progress, new_poller
from airflow_provider_kirin.hooks.transport import call_async

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.connection import KirinConnection
    from airflow_provider_kirin.hooks.shared_session import SharedSession


class KirinAsyncHook(BaseHook):
    """Look up generations from an event loop. All hooks of one loop and connection share one HTTP session.

    Use it as an async context manager for more than one lookup; the last hook to exit closes the session. One hook
    may serve many coroutines at a time.

    :param kirin_conn_id: the connection (type ``kirin``)
    :param patience: seconds after which :meth:`get_task` raises temporary errors, such as a connection that is not
        found yet or a full queue; None to wait for as long as it takes
    """

    def __init__(self, kirin_conn_id: str = DEFAULT_CONN_ID, *, patience: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kirin_conn_id = kirin_conn_id
        self.patience = patience
        self._entered = 0
        self._acquiring: asyncio.Future[SharedSession] | None = None

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._acquiring is None:
            from airflow_provider_kirin.hooks.shared_session import SharedSession

            self._acquiring = asyncio.ensure_future(SharedSession.acquire(self.kirin_conn_id, patience=self.patience))
        try:
            await asyncio.shield(self._acquiring)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered -= 1
        if self._entered:
            return
        acquiring, self._acquiring = self._acquiring, None
        if acquiring is not None:
            # Shielded: a second cancellation must not leave the session open.
            await asyncio.shield(asyncio.ensure_future(_release(acquiring)))

    @property
    def connection(self) -> KirinConnection:
        """The connection in use, inside ``async with``."""
        return self._current().connection

    async def get_task(self, kirin_task_id: str) -> KirinTask:
        """Look up a generation.

        :param kirin_task_id: a Kirin task id or an external task id
        :raises KirinNotFoundError: the gateway does not know it
        :raises KirinAPIError: the gateway returned another error
        :raises KirinNetworkError: no response
        """
        return await self._get_task(kirin_task_id, None, patience=self.patience)

    async def _get_task(self, kirin_task_id: str, external_task_id: str | None, *, patience: float | None) -> KirinTask:
        asked_for = validate_task_id(kirin_task_id)
        async with self:
            used = self._current()
            try:
                return await self._request_task(used, asked_for, external_task_id, patience)
            except KirinAuthError as error:
                # The key may have been changed since this process read it.
                if not error.from_api or not await self._reread_connection(used):
                    raise
                return await self._request_task(self._current(), asked_for, external_task_id, patience)

    async def _request_task(
        self, shared: SharedSession, asked_for: str, external_task_id: str | None, patience: float | None
    ) -> KirinTask:
        request = get_generation(shared.connection.base_url, asked_for)
        async with shared.slot(patience):
            response = await call_async(shared.session, request, shared.connection, proxy=shared.proxy)
            kirin_task = parse_task(
                *response, doing=f"asking for {asked_for}", asked_for=asked_for, external_task_id=external_task_id
            )
        log_oddities(self.log, kirin_task)
        return kirin_task

    def _current(self) -> SharedSession:
        assert self._acquiring is not None, "only inside `async with`"
        return self._acquiring.result()

    async def _reread_connection(self, used: SharedSession) -> bool:
        """Read the connection again, unless another coroutine just did, and return whether it has changed."""
        from airflow_provider_kirin.hooks.shared_session import SharedSession

        if self._current() is used:
            reread = await SharedSession.acquire(self.kirin_conn_id, reread=True)
            if self._current() is used and reread is not used:
                self._acquiring = asyncio.get_running_loop().create_future()
                self._acquiring.set_result(reread)
                await used.release()
            else:
                await reread.release()
        return self._current() is not used

    async def wait(
        self,
        kirin_task_id: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of the generation, not of this coroutine
        poll_interval: float | None = None,
        started_at: float | None = None,
        external_task_id: str | None = None,
    ) -> KirinTask:
        """Wait until a generation has its video.

        :param kirin_task_id: a Kirin task id or an external task id
        :param timeout: the maximum wait in seconds, counted from ``started_at``
        :param poll_interval: seconds between polls; None adapts it to the progress
        :param started_at: when the wait began (seconds since the epoch), for a wait that resumes after a restart
        :param external_task_id: the external task id, if known: the other id is then the gateway's own, which each
            response has to repeat
        :raises KirinTimeoutError: it did not end in time; it may continue at Kirin
        :raises KirinTaskFailedError: it failed, or completed without a video
        """
        poller = new_poller(kirin_task_id, timeout, poll_interval, started_at, external_task_id=external_task_id)
        outcome = await self.run(poller)
        if isinstance(outcome, KirinError):
            raise outcome
        return outcome

    async def run(self, poller: Poller) -> Outcome:
        """Carry out a wait, and return how it ended.

        :param poller: the state of the wait
        :raises KirinConfigError: the connection cannot be used
        """
        async with self:
            # Not in the sync hook: no callback ends a wait on a worker.
            if delay := poller.first_delay(time.time()):
                await pause_async(delay)
            while (polled := log_progress(self.log, await self.poll_once(poller))).outcome is None:
                await pause_async(polled.delay)
        return polled.outcome

    async def poll_once(self, poller: Poller) -> PollResult:
        """Look up a poller's generation once, and return what to do next.

        :param poller: the state of the wait
        """
        patience = max(poller.deadline - time.time(), 0.0)
        try:
            kirin_task = await self._get_task(poller.kirin_task_id, poller.external_task_id, patience=patience)
        except KirinError as error:
            return poller.on_error(error, time.time())
        return poller.on_response(kirin_task, time.time())


async def _release(acquiring: asyncio.Future[SharedSession]) -> None:
    """Release a session, or stop acquiring it."""
    acquiring.cancel()
    await asyncio.wait([acquiring])
    if not acquiring.cancelled() and acquiring.exception() is None:
        await acquiring.result().release()
