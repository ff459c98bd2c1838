"""A model of the gateway and of a crash-proof record, in memory: what `Submission` is driven against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import (
    KirinConflictError,
    KirinNetworkError,
    KirinNotFoundError,
    KirinRateLimitError,
    KirinUnavailableError,
)


class Killed(BaseException):
    """The worker is gone: nothing behind this point runs."""


#: What may happen to a submission; `accepted` ones are billed.
POST_FATES = (
    "ok",
    "connection refused",
    "429",
    "lost before",
    "still sending",
    "502 before",
    "killed before",
    "lost after",
    "502 after",
    "killed after",
)
GET_FATES = ("ok", "network", "503", "killed")


@dataclass
class ModelGateway:
    """Generations by external task id; faults come from whoever drives it.

    :param post_fate: says what happens to the next submission
    :param get_fate: says what happens to the next look-up
    :param rejects_duplicates: whether an external task id can be used once only
    :param finds_by_external_id: whether the look-up knows external task ids at all
    :param lag: so many look-ups after an acceptance still say 404
    """

    post_fate: Callable[[], str] = lambda: "ok"
    get_fate: Callable[[], str] = lambda: "ok"
    rejects_duplicates: bool = True
    finds_by_external_id: bool = True
    lag: int = 0
    paid: list[tuple[str, KirinTask]] = field(default_factory=list)
    submissions: int = 0
    #: Kirin task id -> how many more look-ups do not find it.
    hidden: dict[str, int] = field(default_factory=dict)

    def get_task(self, kirin_task_id: str, *, patience: float) -> KirinTask:
        fate = self.get_fate()
        if fate == "killed":
            raise Killed
        if fate == "network":
            raise KirinNetworkError("no reply")
        if fate == "503":
            raise KirinUnavailableError("down", http_status=503)
        for name, kirin_task in reversed(self.paid):
            if kirin_task.id == kirin_task_id or (name == kirin_task_id and self.finds_by_external_id):
                if self.hidden.get(kirin_task.id, 0) == 0:
                    return kirin_task
                self.hidden[kirin_task.id] -= 1
        raise KirinNotFoundError("Request not found", http_status=404)

    def submit_as(self, external_task_id: str) -> KirinTask:
        self.submissions += 1
        fate = self.post_fate()
        if fate == "connection refused":
            raise KirinNetworkError("refused", sent=False)
        if fate == "429":
            raise KirinRateLimitError("too many", http_status=429)
        if fate == "lost before":
            raise KirinNetworkError("cut")
        if fate == "still sending":
            raise KirinNetworkError("not complete", is_going_on=True)
        if fate == "502 before":
            raise KirinUnavailableError("bad gateway", http_status=502)
        if fate == "killed before":
            raise Killed
        if self.rejects_duplicates and any(name == external_task_id for name, _ in self.paid):
            raise KirinConflictError("in use", http_status=409)
        kirin_task = KirinTask(id=f"t{len(self.paid) + 1}", status="in_progress", raw_status="in_progress")
        self.paid.append((external_task_id, kirin_task))
        self.hidden[kirin_task.id] = self.lag
        if fate == "lost after":
            raise KirinNetworkError("cut")
        if fate == "502 after":
            raise KirinUnavailableError("bad gateway", http_status=502)
        if fate == "killed after":
            raise Killed
        return kirin_task

    def finish(self, status: str) -> None:
        """Let the newest generation end."""
        name, kirin_task = self.paid[-1]
        self.paid[-1] = (name, replace(kirin_task, status=status, raw_status=status))

    @property
    def billed(self) -> int:
        """How many generations cost money: those that did not fail."""
        return sum(kirin_task.status != "failed" for _, kirin_task in self.paid)


@dataclass
class ModelRecord:
    """What survives a crash; without a store (before Airflow 3.3) only the number of the try does."""

    has_store: bool = True
    known: list[tuple[str, str]] = field(default_factory=list)
    try_number: int = 1
    entries: dict[str, str] = field(default_factory=dict)

    def kirin_task_id(self, external_task_id: str) -> str | None:
        entry = self.entries.get(external_task_id)
        return entry if entry != "posting" else None

    def may_have_posted(self, external_task_id: str) -> bool:
        return self.entries.get(external_task_id) == "posting" if self.has_store else self.try_number > 1

    def posting(self, external_task_id: str) -> None:
        if self.has_store:
            self.entries[external_task_id] = "posting"

    def refused(self, external_task_id: str) -> None:
        self.entries.pop(external_task_id, None)

    def bought(self, external_task_id: str, kirin_task_id: str) -> None:
        if self.has_store:
            self.entries[external_task_id] = kirin_task_id

    def known_generations(self) -> Iterator[tuple[str, str]]:
        yield from self.known
