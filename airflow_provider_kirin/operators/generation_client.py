"""The hook as the client that :mod:`airflow_provider_kirin.api.submission` expects, for one payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.retry import call_with_retries, fixed_delays

if TYPE_CHECKING:
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.kirin import KirinHook


def connect(hook: KirinHook) -> None:
    """Look up the connection, retrying for 15 s: Airflow reports "not found" also if a secrets backend is down.

    :param hook: keeps the connection
    """
    call_with_retries(
        lambda: hook.connection,
        fixed_delays(),
        on_retry=partial(hook.log.warning, "Connection lookup failed; retrying in %s s: %s"),
    )


class HookClient:
    """Looks up generations, and submits one payload under a given external task id.

    :param hook: does the I/O
    :param prepared: the payload to submit; None for a client that only looks up
    :param make_callback_url: makes the callback URL of an external task id; None for no callback
    """

    def __init__(
        self,
        hook: KirinHook,
        prepared: PreparedPayload | None,
        make_callback_url: Callable[[str], str] | None = None,
    ) -> None:
        self._hook = hook
        self._prepared = prepared
        self._make_callback_url = make_callback_url

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        """Look up a generation.

        :param kirin_task_id: a Kirin task id or an external task id
        :param patience: seconds for which retryable errors are retried
        """
        return self._hook.get_task(kirin_task_id, patience=patience)

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Submit the payload under an external task id. Costs money."""
        assert self._prepared is not None, "no payload to submit"
        params = self._prepared.params | {"external_task_id": external_task_id}
        if self._make_callback_url:
            params["callback_url"] = self._make_callback_url(external_task_id)
        return self._hook.submit(replace(self._prepared, params=params))
