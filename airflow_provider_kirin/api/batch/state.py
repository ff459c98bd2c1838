"""The state of a row, and how it goes from one to the next.

A batch works through the rows of a table, each under a key of its own. A row is in one of these states:

=============  =====================================================================================================
``todo``       nothing has been submitted
``intent``     a submission may have been sent; it is looked up before anything else is done
``sent``       the generation is on its way, and holds one of the account's places
``done``       it has a video, which is not stored yet
``saved``      the video is stored
``failed``     it ended without a video, or was rejected by the gateway
``refused``    the row or its image breaks a rule; nothing was sent
``unknown``    it may have been accepted, and cannot be found
``timeout``    it did not end in time; it may continue at Kirin
``gone``       it was submitted, and its row is no longer in the table; only its id and its cost are kept
=============  =====================================================================================================

States are only replaced, and each replacement has a higher version. So records can be read in any order, twice, or
from two writers, with the same result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, get_args

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.api.video_file import VideoFile

Status = Literal["todo", "intent", "sent", "done", "saved", "failed", "refused", "unknown", "timeout", "gone"]

#: The version of what is written: the head of the journal, the manifest, the summary.
SCHEMA_VERSION = 1
#: The order of states with the same version, which two writers can make.
RANK = {status: rank for rank, status in enumerate(get_args(Status))}
#: Shared by all rows: a batch may have a hundred thousand, and all their states are in memory.
_NO_EARLIER: Mapping[str, Mapping[str, str | None]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RowState:
    """What is known about one row.

    :param key: the row
    :param status: see the table above
    :param version: rises with each change
    :param row: its position in the table, 1 for the first
    :param digest: of the row's values, as they were when it was last read
    :param external_task_id: what its latest generation was, or may have been, submitted as
    :param kirin_task_id: its latest generation
    :param conn_id: the connection that submitted it
    :param model: the model
    :param round: the round of automatic retries that submitted it
    :param sent_as: an external task id whose payload was submitted under ``external_task_id`` instead
    :param failures: generations of this round that failed
    :param retryable: whether another generation may succeed
    :param since: when it was submitted, in seconds since the epoch
    :param seconds: from then until it was seen to end
    :param files: URIs of the stored videos
    :param file_details: what is known of them
    :param order: what its latest generation was ordered with, until its video is stored; None if nothing needs it
    :param cost: US dollars that its latest generation was billed; None if not known
    :param usd: the estimate of the same, if there is a budget
    :param code: the error's code or class, if it has no video
    :param error: the error's text
    :param transient_errors: how often submitting it, or storing its video, has failed for reasons that may pass
    :param earlier: generations of this row before the latest one: external task id -> Kirin task id and cost
    """

    key: str
    status: Status = "todo"
    version: int = 0
    row: int = 0
    digest: str = ""
    external_task_id: str | None = None
    kirin_task_id: str | None = None
    conn_id: str = ""
    model: str = ""
    round: int = 0
    sent_as: str | None = None
    failures: int = 0
    retryable: bool = False
    since: float | None = None
    seconds: float | None = None
    files: tuple[str, ...] = ()
    file_details: tuple[VideoFile, ...] = ()
    order: Mapping[str, Any] | None = None
    cost: str | None = None
    usd: str | None = None
    code: str | None = None
    error: str | None = None
    transient_errors: int = 0
    earlier: Mapping[str, Mapping[str, str | None]] = field(default_factory=lambda: _NO_EARLIER)

    def to(self, status: Status, **changes: Any) -> RowState:
        """Return the state that follows this one."""
        return replace(self, status=status, version=self.version + 1, **changes)

    def with_error(self, status: Status, code: str, error: object, **changes: Any) -> RowState:
        """Return the state that follows this one, with the reason why there is no video.

        :param code: the API's code, or the error's class
        :param error: the error, or its text
        """
        return self.to(status, code=code, error=one_line(error, 500), **changes)

    def without_generation(self) -> dict[str, Any]:
        """Return changes that move the latest generation to the earlier ones. Its id stays until there is another."""
        before = {str(self.external_task_id): {"kirin_task_id": self.kirin_task_id, "cost": self.cost}}
        earlier = {**before, **self.earlier} if self.kirin_task_id else self.earlier
        return {"order": None, "cost": None, "usd": None, "since": None, "seconds": None, "earlier": earlier}

    @property
    def age(self) -> tuple[int, int]:
        """What two states of the same row are compared by: the later one is greater."""
        return self.version, RANK[self.status]

    @property
    def money(self) -> Decimal:
        """US dollars that the row has cost, all its generations together, as far as it is known."""
        costs = [self.cost, *(entry.get("cost") for entry in self.earlier.values())]
        return sum((parse_decimal(cost) or Decimal(0) for cost in costs), Decimal(0))

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON: a line of the manifest. What is not known is left out."""
        shown = {name: value for name in _TYPES if (value := getattr(self, name))}
        details = {"file_details": [file.to_dict() for file in self.file_details]} if self.file_details else {}
        return shown | {"files": list(self.files)} | details

    @classmethod
    def from_dict(cls, entry: Any) -> RowState | None:
        """Return the state that :meth:`to_dict` wrote; None for anything else."""
        known = {name: entry[name] for name in _TYPES if name in entry} if isinstance(entry, Mapping) else {}
        if not all(isinstance(value, _TYPES[name]) for name, value in known.items()):
            return None
        if known.get("status") not in RANK or not known.get("key"):
            return None
        if not all(isinstance(item, Mapping) for item in known.get("earlier", {}).values()):
            return None
        details = tuple(filter(None, map(VideoFile.from_dict, known.get("file_details", ()))))
        uris = {file.uri: file.uri for file in details}
        files = tuple(uris.get(uri, uri) for uri in map(str, known.get("files", ())))
        # What is the same in many rows, or twice in one, is in memory once.
        shared = {name: sys.intern(known[name]) for name in _SHARED if name in known}
        return cls(**known | shared | {"files": files, "file_details": details})


#: Fields with few different values.
_SHARED = ("status", "conn_id", "model", "cost", "usd", "code")
_TYPES: dict[str, tuple[type, ...]] = {
    each.name: {
        "int": (int,),
        "bool": (bool,),
        "float | None": (int, float),
        "tuple[str, ...]": (list,),
        "tuple[VideoFile, ...]": (list,),
        "Mapping[str, Any] | None": (dict,),
        "Mapping[str, Mapping[str, str | None]]": (dict,),
    }.get(str(each.type), (str,))
    for each in fields(RowState)
}


def merge(states: Iterable[RowState]) -> dict[str, RowState]:
    """Return the latest state of each row, in the order in which the rows first occur.

    :param states: in any order, of any number of writers
    """
    latest: dict[str, RowState] = {}
    for state in states:
        known = latest.get(state.key)
        if known is None or state.age > known.age:
            latest[state.key] = state
    return latest


def at_new_try(state: RowState) -> RowState:
    """Return the state that another try starts from: what may have changed in between is checked again.

    :param state: what the earlier try left
    """
    if state.status == "unknown":
        return state.to("intent")
    if state.status == "timeout":
        return state.to("sent")
    return state.to(state.status, transient_errors=0) if state.transient_errors else state


def at_new_round(state: RowState, digest: str) -> RowState:
    """Return the state that a cleared task starts from: rows without a video, and rows that changed, are submitted.

    :param state: what the earlier round left
    :param digest: of the row as it is now
    """
    state = at_new_try(state)
    if state.status in ("failed", "refused", "gone"):
        return state.to("todo", digest=digest, failures=0, transient_errors=0, code=None, error=None)
    if digest == state.digest or state.status in ("todo", "intent"):
        return replace(state, digest=digest)
    return state.to("todo", digest=digest, failures=0, files=(), file_details=(), **state.without_generation())


def refused(state: RowState, problems: Iterable[object]) -> RowState:
    """Return the state of a row that breaks a rule.

    :param state: the row
    :param problems: the rules
    """
    return state.with_error("refused", "KirinPayloadError", " ".join(map(str, problems)), retryable=False)


def is_to_submit(state: RowState | None, row_retries: int) -> bool:
    """Return whether a row is to be submitted, or looked up and then submitted.

    :param state: None if nothing is known about the row
    :param row_retries: how many further generations a row gets after one that failed
    """
    if state is None or state.status in ("todo", "intent"):
        return True
    return state.status == "failed" and state.retryable and state.failures <= row_retries
