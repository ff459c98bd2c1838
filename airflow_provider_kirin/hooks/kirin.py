"""The Kirin hooks: thin shells that do the I/O which :mod:`airflow_provider_kirin.api` decides on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_kirin.api import probe
from airflow_provider_kirin.api.experience import Experience
from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.pace import Pace
from airflow_provider_kirin.api.payload import PreparedPayload, prepare
from airflow_provider_kirin.api.polling import Poller, Step
from airflow_provider_kirin.api.prices import read_precharge
from airflow_provider_kirin.api.reply import LONGEST_REPLY, read_task
from airflow_provider_kirin.api.requests import (
    ApiRequest,
    check_id,
    create_generation,
    get_generation,
    precharge_generation,
)
from airflow_provider_kirin.api.retrying import PATIENCE, pause
from airflow_provider_kirin.api.text import one_line, shorten
from airflow_provider_kirin.exceptions import KirinAuthError, KirinError
from airflow_provider_kirin.hooks.connection import KirinConnection, missing_connection, read_connection
from airflow_provider_kirin.hooks.http import Reply, call_async, call_sync, check_bundle, verify_with
from airflow_provider_kirin.hooks.storage import open_uri

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    import requests

    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.sessions import SharedSession

#: What this process has seen, by connection: another gateway has other durations.
_experience: dict[str, Experience] = {}
#: Status words that were warned about already, in this process.
_unknown_statuses: set[str] = set()


class KirinHook(BaseHook):
    """Talk to the Kirin generation API with the key of an Airflow connection.

    :param kirin_conn_id: the connection (type ``kirin``): API Key, Host (default ``https://cloud.vtrix.ai``), and in
        the extra ``timeout`` (seconds), ``verify``, ``proxies``, ``requests_per_second``, ``prices``
    """

    conn_name_attr = "kirin_conn_id"
    default_conn_name = "kirin_default"
    conn_type = "kirin"
    hook_name = "Kirin"

    def __init__(self, kirin_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kirin_conn_id = kirin_conn_id
        self._connection: KirinConnection | None = None
        self._session: requests.Session | None = None
        self._pace: Pace | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how the connection form looks on Airflow 2; newer versions read it from the provider info."""
        from airflow_provider_kirin.get_provider_info import get_provider_info

        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @property
    def connection(self) -> KirinConnection:
        """The connection, looked up and checked once.

        :raises KirinConfigError: where it cannot be used
        """
        if self._connection is None:
            try:
                conn = self.get_connection(self.kirin_conn_id)
            except AirflowNotFoundException as error:
                raise missing_connection(self.kirin_conn_id, error) from None
            self._connection = read_connection(conn, conn.extra_dejson)
        return self._connection

    def get_conn(self) -> requests.Session:
        """Return the HTTP session: kept open between calls; no cookies, and no key, which each call adds."""
        if self._session is None:
            from http.cookiejar import DefaultCookiePolicy

            import requests

            check_bundle(verify_with(self.connection))
            self._session = requests.Session()
            self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return self._session

    def prepare(
        self, payload: Any, *, model: str = DEFAULT_MODEL, replacing: Mapping[str, Any] | None = None
    ) -> PreparedPayload:
        """Check a payload and its images, and return what would be sent. Nothing is sent.

        :param payload: the model's parameters; images as URL, path, storage URI, bytes or Base64
        :param model: the model's id
        :param replacing: parameters that take the place of the payload's own
        :raises KirinPayloadError: with everything that is wrong
        """
        return prepare(payload, model, replacing=replacing, open_uri=open_uri)

    def submit(self, payload: Any, *, model: str = DEFAULT_MODEL) -> KirinTask:
        """Start a generation. This costs money, so it is sent once and never repeated; the operators know more.

        :param payload: the model's parameters, or what :meth:`prepare` returned
        :param model: the model's id
        :return: the new task, in progress as a rule
        :raises KirinPayloadError: with everything that is wrong; nothing was sent
        :raises KirinNetworkError: no reply came; ``sent`` is False where nothing can have been accepted
        :raises KirinAPIError: the gateway said no
        """
        ready = payload if isinstance(payload, PreparedPayload) else self.prepare(payload, model=model)
        request = create_generation(self.connection.base_url, ready.model, ready.params)
        kirin_task = self._ask(request, doing="submitting the generation")
        # The gateway does not repeat the caller's own id in every reply.
        return replace(kirin_task, external_task_id=ready.params.get("external_task_id") or kirin_task.external_task_id)

    def precharge(self, payload: Any, *, model: str = DEFAULT_MODEL) -> tuple[Decimal | None, str]:
        """Ask the gateway what a generation would cost. Free, and buys nothing; many gateways do not know.

        :param payload: the model's parameters, or what :meth:`prepare` returned
        :param model: the model's id
        :return: US dollars, or None and why there is no price
        :raises KirinError: no answer, or a refusal
        """
        ready = payload if isinstance(payload, PreparedPayload) else self.prepare(payload, model=model)
        return read_precharge(*self._send(precharge_generation(self.connection.base_url, ready.model, ready.params)))

    def get_task(self, kirin_task_id: str, *, patience: float = PATIENCE) -> KirinTask:
        """Ask for a generation's state, riding out trouble for a while: asking is free.

        :param kirin_task_id: a Kirin task id or an external task id
        :param patience: seconds after which trouble is raised
        :raises KirinNotFoundError: the gateway does not know it
        :raises KirinAPIError: the gateway said something else than yes
        :raises KirinNetworkError: no reply came
        """
        give_up_at, attempt = time.monotonic() + patience, 0
        while True:
            try:
                return self._get_once(kirin_task_id)
            except KirinError as error:
                attempt += 1
                delay = pause(error, attempt)
                if not error.retryable or time.monotonic() + delay > give_up_at:
                    raise
                self.log.warning("Asking again in %.0f s: %s", delay, error)
            time.sleep(delay)

    def look(self, poller: Poller) -> Step:
        """Ask once for a poller's generation and return what to do next.

        :param poller: the state of the wait
        """
        try:
            outcome: KirinTask | KirinError = self._get_once(poller.kirin_task_id)
        except KirinError as error:
            outcome = error
        return _log_news(self, poller.heard(outcome, time.time()))

    def wait(self, kirin_task_id: str, *, timeout: float, poll_interval: float | None = None) -> KirinTask:
        """Wait, in this process, until a generation has its video.

        :param kirin_task_id: a Kirin task id or an external task id
        :param timeout: seconds to wait at most
        :param poll_interval: seconds between looks; None adapts them to the progress
        :raises KirinTimeoutError: it did not end in time; it goes on at Kirin
        :raises KirinTaskFailedError: it failed, or completed without a video
        """
        poller = _poller(self.kirin_conn_id, kirin_task_id, timeout, poll_interval)
        while not (step := self.look(poller)).is_last:
            time.sleep(step.delay)
        return _result(step)

    def download(self, url: str, destination: Any, *, overwrite: bool = True) -> int:
        """Copy a video to a file. The key is never sent to the host that serves it.

        :param url: a video's URL, fresh (see :meth:`get_task`)
        :param destination: a local path, or the URI of an object (``s3://bucket/name.mp4``)
        :param overwrite: whether a file that is there may be replaced
        :return: its length in bytes
        :raises KirinError: nothing usable came; no half file is left under the final name
        """
        from airflow_provider_kirin.hooks.download import download

        connection = self.connection
        return download(
            url,
            destination,
            timeout=connection.timeout,
            verify=connection.verify,
            proxies=connection.proxies,
            overwrite=overwrite,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Check key, host and path by asking for a task that cannot exist. Costs nothing."""
        try:
            connection = self.connection
            reply = self._send(get_generation(connection.base_url, probe.PROBE_ID))
        except KirinError as error:
            return False, str(error)
        except Exception as error:
            return False, one_line(f"{type(error).__name__}: {error}")
        return probe.judge(*reply, base=connection.base_url)

    def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _send(self, request: ApiRequest) -> Reply:
        if self._pace is None:
            self._pace = Pace(self.connection.requests_per_second)
        while delay := self._pace.take(time.monotonic()):
            time.sleep(delay)
        return call_sync(self.get_conn(), request, self.connection, limit=LONGEST_REPLY)

    def _get_once(self, kirin_task_id: str) -> KirinTask:
        asked_for = check_id(kirin_task_id)
        request = get_generation(self.connection.base_url, asked_for)
        return self._ask(request, doing=f"asking for {asked_for}", asked_for=asked_for)

    def _ask(self, request: ApiRequest, *, doing: str, asked_for: str | None = None) -> KirinTask:
        kirin_task = read_task(*self._send(request), doing=doing, asked_for=asked_for)
        _log_unknown_status(self, kirin_task)
        return kirin_task


class KirinAsyncHook(BaseHook):
    """Ask for generations from an event loop. All hooks of one loop and connection share one HTTP session.

    Use it as an async context manager where you ask more than once; the last one that leaves closes the session. One
    hook may serve many coroutines at a time.

    :param kirin_conn_id: the connection (type ``kirin``)
    """

    def __init__(self, kirin_conn_id: str = KirinHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kirin_conn_id = kirin_conn_id
        self._entered = 0
        self._joining: asyncio.Future[SharedSession] | None = None

    async def __aenter__(self) -> Self:
        self._entered += 1
        if self._joining is None:
            from airflow_provider_kirin.hooks.sessions import SharedSession

            self._joining = asyncio.ensure_future(SharedSession.join(self.kirin_conn_id))
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
            await asyncio.wait([joining])
            if not joining.cancelled() and joining.exception() is None:
                await joining.result().leave()

    async def get_task(self, kirin_task_id: str) -> KirinTask:
        """Ask for a generation's state.

        :param kirin_task_id: a Kirin task id or an external task id
        :raises KirinNotFoundError: the gateway does not know it
        :raises KirinAPIError: the gateway said something else than yes
        :raises KirinNetworkError: no reply came
        """
        return await self._get_task(kirin_task_id, patience=None)

    async def _get_task(self, kirin_task_id: str, *, patience: float | None) -> KirinTask:
        asked_for = check_id(kirin_task_id)
        async with self:
            used = self._current()
            try:
                return await self._ask(used, asked_for, patience)
            except KirinAuthError:
                # The key may have been changed since this process read it.
                if not await self._read_again(used):
                    raise
                return await self._ask(self._current(), asked_for, patience)

    async def _ask(self, shared: SharedSession, asked_for: str, patience: float | None) -> KirinTask:
        request = get_generation(shared.connection.base_url, asked_for)
        async with shared.turn(patience):
            try:
                reply = await call_async(shared.session, request, shared.connection, limit=LONGEST_REPLY)
                kirin_task = read_task(*reply, doing=f"asking for {asked_for}", asked_for=asked_for)
            except KirinError as error:
                shared.heard(error)
                raise
            shared.heard(None)
        _log_unknown_status(self, kirin_task)
        return kirin_task

    def _current(self) -> SharedSession:
        assert self._joining is not None, "only inside `async with`"
        return self._joining.result()

    async def _read_again(self, used: SharedSession) -> bool:
        """Read the connection anew, unless another coroutine just did, and return whether it says something else."""
        from airflow_provider_kirin.hooks.sessions import SharedSession

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
        kind: str = "",
    ) -> KirinTask:
        """Wait until a generation has its video.

        :param kirin_task_id: a Kirin task id or an external task id
        :param timeout: seconds to wait at most, counted from ``started_at``
        :param poll_interval: seconds between looks; None adapts them to the progress
        :param started_at: when the waiting began (seconds since the epoch), for a wait that goes on after a restart
        :param kind: what sets its duration apart from others of its model, such as ``pro 10``: experience of the same
            kind tells when to look
        :raises KirinTimeoutError: it did not end in time; it goes on at Kirin
        :raises KirinTaskFailedError: it failed, or completed without a video
        """
        poller = _poller(self.kirin_conn_id, kirin_task_id, timeout, poll_interval, started_at, kind)
        async with self:
            while not (step := await self.look(poller)).is_last:  # noqa: ASYNC110 - the poller says how long
                await asyncio.sleep(step.delay)
        return _result(step)

    async def look(self, poller: Poller) -> Step:
        """Ask once for a poller's generation and return what to do next.

        :param poller: the state of the wait
        """
        patience = max(poller.deadline - time.time(), 0.0)
        try:
            outcome: KirinTask | KirinError = await self._get_task(poller.kirin_task_id, patience=patience)
        except KirinError as error:
            outcome = error
        return _log_news(self, poller.heard(outcome, time.time()))


def _poller(
    conn_id: str,
    kirin_task_id: str,
    timeout: float,
    poll_interval: float | None,
    started_at: float | None = None,
    kind: str = "",
) -> Poller:
    started = time.time() if started_at is None else started_at
    return Poller(
        check_id(kirin_task_id),
        started_at=started,
        deadline=started + timeout,
        poll_interval=poll_interval,
        experience=_experience.setdefault(conn_id, Experience()),
        kind=kind,
    )


def _result(step: Step) -> KirinTask:
    if step.error is not None:
        raise step.error
    assert step.kirin_task is not None
    return step.kirin_task


def _log_unknown_status(hook: BaseHook, kirin_task: KirinTask) -> None:
    if kirin_task.has_unknown_status and kirin_task.raw_status not in _unknown_statuses:
        _unknown_statuses.add(kirin_task.raw_status)
        hook.log.warning(
            "Kirin reports the unknown status %s (task %s); it counts as in progress.",
            shorten(kirin_task.raw_status),
            kirin_task.id,
        )


def _log_news(hook: BaseHook, step: Step) -> Step:
    if step.news:
        hook.log.info(step.news)
    return step
