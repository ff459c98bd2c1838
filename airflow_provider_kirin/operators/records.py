"""What a step remembers of its purchase, kept where Airflow keeps things: task state store and XCom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

#: The XCom that names the generation to look at, while a task waits and after it failed.
XCOM_KEY = "kirin_submission"


class StepRecord:
    """The record of one task instance.

    On Airflow 3.3 and later it lives in the task state store (AIP-103), which survives deferral, retries, killed
    workers and clears. Before, an earlier try leaves nothing behind, and each try but the first has to assume that
    one may have submitted.

    :param context: Airflow's
    :param about: what the XCom says about a purchase beside its two ids
    """

    def __init__(self, context: Context, about: Mapping[str, Any] | None = None) -> None:
        fields: Mapping[str, Any] = context
        self._store = fields.get("task_state_store")
        self._ti = fields["ti"]
        self._about = dict(about or {})
        #: Names under which this step sent a submission whose answer was not on record.
        self._sent: set[str] = set()

    def is_news(self, external_task_id: str) -> bool:
        """Return whether it was not on record before this try that this step bought a generation under this name.

        :param external_task_id: the name
        """
        return external_task_id in self._sent

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation that was bought under this name, where that is on record.

        :param external_task_id: the name
        """
        kirin_task_id = self._entry(external_task_id).get("kirin_task_id")
        return kirin_task_id if isinstance(kirin_task_id, str) else None

    def may_have_posted(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose answer is not on record.

        :param external_task_id: the name
        """
        if self._store is None:
            return bool(self._ti.try_number > 1)
        return "posting" in self._entry(external_task_id)

    def posting(self, external_task_id: str) -> None:
        """Remember, before it is sent, that a submission is about to be sent.

        :param external_task_id: the name
        """
        self._sent.add(external_task_id)
        if self._store is not None:
            # Should this fail, so does the task, before anything is paid.
            self._store.set(_key(external_task_id), {"posting": True})

    def refused(self, external_task_id: str) -> None:
        """Remember that nothing was accepted.

        :param external_task_id: the name
        """
        if self._store is not None:
            self._store.delete(_key(external_task_id))

    def bought(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember what was accepted.

        :param external_task_id: the name
        :param kirin_task_id: the generation
        """
        if self._store is not None:
            self._store.set(_key(external_task_id), {"kirin_task_id": kirin_task_id, **self._about})
        self._ti.xcom_push(
            XCOM_KEY, {"kirin_task_id": kirin_task_id, "external_task_id": external_task_id, **self._about}
        )

    def external_task_id(self, kirin_task_id: str) -> str | None:
        """Return the name under which this task instance bought or adopted a generation.

        :param kirin_task_id: the generation
        """
        entry = self._pull(map_indexes=self._ti.map_index)
        bought = isinstance(entry, Mapping) and entry.get("kirin_task_id") == kirin_task_id
        return entry.get("external_task_id") if bought else None

    def known_generations(self) -> Iterator[tuple[str, str]]:
        """Return what earlier runs of this task, and its mapped siblings, bought."""
        earlier = self._pull(include_prior_dates=True)
        siblings = self._pull(map_indexes=None) if self._ti.map_index is not None and self._ti.map_index >= 0 else None
        for found in (earlier, siblings):
            many = found if isinstance(found, Iterable) and not isinstance(found, (str, Mapping)) else [found]
            for entry in many:
                if isinstance(entry, Mapping) and entry.get("kirin_task_id") and entry.get("external_task_id"):
                    yield str(entry["external_task_id"]), str(entry["kirin_task_id"])

    def _pull(self, **how: Any) -> Any:
        return self._ti.xcom_pull(task_ids=self._ti.task_id, key=XCOM_KEY, **how)

    def _entry(self, external_task_id: str) -> Mapping[str, Any]:
        entry = self._store.get(_key(external_task_id)) if self._store is not None else None
        entry = entry if isinstance(entry, Mapping) else {}
        if "posting" in entry:
            self._sent.add(external_task_id)
        return entry


def _key(external_task_id: str) -> str:
    return f"kirin:{external_task_id}"
