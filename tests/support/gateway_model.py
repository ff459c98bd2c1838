"""A model of the gateway and of a crash-proof record, in memory: what `Submission` is driven against."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response
from airflow_provider_kirin.api.record import NoRecord
from airflow_provider_kirin.api.task import KirinTask, KirinUsage
from airflow_provider_kirin.exceptions import (
    KirinCapacityError,
    KirinConflictError,
    KirinError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinRateLimitError,
    KirinUnavailableError,
)


class Killed(BaseException):
    """The worker is gone: nothing behind this point runs."""


MODEL = "kirin_v1_6_i2v"
#: How another gateway calls it.
ALIAS = "kling_v1_6_i2v"

#: HTTP status and code of errors, whatever they say, that may come after the submission was accepted.
LYING_ERRORS: dict[str, tuple[int, Any]] = {
    "502": (502, None),
    "504 with 1302": (504, 1302),
    "408 with 1303": (408, 1303),
    "500 with 8002005002": (500, "8002005002"),
    "503 with 40201": (503, 40201),
    "400 with 8002005098": (400, "8002005098"),
    "400 with 8002005099": (400, "8002005099"),
    "429 with 5002": (429, 5002),
    "200 with 014002099": (200, "014002099"),
}
#: What may happen to a submission; those whose name ends with "after" were accepted, and are billed.
POST_FATES = (
    "ok",
    "connection refused",
    "429",
    "full",
    "lost before",
    "killed before",
    "lost after",
    "killed after",
    *(f"{error} {when}" for error in LYING_ERRORS for when in ("before", "after")),
)
#: What a lookup may be answered with that contradicts its question.
CONTRADICTIONS = {
    "another's": KirinTask(id="bobs", status="completed", external_task_id="bob-1"),
    "another model": KirinTask(id="carols", status="in_progress", model="kirin_v3_t2v"),
    "another's failure": KirinTask(id="daves", status="failed", external_task_id="dave-1"),
}
GET_FATES = ("ok", "network", "503", "500 with 8002005002", "no id", "killed", *CONTRADICTIONS)


@dataclass
class ModelGateway:
    """Generations by external task id; faults come from the test.

    :param post_fate: says what happens to the next submission
    :param get_fate: says what happens to the next lookup
    :param rejects_duplicates: whether an external task id can be used once only
    :param finds_by_external_id: whether the lookup knows external task ids at all
    :param lag: so many lookups after an acceptance still say 404
    """

    post_fate: Callable[[], str] = lambda: "ok"
    get_fate: Callable[[], str] = lambda: "ok"
    rejects_duplicates: bool = True
    finds_by_external_id: bool = True
    lag: int = 0
    paid: list[tuple[str, KirinTask]] = field(default_factory=list)
    submissions: int = 0
    #: Kirin task id -> how many more lookups do not find it.
    hidden: dict[str, int] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        fate = self.get_fate()
        if fate == "killed":
            raise Killed
        if fate == "network":
            raise KirinNetworkError("no response")
        if fate in LYING_ERRORS:
            raise answered(fate)
        if fate == "503":
            raise KirinUnavailableError("down", http_status=503)
        if fate in CONTRADICTIONS:
            return CONTRADICTIONS[fate]
        if fate == "no id" and not kirin_task_id.startswith("t"):
            return KirinTask(id=kirin_task_id, status="in_progress")
        for name, kirin_task in reversed(self.paid):
            if kirin_task.id == kirin_task_id or (name == kirin_task_id and self.finds_by_external_id):
                if self.hidden.get(kirin_task.id, 0) == 0:
                    return kirin_task
                self.hidden[kirin_task.id] -= 1
        raise KirinNotFoundError("Request not found", http_status=404)

    def submit_as(self, external_task_id: str) -> KirinTask:
        with self.lock:
            return self._submit_as(external_task_id)

    def _submit_as(self, external_task_id: str) -> KirinTask:
        self.submissions += 1
        fate = self.post_fate()
        if fate == "connection refused":
            raise KirinNetworkError("refused", sent=False)
        if fate == "429":
            raise KirinRateLimitError("too many", http_status=429)
        if fate == "full":
            raise KirinCapacityError("full", http_status=429, code="1303")
        if fate == "400 input":
            raise error_from_response(400, {"error": {"message": "bad prompt"}}, doing="submitting")
        if fate == "lost before":
            raise KirinNetworkError("cut")
        error, _, when = fate.rpartition(" ")
        if error in LYING_ERRORS and when == "before":
            raise answered(error)
        if fate == "killed before":
            raise Killed
        if self.rejects_duplicates and any(name == external_task_id for name, _ in self.paid):
            raise KirinConflictError("in use", http_status=409)
        kirin_task = KirinTask(id=f"t{len(self.paid) + 1}", status="in_progress", raw_status="in_progress", model=ALIAS)
        self.paid.append((external_task_id, kirin_task))
        self.hidden[kirin_task.id] = self.lag
        if fate == "lost after":
            raise KirinNetworkError("cut")
        if error in LYING_ERRORS:
            raise answered(error)
        if fate == "killed after":
            raise Killed
        return kirin_task

    def finish(self, status: str, *, cost: str | None = None) -> None:
        """Let the newest generation end."""
        name, kirin_task = self.paid[-1]
        usage = KirinUsage(cost=Decimal(cost)) if cost else None
        self.paid[-1] = (name, replace(kirin_task, status=status, raw_status=status, usage=usage))

    @property
    def billed(self) -> int:
        """How many generations cost money: those that did not fail."""
        return sum(kirin_task.status != "failed" for _, kirin_task in self.paid)


def answered(lie: str) -> KirinError:
    """Return the error that a gateway's answer is read as."""
    status, code = LYING_ERRORS[lie]
    return error_from_response(status, code and {"error": {"code": code}}, doing="asking")


@dataclass
class Store:
    """Airflow's task state store, in memory."""

    entries: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return copy.deepcopy(self.entries.get(key, default))

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self.entries[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.entries.pop(key, None)


@dataclass
class TaskInstance:
    """Airflow's, as far as a record of submissions asks for it."""

    max_tries: int = 2
    try_number: int = 1
    task_id: str = "generate"
    map_index: int = -1
    known: list[tuple[str, str]] = field(default_factory=list)
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, **how: Any) -> Any:
        """Return what earlier runs of the task left."""
        pairs = self.known if how.get("include_prior_dates") else []
        return [{"external_task_id": name, "kirin_task_id": id_} for name, id_ in pairs]


@dataclass
class ModelRecord(NoRecord):
    """What survives a crash; without a store (before Airflow 3.3) only the number of the try does."""

    has_store: bool = True
    known: list[tuple[str, str]] = field(default_factory=list)
    try_number: int = 1
    entries: dict[str, str] = field(default_factory=dict)

    def kirin_task_id(self, external_task_id: str) -> str | None:
        entry = self.entries.get(external_task_id)
        return entry if entry != "intent" else None

    def has_unresolved_intent(self, external_task_id: str) -> bool:
        return self.entries.get(external_task_id) == "intent" if self.has_store else self.try_number > 1

    def mark_intent(self, external_task_id: str, *, instead_of: str | None = None) -> None:
        if self.has_store:
            self.entries[external_task_id] = "intent"

    def clear_intent(self, external_task_id: str) -> None:
        self.entries.pop(external_task_id, None)

    def mark_submitted(self, external_task_id: str, kirin_task_id: str) -> None:
        if self.has_store:
            self.entries[external_task_id] = kirin_task_id

    def known_generations(self) -> Iterator[tuple[str, str]]:
        yield from self.known
