"""The hook as :mod:`airflow_provider_kirin.api.submission` sees it, for one prepared payload."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.kirin import KirinHook


class HookClient:
    """Looks up generations, and submits one payload under given names.

    :param hook: does the I/O
    :param prepared: what is bought; None where there is nothing to buy
    """

    def __init__(self, hook: KirinHook, prepared: PreparedPayload | None) -> None:
        self._hook = hook
        self._prepared = prepared

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        """Look up a generation by its own id or by its external task id.

        :param kirin_task_id: either
        :param patience: seconds after which trouble is raised
        """
        return self._hook.get_task(kirin_task_id, patience=patience)

    def submit_as(self, external_task_id: str) -> KirinTask:
        """Send the payload under a name. Costs money.

        :param external_task_id: the name
        """
        assert self._prepared is not None, "nothing to buy"
        params = self._prepared.params | {"external_task_id": external_task_id}
        return self._hook.submit(replace(self._prepared, params=params))
