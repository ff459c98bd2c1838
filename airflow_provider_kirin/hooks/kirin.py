"""The Kirin hooks: thin I/O shells around the decisions of :mod:`airflow_provider_kirin.api`."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_kirin.api import connection_test
from airflow_provider_kirin.api.models import DEFAULT_MODEL
from airflow_provider_kirin.api.pauses import pause
from airflow_provider_kirin.api.payload import FitImages, PreparedPayload, prepare_payload, refuse_secret
from airflow_provider_kirin.api.polling import Outcome, Poller, PollResult
from airflow_provider_kirin.api.pricing import parse_precharge
from airflow_provider_kirin.api.rate_limiter import RateLimiter
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.requests import (
    ApiRequest,
    create_generation,
    get_generation,
    precharge_generation,
    validate_task_id,
)
from airflow_provider_kirin.api.responses import parse_task
from airflow_provider_kirin.api.retry import LOOKUP_PATIENCE, backoff_within, call_with_retries
from airflow_provider_kirin.connection import KirinConnection, missing_connection, read_connection
from airflow_provider_kirin.download.http_range import DEFAULT_MAX_BYTES
from airflow_provider_kirin.download.storage import open_uri, without_connection
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks import DEFAULT_CONN_ID
from airflow_provider_kirin.hooks.kirin_async import KirinAsyncHook
from airflow_provider_kirin.hooks.poller_factory import log_oddities, log_progress, new_poller
from airflow_provider_kirin.hooks.transport import RawResponse, call_sync, check_bundle, verify_with
from airflow_provider_kirin.utils.hook_lineage import report_lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    import requests

    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.api.video_file import VideoFile

__all__ = ["KirinAsyncHook", "KirinHook"]

#: Seconds that stand for a longer ``timeout`` of the connection when it is tested: the Test button takes one of the
#: threads of Airflow's API server, which answer the heartbeats of workers as well.
TEST_TIMEOUT = 5.0


class KirinHook(BaseHook):
    """Call the Kirin generation API with the key of an Airflow connection.

    :param kirin_conn_id: the connection (type ``kirin``): API Key, Host (default ``https://cloud.vtrix.ai``), and in
        the extra ``timeout`` (seconds), ``verify``, ``proxies``, ``requests_per_second``,
        ``allow_private_hosts``, ``prices``, ``namespace``, ``callback_base_url``
    """

    conn_name_attr = "kirin_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "kirin"
    hook_name = "Kirin"

    def __init__(self, kirin_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kirin_conn_id = kirin_conn_id
        self._connection: KirinConnection | None = None
        self._session: requests.Session | None = None
        self._rate_limiter: RateLimiter | None = None
        # A batch calls from several threads, over one session.
        self._rate_limiter_lock = threading.Lock()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the customized connection form for Airflow 2; newer versions read it from the provider info."""
        from airflow_provider_kirin.get_provider_info import get_provider_info

        behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @property
    def connection(self) -> KirinConnection:
        """The connection, looked up and validated once.

        :raises KirinConfigError: it cannot be used
        """
        if self._connection is None:
            try:
                conn = self.get_connection(self.kirin_conn_id)
            except AirflowNotFoundException as error:
                raise missing_connection(self.kirin_conn_id, error) from None
            self._connection = read_connection(conn, conn.extra_dejson)
        return self._connection

    def get_conn(self) -> requests.Session:
        """Return the HTTP session: kept open between calls, without cookies and without the key, which calls add."""
        if self._session is None:
            from airflow_provider_kirin.utils.session import IsolatedSession

            if self.connection.base_url.startswith("https:"):
                # Loading a CA bundle takes 20 ms, which plain http (to an emulator, say) does not need.
                check_bundle(verify_with(self.connection))
            self._session = IsolatedSession()
        return self._session

    def prepare(
        self,
        payload: Any,
        *,
        model: str = DEFAULT_MODEL,
        replacing: Mapping[Any, Any] | None = None,
        fit_images: FitImages = "error",
        allow_unknown_model: bool = False,
    ) -> PreparedPayload:
        """Validate a payload and its images, and return what would be sent. Nothing is sent; warnings are logged.

        :param payload: the model's parameters; images as URL, path, storage URI, bytes or Base64
        :param model: the model's id
        :param replacing: values that replace the payload's own, by parameter or by field path
        :param fit_images: what to do with an image that breaks a limit: ``"error"``, or ``"auto"`` to scale, pad and
            re-encode it until it fits
        :param allow_unknown_model: whether to accept a model that this provider does not know, unchecked, and
            parameters that look like a misspelling of a known one
        :raises KirinPayloadError: with every problem found
        """
        prepared = prepare_payload(
            payload,
            model,
            replacing=replacing,
            open_uri=open_uri,
            fit_images=fit_images,
            allow_unknown_model=allow_unknown_model,
        )
        for warning in prepared.warnings:
            self.log.warning(warning)
        for name, image in prepared.images.items():
            if image.fitted:
                self.log.info("%s was made to fit. It was %s. It is %s.", name, image.fitted, image)
        # ObjectStoragePath itself reported the images that it read.
        unreported = [
            image.uri for image in prepared.images.values() if image.uri and image.uri.startswith(("http", "file:"))
        ]
        report_lineage(self, inputs=unreported)
        return prepared

    def refuse_key(self, prepared: PreparedPayload) -> None:
        """Refuse a payload that contains the connection's API key, which a template in user data can render.

        :param prepared: what :meth:`prepare` returned
        :raises KirinPayloadError: names the field, and does not show the key
        """
        refuse_secret(prepared, self.connection.api_key)

    def submit(
        self,
        payload: Any,
        *,
        model: str = DEFAULT_MODEL,
        fit_images: FitImages = "error",
        allow_unknown_model: bool = False,
    ) -> KirinTask:
        """Start a generation. This costs money, so it is sent once and never retried; the operators can recover it.

        :param payload: the model's parameters, or what :meth:`prepare` returned
        :param model: the model's id
        :param fit_images: see :meth:`prepare`
        :param allow_unknown_model: whether to submit to a model that this provider does not know, unchecked, and to
            send parameters that look like a misspelling of a known one
        :return: the new generation, usually in progress
        :raises KirinPayloadError: with every problem found; nothing was sent
        :raises KirinNetworkError: no response; ``sent`` is False if the gateway cannot have accepted anything
        :raises KirinResponseError: the response cannot be read, or describes another generation; the outcome is unknown
        :raises KirinAPIError: the gateway returned an error
        """
        prepared = payload
        if not isinstance(prepared, PreparedPayload):
            prepared = self.prepare(
                payload, model=model, fit_images=fit_images, allow_unknown_model=allow_unknown_model
            )
        self.refuse_key(prepared)
        request = create_generation(self.connection.base_url, prepared.model, prepared.params)
        return self._request_task(
            request, doing="submitting the generation", external_task_id=prepared.params.get("external_task_id")
        )

    def precharge(self, payload: Any, *, model: str = DEFAULT_MODEL) -> tuple[Decimal | None, str]:
        """Request the price of a generation. Costs nothing and submits nothing; many gateways do not support it.

        :param payload: the model's parameters, or what :meth:`prepare` returned
        :param model: the model's id
        :return: US dollars, or None, and the reason if there is no price
        :raises KirinError: no response, or an error
        """
        prepared = payload if isinstance(payload, PreparedPayload) else self.prepare(payload, model=model)
        self.refuse_key(prepared)
        return parse_precharge(
            *self._send(precharge_generation(self.connection.base_url, prepared.model, prepared.params))
        )

    def get_task(
        self, kirin_task_id: str, *, external_task_id: str | None = None, patience: float = LOOKUP_PATIENCE
    ) -> KirinTask:
        """Look up a generation, retrying temporary errors for a while: lookups are free.

        :param kirin_task_id: a Kirin task id or an external task id
        :param external_task_id: the external task id, if known beside a Kirin task id, since not every response
            repeats it
        :param patience: seconds for which retryable errors are retried
        :raises KirinNotFoundError: the gateway does not know it
        :raises KirinAPIError: the gateway returned another error
        :raises KirinNetworkError: no response
        """
        return call_with_retries(
            lambda: self._get_once(kirin_task_id, external_task_id),
            backoff_within(patience),
            on_retry=partial(self.log.warning, "Lookup failed; retrying in %.0f s: %s"),
        )

    def poll_once(self, poller: Poller) -> PollResult:
        """Look up a poller's generation once, and return what to do next.

        :param poller: the state of the wait
        """
        try:
            kirin_task = self._get_once(poller.kirin_task_id, poller.external_task_id)
        except KirinError as error:
            return poller.on_error(error, time.time())
        return poller.on_response(kirin_task, time.time())

    def run(self, poller: Poller) -> Outcome:
        """Carry out a wait, and return how it ended.

        :param poller: the state of the wait
        """
        while (polled := log_progress(self.log, self.poll_once(poller))).outcome is None:
            pause(polled.delay)
        return polled.outcome

    def wait(
        self,
        kirin_task_id: str,
        *,
        timeout: float,
        poll_interval: float | None = None,
        external_task_id: str | None = None,
    ) -> KirinTask:
        """Wait, in this process, until a generation has its video.

        :param kirin_task_id: a Kirin task id or an external task id
        :param timeout: the maximum wait in seconds
        :param poll_interval: seconds between polls; None adapts it to the progress
        :param external_task_id: the external task id, if known: the other id is then the gateway's own, which each
            response has to repeat
        :raises KirinTimeoutError: it did not end in time; it may continue at Kirin
        :raises KirinTaskFailedError: it failed, or completed without a video
        """
        outcome = self.run(new_poller(kirin_task_id, timeout, poll_interval, external_task_id=external_task_id))
        if isinstance(outcome, KirinError):
            raise outcome
        return outcome

    def download(
        self,
        url: str,
        destination: Any,
        *,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        fresh_url: Callable[[], str] | None = None,
    ) -> int:
        """Download a video to a file, unless it already exists. The host that serves it is never sent the key.

        :param url: a video's URL, fresh (see :meth:`get_task`)
        :param destination: a local path, or the URI of an object (``s3://bucket/name.mp4``)
        :param overwrite: whether an existing, different file may be replaced
        :param max_bytes: a longer file is refused
        :param fresh_url: returns a new URL of the same video; called if the host refuses the old one
        :return: the file's length in bytes
        :raises KirinError: the download failed; no partial file is left under the final name
        """
        file = self.save_video(url, destination, overwrite=overwrite, max_bytes=max_bytes, fresh_url=fresh_url)
        return file.bytes

    def save_video(
        self,
        url: str,
        destination: Any,
        *,
        overwrite: bool = True,
        max_bytes: int = DEFAULT_MAX_BYTES,
        fresh_url: Callable[[], str] | None = None,
    ) -> VideoFile:
        """Do what :meth:`download` does, with the same arguments; return what is known of the file."""
        from airflow_provider_kirin.download.downloader import Download

        download = Download(
            url,
            destination,
            connection=self.connection,
            overwrite=overwrite,
            max_bytes=max_bytes,
            fresh_url=fresh_url,
        )
        file = download.run()
        # The file was not written through ObjectStoragePath, which reports lineage itself but publishes partial files.
        report_lineage(self, outputs=[without_connection(file.uri)])
        return file

    def test_connection(self) -> tuple[bool, str]:
        """Check key, host and path by looking up a task id that cannot exist. Costs nothing."""
        try:
            connection = self.connection
            if connection.unknown_extras:
                return False, connection.unknown_extras
            brief = replace(connection, timeout=min(connection.timeout, TEST_TIMEOUT))
            response = call_sync(self.get_conn(), get_generation(connection.base_url, connection_test.PROBE_ID), brief)
        except KirinError as error:
            return False, str(error)
        except Exception as error:
            return False, one_line(f"{type(error).__name__}: {error}")
        return connection_test.interpret(*response, base=connection.base_url)

    def close(self) -> None:
        """Close the HTTP session."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _send(self, request: ApiRequest) -> RawResponse:
        while delay := self._delay_until_allowed():
            time.sleep(delay)
        return call_sync(self.get_conn(), request, self.connection)

    def _delay_until_allowed(self) -> float:
        with self._rate_limiter_lock:
            if self._rate_limiter is None:
                self._rate_limiter = RateLimiter(self.connection.requests_per_second)
            return self._rate_limiter.acquire(time.monotonic())

    def _get_once(self, kirin_task_id: str, external_task_id: str | None) -> KirinTask:
        asked_for = validate_task_id(kirin_task_id)
        request = get_generation(self.connection.base_url, asked_for)
        return self._request_task(
            request, doing=f"asking for {asked_for}", asked_for=asked_for, external_task_id=external_task_id
        )

    def _request_task(
        self, request: ApiRequest, *, doing: str, asked_for: str | None = None, external_task_id: str | None
    ) -> KirinTask:
        kirin_task = parse_task(
            *self._send(request), doing=doing, asked_for=asked_for, external_task_id=external_task_id
        )
        log_oddities(self.log, kirin_task)
        return kirin_task
