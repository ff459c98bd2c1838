"""The hook for event loops: what the trigger waits with."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_kirin.api.polling import Poller, Step
from airflow_provider_kirin.api.requests import check_id, get_generation
from airflow_provider_kirin.api.responses import read_task
from airflow_provider_kirin.exceptions import KirinAuthError, KirinError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.hooks.poller_factory import log_news, log_oddities, new_poller
from airflow_provider_kirin.hooks.transport import call_async

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.shared_session import SharedSession


class KirinAsyncHook(BaseHook):
    """Ask for generations from an event loop. All hooks of one loop and connection share one HTTP session.

    Use it as an async context manager where you ask more than once; the last one that leaves closes the session. One
    hook may serve many coroutines at a time.

    :param kirin_conn_id: the connection (type ``kirin``)
    :param patience: seconds after which :meth:`get_task` raises what may pass, such as a connection that is not found
        yet or a long line of others; None for as long as it takes
    """

    def __init__(self, kirin_conn_id: str = DEFAULT_CONN_ID, *, patience: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kirin_conn_id = kirin_conn_id
        self.patience = patience
        self._entered = 0
        self._joining: asyncio.Future[SharedSession] | None = None

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._joining is None:
            from airflow_provider_kirin.hooks.shared_session import SharedSession

            self._joining = asyncio.ensure_future(SharedSession.join(self.kirin_conn_id, patience=self.patience))
        try:
            await asyncio.shield(self._joining)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered -= 1
        if self._entered:
            return
        joining, self._joining = self._joining, None
        if joining is not None:
            # Shielded: who is cancelled again meanwhile must not leave the session open.
            await asyncio.shield(asyncio.ensure_future(_leave(joining)))

    async def get_task(self, kirin_task_id: str) -> KirinTask:
        """Ask for a generation's state.

        :param kirin_task_id: a Kirin task id or an external task id
        :raises KirinNotFoundError: the gateway does not know it
        :raises KirinAPIError: the gateway said something else than yes
        :raises KirinNetworkError: no reply came
        """
        return await self._get_task(kirin_task_id, patience=self.patience)

    async def _get_task(self, kirin_task_id: str, *, patience: float | None) -> KirinTask:
        asked_for = check_id(kirin_task_id)
        async with self:
            used = self._current()
            try:
                return await self._ask(used, asked_for, patience)
            except KirinAuthError as error:
                # The key may have been changed since this process read it.
                if not error.from_api or not await self._read_again(used):
                    raise
                return await self._ask(self._current(), asked_for, patience)

    async def _ask(self, shared: SharedSession, asked_for: str, patience: float | None) -> KirinTask:
        request = get_generation(shared.connection.base_url, asked_for)
        async with shared.turn(patience):
            try:
                reply = await call_async(shared.session, request, shared.connection, proxy=shared.proxy)
                kirin_task = read_task(*reply, doing=f"asking for {asked_for}", asked_for=asked_for)
            except KirinError as error:
                shared.heard(error)
                raise
            shared.heard(None)
        log_oddities(self.log, kirin_task)
        return kirin_task

    def _current(self) -> SharedSession:
        assert self._joining is not None, "only inside `async with`"
        return self._joining.result()

    async def _read_again(self, used: SharedSession) -> bool:
        """Read the connection anew, unless another coroutine just did, and return whether it says something else."""
        from airflow_provider_kirin.hooks.shared_session import SharedSession

        if self._current() is used:
            now = await SharedSession.join(self.kirin_conn_id, reread=True)
            if self._current() is used and now is not used:
                self._joining = asyncio.get_running_loop().create_future()
                self._joining.set_result(now)
                await used.leave()
            else:
                await now.leave()
        return self._current() is not used

    async def wait(
        self,
        kirin_task_id: str,
        *,
        timeout: float,  # noqa: ASYNC109 - of the generation, not of this coroutine
        poll_interval: float | None = None,
        started_at: float | None = None,
    ) -> KirinTask:
        """Wait until a generation has its video.

        :param kirin_task_id: a Kirin task id or an external task id
        :param timeout: seconds to wait at most, counted from ``started_at``
        :param poll_interval: seconds between looks; None adapts them to the progress
        :param started_at: when the waiting began (seconds since the epoch), for a wait that goes on after a restart
        :raises KirinTimeoutError: it did not end in time; it may go on at Kirin
        :raises KirinTaskFailedError: it failed, or completed without a video
        """
        poller = new_poller(kirin_task_id, timeout, poll_interval, started_at)
        async with self:
            while not (step := await self.look(poller)).is_last:  # noqa: ASYNC110 - the poller says how long
                await asyncio.sleep(step.delay)
        return step.result()

    async def look(self, poller: Poller) -> Step:
        """Ask once for a poller's generation and return what to do next.

        :param poller: the state of the wait
        """
        patience = max(poller.deadline - time.time(), 0.0)
        try:
            outcome: KirinTask | KirinError = await self._get_task(poller.kirin_task_id, patience=patience)
        except KirinError as error:
            outcome = error
        return log_news(self.log, poller.heard(outcome, time.time()))


async def _leave(joining: asyncio.Future[SharedSession]) -> None:
    """Leave a session, be it that joining it has not ended yet."""
    await asyncio.wait([joining])
    if not joining.cancelled() and joining.exception() is None:
        await joining.result().leave()
