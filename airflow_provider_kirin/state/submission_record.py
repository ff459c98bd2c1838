"""The record of a step's submission, kept in Airflow's task state store and in XCom; see :mod:`.keys`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.api.pricing import billed_cost, show_usd
from airflow_provider_kirin.api.record import EarlierSubmission
from airflow_provider_kirin.state.keys import LATEST_KEY, ORDER_KEY, SUBMISSION_KEY, submission_state_key
from airflow_provider_kirin.utils.task_instance import map_index_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.task import KirinTask

#: XCom fields of the submission itself, which a later try may be unable to reconstruct.
_SUBMISSION_FIELDS = ("kirin_conn_id", "price_key")


class SubmissionRecord:
    """The submission record of one task instance.

    On Airflow 3.3 and later it lives in the task state store (AIP-103), which survives deferral, retries, killed
    workers and clears. On older versions an earlier try leaves nothing behind, so every try after the first has to
    assume that an earlier one may have submitted.

    :param context: the running task's context
    :param xcom_fields: fields of the XCom besides the two ids
    :param inputs: what this try would generate the video from, for later readers
    :param inputs_known: whether a generation with this step's external task id can only have been made from ``inputs``
    :param model: the model this try would use; empty if the external task id may belong to another model
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
        #: External task ids of submissions whose outcome was not on record before this try.
        self._open: set[str] = set()
        #: What is in the store, as far as this process knows: each request to it takes a worker 10 to 40 ms.
        self._known: dict[str, Any] = {}
        #: Kirin task id -> cost, for the failed generations of this step.
        self.failed_costs: dict[str, str] = {}

    def submitted_in_this_try(self, external_task_id: str) -> bool:
        """Return whether this try submitted the generation."""
        return external_task_id in self._sent | self._open

    def kirin_task_id(self, external_task_id: str) -> str | None:
        """Return the id of the generation submitted under this external task id, if it is on record."""
        kirin_task_id = self._entry(external_task_id).get("kirin_task_id")
        return kirin_task_id if isinstance(kirin_task_id, str) else None

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        """Return whether an earlier try may have sent a submission whose outcome is not on record."""
        if self._store is None:
            return bool(self._ti.try_number > 1)
        # Read anew, as money depends on it: Airflow may have taken a try for dead that is still running.
        self._known.pop(submission_state_key(external_task_id), None)
        entry = self._entry(external_task_id)
        return "intent" in entry or bool(entry.get("kirin_task_id"))

    def latest(self) -> EarlierSubmission | None:
        """Return the last submission of this task instance, confirmed or unresolved, if it is on record."""
        latest = self._read_latest()
        external_task_id = str(latest.get("external_task_id") or "")
        entry = self._entry(external_task_id) if external_task_id else {}
        if not ("intent" in entry or entry.get("kirin_task_id")):
            # The gateway is known to have accepted nothing.
            return None
        return EarlierSubmission(
            external_task_id=external_task_id,
            kirin_task_id=entry.get("kirin_task_id"),
            conn_id=str(entry.get("kirin_conn_id") or ""),
            model=str(entry.get("model") or ""),
            is_same_round=latest.get("round") == self._round,
        )

    def sent_as(self, external_task_id: str) -> str:
        """Return the external task id under which the payload was submitted, which is usually the same one.

        :param external_task_id: the id derived from the payload
        """
        other = self._entry(external_task_id).get("sent_as")
        return str(other) if other and self._entry(str(other)) else external_task_id

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        """Record the intent to submit. Call it before the request is sent.

        :param external_task_id: the external task id that is sent
        :param instead_of: the id derived from the payload, if an earlier try of the round bound it to another one
        """
        if instead_of is not None:
            self._set(submission_state_key(instead_of), {"sent_as": external_task_id})
        self._sent.add(external_task_id)
        earlier = self._entry(external_task_id)
        if earlier.get("inputs", self._inputs) != self._inputs:
            # Two tries submit different inputs under one id, and we cannot know which of them is accepted.
            self._inputs = {}
        model = self._model if earlier.get("model", self._model) == self._model else ""
        # If this fails, so does the task, before it has cost anything.
        xcom_fields = self._xcom_fields | {"failed_costs": self.failed_costs}
        self._keep(external_task_id, {"intent": True, **xcom_fields, "model": model, "inputs": self._inputs})

    def clear_intent(self, external_task_id: str) -> None:
        """Delete the intent, because the gateway rejected the submission."""
        if self._store is not None:
            self._known.pop(key := submission_state_key(external_task_id), None)
            self._store.delete(key)

    def mark_failed(self, external_task_id: str, kirin_task: KirinTask) -> None:
        """Record a failed generation, which may have cost something."""
        costs = self._entry(external_task_id).get("failed_costs")
        self.failed_costs |= costs if isinstance(costs, Mapping) else {}
        self.failed_costs[kirin_task.id] = show_usd(billed_cost(kirin_task) or Decimal(0))

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        """Record an accepted submission, in the task state store and in the XCom.

        :param external_task_id: the external task id it was submitted under
        :param kirin_task_id: the id of the new generation
        """
        entry = self._entry(external_task_id)
        is_known = external_task_id not in self._sent and bool(entry)
        xcom_fields = self._xcom_fields
        if is_known:
            # An earlier try may have submitted something else than this one would.
            xcom_fields = xcom_fields | {name: entry[name] for name in _SUBMISSION_FIELDS if name in entry}
        model = entry.get("model", "" if is_known else self._model)
        if failed_costs := dict(entry.get("failed_costs") or {}) | self.failed_costs:
            xcom_fields = xcom_fields | {"failed_costs": failed_costs}
        inputs = self.inputs_of(external_task_id)
        self._keep(external_task_id, {"kirin_task_id": kirin_task_id, **xcom_fields, "model": model, "inputs": inputs})
        self._push(kirin_task_id, external_task_id, xcom_fields | inputs)

    def describe_earlier_submission(self) -> str:
        """Return a line for an error about what an earlier try submitted, or may have, and how to get the video.

        It is empty if no earlier try can have submitted anything. A generation that is known is pushed to the XCom.
        """
        external_task_id = str(self._read_latest().get("external_task_id") or "")
        entry = self._entry(external_task_id) if external_task_id else {}
        if kirin_task_id := entry.get("kirin_task_id"):
            self._push(kirin_task_id, external_task_id, dict(entry.get("inputs") or {}))
            return (
                f"An earlier try of this task submitted Kirin generation {kirin_task_id} (external task id "
                f"{external_task_id}). Fix the payload: if it then matches the earlier one, that generation is "
                "reused. Or wait for it with KirinTaskSensor."
            )
        if "intent" in entry:
            return (
                f"An earlier try of this task may have submitted a generation, external task id {external_task_id}. "
                "Look it up with KirinTaskSensor or in your Kirin account."
            )
        if self._store is None and self._ti.try_number > 1:
            return "An earlier try of this task may have submitted a generation; its log has the id."
        return ""

    @property
    def _round(self) -> int:
        """The round of automatic retries that this try belongs to, identified by ``max_tries``.

        Airflow increases ``max_tries`` when a task is cleared and at no other time. Clearing a running task does not
        increase it: the round continues.
        """
        return int(self._ti.max_tries)

    def _read_latest(self) -> Mapping[str, Any]:
        return self._get(LATEST_KEY)

    def _keep(self, external_task_id: str, entry: dict[str, Any]) -> None:
        if self._store is None:
            return
        self._set(submission_state_key(external_task_id), entry)
        latest = {"external_task_id": external_task_id, "round": self._round}
        if self._read_latest() != latest:
            self._set(LATEST_KEY, latest)

    def _get(self, key: str) -> Mapping[str, Any]:
        if self._store is not None and key not in self._known:
            self._known[key] = self._store.get(key)
        value = self._known.get(key)
        return value if isinstance(value, Mapping) else {}

    def _set(self, key: str, value: dict[str, Any]) -> None:
        if self._store is not None:
            from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # loaded lazily

            self._known.pop(key, None)
            # Kept as long as the run itself: what is on record is never submitted again.
            self._store.set(key, value, retention=NEVER_EXPIRE)
            self._known[key] = value

    def _push(self, kirin_task_id: str, external_task_id: str, xcom_fields: Mapping[str, Any]) -> None:
        ids = {"kirin_task_id": kirin_task_id, "external_task_id": external_task_id}
        fields = {**ids, **xcom_fields}
        order = fields.pop("order", None)
        self._ti.xcom_push(SUBMISSION_KEY, fields)
        if isinstance(order, Mapping):
            # An XCom of its own: mapped siblings read each other's submissions, and prompts are long.
            self._ti.xcom_push(ORDER_KEY, {"kirin_task_id": kirin_task_id, **order})

    def inputs_of(self, external_task_id: str) -> dict[str, Any]:
        """Return what the generation was made from, which may differ from this try's inputs."""
        recorded = self._entry(external_task_id).get("inputs")
        if isinstance(recorded, Mapping) and external_task_id not in self._sent:
            return dict(recorded)
        return self._inputs if self._inputs_known or external_task_id in self._sent else {}

    def find_submission(self, kirin_task_id: str, submitters: Iterable[tuple[str, int]] = ()) -> Mapping[str, Any]:
        """Return the :data:`SUBMISSION_KEY` XCom of the task that submitted or adopted a generation.

        :param kirin_task_id: the generation
        :param submitters: ids and map indexes of other tasks that may have submitted it; if empty, this task
        :return: the XCom's fields, empty if none of these tasks has the generation
        """
        return self._find(SUBMISSION_KEY, kirin_task_id, submitters)

    def find_order(self, kirin_task_id: str, submitters: Iterable[tuple[str, int]] = ()) -> Mapping[str, Any]:
        """Return the :data:`ORDER_KEY` XCom of a generation.

        :param kirin_task_id: the generation
        :param submitters: see :meth:`find_submission`
        :return: the XCom's fields, empty if none of these tasks has the generation
        """
        return self._find(ORDER_KEY, kirin_task_id, submitters)

    def _find(self, key: str, kirin_task_id: str, submitters: Iterable[tuple[str, int]]) -> Mapping[str, Any]:
        own = (self._ti.task_id, map_index_of(self._ti))
        for task_id, map_index in list(submitters) or [own]:
            entry = self._ti.xcom_pull(task_ids=task_id, key=key, map_indexes=map_index)
            if isinstance(entry, Mapping) and entry.get("kirin_task_id") == kirin_task_id:
                return entry
        return {}

    def known_generations(self) -> Iterator[tuple[str, str]]:
        """Yield external task id and Kirin task id of what earlier runs and mapped siblings of this task submitted."""
        earlier = self._pull(include_prior_dates=True)
        siblings = self._pull(map_indexes=None) if self._ti.map_index is not None and self._ti.map_index >= 0 else None
        for found in (earlier, siblings):
            entries = found if isinstance(found, Iterable) and not isinstance(found, (str, Mapping)) else [found]
            for entry in entries:
                if isinstance(entry, Mapping) and entry.get("kirin_task_id") and entry.get("external_task_id"):
                    yield str(entry["external_task_id"]), str(entry["kirin_task_id"])

    def _pull(self, **how: Any) -> Any:
        return self._ti.xcom_pull(task_ids=self._ti.task_id, key=SUBMISSION_KEY, **how)

    def _entry(self, external_task_id: str) -> Mapping[str, Any]:
        entry = self._get(submission_state_key(external_task_id))
        if "intent" in entry:
            self._open.add(external_task_id)
        return entry
