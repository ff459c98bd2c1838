"""What a step remembers of its purchase, kept where Airflow keeps things: task state store and XCom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.record import EarlierSubmission
from airflow_provider_kirin.state.keys import SUBMISSION_KEY
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.task import KirinTask

#: The entry of the task state store that holds the external task id of the last generation that this task instance
#: bought, or set out to buy, and in which round. The id depends on the payload, and that may differ on the next try.
_LATEST = "kirin:latest"
#: What the XCom says about a purchase, and a later try may not know.
_ABOUT = ("kirin_conn_id", "price_key")


class SubmissionRecord:
    """The record of one task instance.

    On Airflow 3.3 and later it lives in the task state store (AIP-103), which survives deferral, retries, killed
    workers and clears. Before, an earlier try leaves nothing behind, and each try but the first has to assume that
    one may have submitted.

    :param context: Airflow's
    :param xcom_fields: what the XCom says about a purchase beside its two ids
    :param inputs: what this try would buy the generation from, for later readers
    :param inputs_known: whether a generation with this step's external task id can only have been made from that
    :param model: what this try would buy; empty if the external task id may stand for another model
    """

    def __init__(
        self,
        context: Context,
        xcom_fields: Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        inputs_known: bool = True,
        model: str = "",
    ) -> None:
        fields: Mapping[str, Any] = context
        self._store = fields.get("task_state_store")
        self._ti = fields["ti"]
        self._xcom_fields = dict(xcom_fields or {})
        self._inputs = dict(inputs or {})
        self._inputs_known = inputs_known
        self._model = model
        #: External task ids under which this try sent a submission.
        self._sent: set[str] = set()
        #: Those of submissions whose answer was not on record before this try.
        self._open: set[str] = set()
        self._latest: str | None = None
        #: Kirin task id -> what it cost, of the failed generations of this step.
        self.failed_costs: dict[str, str] = {}

    def submitted_in_this_try(self, external_task_id: str) -> bool:
        """Return whether this try submitted the generation.

        :param external_task_id: the name
        """
        return external_task_id in self._sent | self._open

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation that was bought under this name, where that is on record.

        :param external_task_id: the name
        """
        kirin_task_id = self._entry(external_task_id).get("kirin_task_id")
        return kirin_task_id if isinstance(kirin_task_id, str) else None

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose answer is not on record.

        :param external_task_id: the name
        """
        if self._store is None:
            return bool(self._ti.try_number > 1)
        return "intent" in self._entry(external_task_id)

    def latest(self) -> EarlierSubmission | None:
        """Return what this task instance bought last, or may have bought, if that is on record."""
        latest = self._read_latest()
        external_task_id = str(latest.get("external_task_id") or "")
        entry = self._entry(external_task_id) if external_task_id else {}
        if not ("intent" in entry or entry.get("kirin_task_id")):
            # The gateway surely accepted nothing.
            return None
        return EarlierSubmission(
            external_task_id=external_task_id,
            kirin_task_id=entry.get("kirin_task_id"),
            conn_id=str(entry.get("kirin_conn_id") or ""),
            model=str(entry.get("model") or ""),
            is_same_round=latest.get("round") == self._round,
        )

    def sent_as(self, external_task_id: str) -> str:
        """Return the external task id under which this one's payload was submitted: as a rule the same.

        :param external_task_id: what the payload's would be
        """
        other = self._entry(external_task_id).get("sent_as")
        return str(other) if other and self._entry(str(other)) else external_task_id

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Remember, before it is sent, that a submission is about to be sent.

        :param external_task_id: the external task id that is sent
        :param instead_of: the payload's own, if an earlier try of the round has bound it to the other
        """
        if instead_of is not None:
            self._set(_key(instead_of), {"sent_as": external_task_id})
        self._sent.add(external_task_id)
        earlier = self._entry(external_task_id)
        if earlier.get("inputs", self._inputs) != self._inputs:
            # Two tries submit different things under this id; which one is accepted will not be known.
            self._inputs = {}
        model = self._model if earlier.get("model", self._model) == self._model else ""
        # Should this fail, so does the task, before anything is paid.
        about = self._xcom_fields | {"failed_costs": self.failed_costs}
        self._keep(external_task_id, {"intent": True, **about, "model": model, "inputs": self._inputs})

    def clear_intent(self, external_task_id: str) -> None:
        """Remember that nothing was accepted.

        :param external_task_id: the external task id that was sent
        """
        if self._store is not None:
            self._store.delete(_key(external_task_id))

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Remember a generation that failed: it may have cost something.

        :param external_task_id: its external task id
        :param kirin_task: the generation
        """
        costs = self._entry(external_task_id).get("failed_costs")
        self.failed_costs |= costs if isinstance(costs, Mapping) else {}
        self.failed_costs[kirin_task.id] = show_usd(billed_cost(kirin_task) or Decimal(0))

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Remember what was accepted.

        :param external_task_id: the external task id that it was bought under
        :param kirin_task_id: the generation
        """
        entry = self._entry(external_task_id)
        is_known = external_task_id not in self._sent and bool(entry)
        # What an earlier try bought may differ from what this one would buy.
        about = self._xcom_fields | ({name: entry[name] for name in _ABOUT if name in entry} if is_known else {})
        model = entry.get("model", "" if is_known else self._model)
        if failed_costs := dict(entry.get("failed_costs") or {}) | self.failed_costs:
            about = about | {"failed_costs": failed_costs}
        inputs = self.inputs_of(external_task_id)
        self._keep(external_task_id, {"kirin_task_id": kirin_task_id, **about, "model": model, "inputs": inputs})
        self._push(kirin_task_id, external_task_id, about | inputs)

    def describe_earlier_submission(self) -> str:
        """Say what an earlier try has bought, or may have, and how to get it; where it is known, in the XCom too.

        :return: a line for an error; empty where there can be nothing
        """
        external_task_id = str(self._read_latest().get("external_task_id") or "")
        entry = self._entry(external_task_id) if external_task_id else {}
        if kirin_task_id := entry.get("kirin_task_id"):
            self._push(kirin_task_id, external_task_id, dict(entry.get("inputs") or {}))
            return (
                f"An earlier try of this task bought Kirin generation {kirin_task_id} (external task id "
                f"{external_task_id}). Fix "
                "the payload: if it then matches the earlier one, that generation is reused. Or wait for it with "
                "KirinTaskSensor."
            )
        if "intent" in entry:
            return (
                f"An earlier try of this task may have bought a generation, external task id {external_task_id}. Look "
                "for it with "
                "KirinTaskSensor or in your Kirin account."
            )
        if self._store is None and self._ti.try_number > 1:
            return "An earlier try of this task may have bought a generation: its log names it."
        return ""

    @property
    def _round(self) -> int:
        """Which round of automatic retries this try belongs to: Airflow raises ``max_tries`` with each clear.

        It does so at no other time, and not if the task is running when it is cleared: then the round goes on.
        """
        return int(self._ti.max_tries)

    def _read_latest(self) -> Mapping[str, Any]:
        latest = self._store.get(_LATEST) if self._store is not None else None
        return latest if isinstance(latest, Mapping) else {}

    def _keep(self, external_task_id: str, entry: dict[str, Any]) -> None:
        self._set(_key(external_task_id), entry)
        if self._store is not None and self._latest != external_task_id:
            self._set(_LATEST, {"external_task_id": external_task_id, "round": self._round})
            self._latest = external_task_id

    def _set(self, key: str, value: dict[str, Any]) -> None:
        if self._store is not None:
            from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # loaded lazily

            # As long as the run itself: what is on record is never bought again.
            self._store.set(key, value, retention=NEVER_EXPIRE)

    def _push(self, kirin_task_id: str, external_task_id: str, xcom_fields: Mapping[str, Any]) -> None:
        ids = {"kirin_task_id": kirin_task_id, "external_task_id": external_task_id}
        self._ti.xcom_push(SUBMISSION_KEY, {**ids, **xcom_fields})

    def inputs_of(self, external_task_id: str) -> dict[str, Any]:
        """Return what the generation was made from: an earlier try may have bought it from something else.

        :param external_task_id: the name
        """
        recorded = self._entry(external_task_id).get("inputs")
        if isinstance(recorded, Mapping) and external_task_id not in self._sent:
            return dict(recorded)
        return self._inputs if self._inputs_known or external_task_id in self._sent else {}

    def find_submission(self, kirin_task_id: str, submitted_by: Iterable[tuple[str, int]] = ()) -> Mapping[str, Any]:
        """Return what :meth:`bought` left in the XCom of the task that bought or adopted a generation.

        :param kirin_task_id: the generation
        :param submitted_by: ids and map indexes of other tasks that may have bought it; none means this task
        :return: ``external_task_id``, ``prompt_digest`` and ``images``, or nothing
        """
        own = (self._ti.task_id, map_index_of(self._ti))
        for task_id, map_index in list(submitted_by) or [own]:
            entry = self._ti.xcom_pull(task_ids=task_id, key=SUBMISSION_KEY, map_indexes=map_index)
            if isinstance(entry, Mapping) and entry.get("kirin_task_id") == kirin_task_id:
                return entry
        return {}

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
        return self._ti.xcom_pull(task_ids=self._ti.task_id, key=SUBMISSION_KEY, **how)

    def _entry(self, external_task_id: str) -> Mapping[str, Any]:
        entry = self._store.get(_key(external_task_id)) if self._store is not None else None
        entry = entry if isinstance(entry, Mapping) else {}
        if "intent" in entry:
            self._open.add(external_task_id)
        return entry


def _key(external_task_id: str) -> str:
    return f"kirin:{external_task_id}"
