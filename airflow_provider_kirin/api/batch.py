"""Decide what a batch does next: which rows to submit, when to wake a worker, what a crash leaves. No I/O, no clock.

A batch works through the rows of a table, each under a key of its own. A row is in one of these states:

=============  =====================================================================================================
``todo``       nothing is under way
``intent``     a submission may have been sent; it is looked up before anything else is done
``sent``       the generation is on its way, and holds one of the account's places
``done``       it has a video, which is not stored yet
``saved``      the video is stored
``failed``     it ended without a video, or was rejected by the gateway
``refused``    the row or its image breaks a rule; nothing was sent
``doubt``      it may have been accepted, and cannot be found
``timeout``    it did not end in time; it may go on at Kirin
``gone``       it was submitted, and its row is no longer in the table; only its id and its cost are kept
=============  =====================================================================================================

States are only replaced, and each replacement has a higher version. So records can be read in any order, twice, or
from two writers, with the same result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, get_args

from airflow_provider_kirin.api.pricing import show_usd
from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.api.task import parse_decimal
from airflow_provider_kirin.exceptions import KirinBatchError

Status = Literal["todo", "intent", "sent", "done", "saved", "failed", "refused", "doubt", "timeout", "gone"]

#: The version of what is written: the head of the journal, the manifest, the summary.
SCHEMA_VERSION = 1
#: The order of states with the same version, which two writers can make.
_RANK = {status: rank for rank, status in enumerate(get_args(Status))}
#: How often a row is tried that fails for reasons that may pass, while others succeed.
MAX_TRANSIENT_ERRORS = 3
#: Seconds after a deferral at which one finished row is worth a worker.
_PATIENCE = 15.0
#: The same if no row is waiting for a place: then only the download waits.
_PATIENCE_AT_END = 60.0
#: A worker is also worth it when this share of many places is free.
_WORTH_A_WORKER = 0.25
#: Up to so many places, each of them counts.
_FEW_PLACES = 10
#: Seconds until an account that was full, or a gateway that was away, is tried again.
MIN_PAUSE, MAX_PAUSE = 15.0, 60.0
#: What an error says about a row that nothing went wrong with: it was only left behind.
_WITHOUT_ERROR = "it was, or may have been, submitted; another try looks it up"
#: How many rows an error names.
_MAX_NAMED = 10


@dataclass(frozen=True, slots=True)
class RowState:
    """What is known about one row.

    :param key: the row
    :param status: see the table above
    :param version: rises with each change
    :param row: its position in the table, 1 for the first
    :param digest: of the row's values, as they were when it was last looked at
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
    cost: str | None = None
    usd: str | None = None
    code: str | None = None
    error: str | None = None
    transient_errors: int = 0
    earlier: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)

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
        return {"cost": None, "usd": None, "since": None, "seconds": None, "earlier": earlier}

    @property
    def age(self) -> tuple[int, int]:
        """What two states of the same row are compared by: the later one is greater."""
        return self.version, _RANK[self.status]

    @property
    def money(self) -> Decimal:
        """US dollars that the row has cost, all its generations together, as far as it is known."""
        costs = [self.cost, *(entry.get("cost") for entry in self.earlier.values())]
        return sum((parse_decimal(cost) or Decimal(0) for cost in costs), Decimal(0))

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON: a line of the manifest. What is not known is left out."""
        shown = {name: value for name in _TYPES if (value := getattr(self, name))}
        return shown | {"files": list(self.files)}

    @classmethod
    def from_dict(cls, entry: Any) -> RowState | None:
        """Return the state that :meth:`to_dict` wrote; None for anything else."""
        known = {name: entry[name] for name in _TYPES if name in entry} if isinstance(entry, Mapping) else {}
        if not all(isinstance(value, _TYPES[name]) for name, value in known.items()):
            return None
        if known.get("status") not in _RANK or not known.get("key"):
            return None
        if not all(isinstance(item, Mapping) for item in known.get("earlier", {}).values()):
            return None
        return cls(**known | {"files": tuple(map(str, known.get("files", ())))})


_TYPES: dict[str, tuple[type, ...]] = {
    each.name: {
        "int": (int,),
        "bool": (bool,),
        "float | None": (int, float),
        "tuple[str, ...]": (list,),
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
    """Return the state with which another try goes on: what may have changed meanwhile is looked at again.

    :param state: what the earlier try left
    """
    if state.status == "doubt":
        return state.to("intent")
    if state.status == "timeout":
        return state.to("sent")
    return state.to(state.status, transient_errors=0) if state.transient_errors else state


def at_new_round(state: RowState, digest: str) -> RowState:
    """Return the state with which a cleared task goes on: rows without a video, and rows that changed, are submitted.

    :param state: what the earlier round left
    :param digest: of the row as it is now
    """
    state = at_new_try(state)
    if state.status in ("failed", "refused", "gone"):
        return state.to("todo", digest=digest, failures=0, transient_errors=0, code=None, error=None)
    if digest == state.digest or state.status in ("todo", "intent"):
        return replace(state, digest=digest)
    return state.to("todo", digest=digest, failures=0, files=(), **state.without_generation())


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


class Rows:
    """The states of all rows, and their sums.

    :param states: the states that are known
    :param total: the number of rows in the table
    :param row_retries: how many further generations a row gets after one that failed
    """

    def __init__(self, states: Mapping[str, RowState], *, total: int, row_retries: int) -> None:
        self.states = dict(states)
        self.total = total
        self.row_retries = row_retries
        self._counts = Counter(state.status for state in self.states.values())
        self._again = sum(self._is_again(state) for state in self.states.values())

    def get(self, key: str) -> RowState | None:
        """Return the state of a row; None if nothing is known about it."""
        return self.states.get(key)

    def set(self, state: RowState) -> None:
        """Replace the state of a row."""
        if (known := self.states.get(state.key)) is not None:
            self._counts[known.status] -= 1
            self._again -= self._is_again(known)
        self._counts[state.status] += 1
        self._again += self._is_again(state)
        self.states[state.key] = state

    def _is_again(self, state: RowState) -> bool:
        return state.status == "failed" and is_to_submit(state, self.row_retries)

    def count(self, *statuses: Status) -> int:
        """Return how many rows are in one of these states."""
        return sum(self._counts[status] for status in statuses)

    def having(self, *statuses: Status) -> list[RowState]:
        """Return the rows in one of these states."""
        return [state for state in self.states.values() if state.status in statuses]

    @property
    def in_flight(self) -> int:
        """How many rows hold one of the account's places, or may."""
        return self.count("sent")

    @property
    def left(self) -> int:
        """How many rows are to be submitted."""
        known = self.count("sent", "done", "saved", "failed", "refused", "doubt", "timeout")
        return max(self.total - known, 0) + self._again

    @property
    def failed(self) -> int:
        """How many rows have ended without a video."""
        return self.count("failed", "refused", "doubt", "timeout") - self._again

    @property
    def cost(self) -> Decimal:
        """US dollars, as far as they are known."""
        return sum((state.money for state in self.states.values()), Decimal(0))

    def counts(self) -> dict[str, int]:
        """Return the number of rows by state, without those that have none."""
        counts = {
            status: self._counts[status] for status in _RANK if self._counts[status] and status not in ("todo", "gone")
        }
        left = self.total - sum(counts.values())
        return {"todo": left, **counts} if left > 0 else counts

    def known_generations(self) -> Iterator[tuple[str, str]]:
        """Yield pairs of external task id and Kirin task id that belong together."""
        # A copy: rows are submitted in threads.
        for state in list(self.states.values()):
            if state.external_task_id and state.kirin_task_id:
                yield state.external_task_id, state.kirin_task_id


def target_after_full(in_flight: int) -> int:
    """Return how many generations to have in flight after the account turned out to be full.

    :param in_flight: how many of this batch there are
    """
    return max(in_flight, 1)


def target_after_wave(target: int, maximum: int) -> int:
    """Return how many generations to have in flight after a wave in which nothing was refused.

    :param target: what the wave was allowed
    :param maximum: ``max_in_flight``
    """
    return min(target + 1, maximum)


def pause_after(idle_waves: int) -> float:
    """Return the seconds until an account that was full, or a gateway that was away, is tried again.

    :param idle_waves: consecutive waves in which nothing could be submitted
    """
    return float(min(MIN_PAUSE * 2.0 ** min(max(idle_waves - 1, 0), 8), MAX_PAUSE))


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A wait between two waves. All times are in seconds since the epoch.

    :param since: when it began
    :param deadline: when the batch, or its oldest row, has run out of time
    :param earliest: no wave may begin before this
    :param has_more: whether rows wait for a place
    :param retry_at: when to try again what was refused; None if nothing was
    :param at_once: whether to begin as soon as one has ended: a process that waits itself costs no worker
    """

    since: float
    deadline: float
    earliest: float = 0.0
    has_more: bool = True
    retry_at: float | None = None
    at_once: bool = False

    def wake_at(self, waiting: int, ended_at: Sequence[float]) -> float:
        """Return when to begin the next wave, as far as it is known now.

        A wave costs a worker, and free places cost time. So it begins when all have ended, when a quarter of many
        places are free, or when one of them has been free for a while.

        :param waiting: generations that have not ended
        :param ended_at: when the others were seen to end
        """
        at = [self.deadline]
        if self.retry_at is not None:
            at.append(self.retry_at)
        if not waiting and (ended_at or self.retry_at is None):
            at.append(max(ended_at, default=self.since))
        if ended_at:
            places, first = waiting + len(ended_at), min(ended_at)
            if self.at_once:
                at.append(first)
            elif not self.has_more:
                at.append(first + _PATIENCE_AT_END)
            elif places <= _FEW_PLACES:
                at.append(max(first, self.since + _PATIENCE))
            else:
                at.append(first + _PATIENCE)
                needed = math.ceil(places * _WORTH_A_WORKER)
                if len(ended_at) >= needed:
                    at.append(sorted(ended_at)[needed - 1])
        return max(min(at), self.earliest)


def progress_line(rows: Rows, places: int) -> str:
    """Return the line that a log gets once a wave: what is done, under way and failed, the cost, and the time left.

    :param rows: the states
    :param places: how many generations may be in flight
    """
    parts = [
        f"{rows.count('saved'):,} of {rows.total:,} done",
        f"{rows.in_flight:,} in flight",
        f"{rows.failed:,} failed",
    ]
    if stored := rows.count("done"):
        parts.append(f"{stored:,} to download")
    parts.append(f"{show_usd(rows.cost)} USD")
    if (seconds := seconds_left(rows, places)) is not None:
        minutes = math.ceil(seconds / 60)
        parts.append(f"about {minutes} min left" if minutes < 120 else f"about {seconds / 3600:.1f} h left")
    return ", ".join(parts)


def seconds_left(rows: Rows, places: int) -> float | None:
    """Return about how long the batch goes on; None if nothing is left, or nothing has ended yet.

    :param rows: the states
    :param places: how many generations may be in flight
    """
    took = [state.seconds for state in rows.states.values() if state.seconds and state.status in ("done", "saved")]
    if not took or not (rows.left or rows.in_flight):
        return None
    mean = sum(took) / len(took)
    # Those in flight are half done, on average.
    return mean * max((rows.left + rows.in_flight / 2) / max(places, 1), 0.5)


def failure(
    rows: Rows,
    *,
    max_failed_rows: float,
    refused_count: bool,
    manifest: str,
    why: str = "",
    remedy: str = "Clear the task",
) -> KirinBatchError | None:
    """Return the error of a batch that has ended; None if it is a success.

    :param rows: the states
    :param max_failed_rows: how many rows may have no video: a number, or a share of all
    :param refused_count: whether rows that broke a rule count
    :param manifest: the URI of the manifest
    :param why: why rows were left out, if they were
    :param remedy: what submits the rest
    """
    unsaved = [state for state in rows.states.values() if state.status not in ("saved", "todo", "gone")]
    counted = [state for state in unsaved if refused_count or state.status != "refused"]
    missing = max(rows.total - rows.count("saved") - len(unsaved), 0)
    allowed = max_failed_rows if isinstance(max_failed_rows, int) else math.floor(max_failed_rows * rows.total)
    if len(counted) + missing <= allowed and not why:
        return None
    reasons = Counter(f"{state.status} ({state.code})" if state.code else state.status for state in counted)
    by_reason = [f"{count:,} {reason}" for reason, count in reasons.most_common()]
    if missing:
        by_reason.append(f"{missing:,} not submitted")
    named = "".join(
        f"\n  - {state.key}: {state.status}: {state.error or _WITHOUT_ERROR}" for state in counted[:_MAX_NAMED]
    )
    more = f"\n  and {len(counted) - _MAX_NAMED:,} more." if len(counted) > _MAX_NAMED else ""
    limit = f" max_failed_rows allows {allowed:,}." if allowed else ""
    return KirinBatchError(
        f"{len(counted) + missing:,} of {rows.total:,} rows have no video: {', '.join(by_reason) or 'none'}.{limit} "
        f"{why + ' ' if why else ''}The other {rows.count('saved'):,} are saved; see {manifest}. {remedy} to submit "
        f"what is missing, and only that.{named}{more}",
        retryable=any(_may_change(state) for state in counted),
    )


def _may_change(state: RowState) -> bool:
    """Return whether another try, without a clear, can bring the row's video."""
    return state.status in ("done", "timeout", "sent", "intent") or (state.status == "doubt" and state.retryable)


def cost_entries(state: RowState) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what ``kirin costs`` counts of a row: the generations that it submitted, and those that have ended.

    :param state: the row
    """
    submitted, ended = [], []
    latest = {str(state.external_task_id): {"kirin_task_id": state.kirin_task_id, "cost": state.cost}}
    for entry in {**latest, **state.earlier}.values():
        if not entry.get("kirin_task_id"):
            continue
        at = None if state.since is None else _iso(state.since + (state.seconds or 0.0))
        common = {"kirin_task_id": entry["kirin_task_id"], "at": at}
        submitted.append({**common, "price_key": state.model, "kirin_conn_id": state.conn_id})
        if entry.get("cost") is not None:
            ended.append({**common, "model": state.model, "status": "completed", "cost": entry["cost"]})
    return submitted, ended


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def summary(rows: Rows, *, manifest: str, folder: str, seconds: float) -> dict[str, Any]:
    """Return what the task returns: a fixed shape, however many rows there are.

    :param rows: the states
    :param manifest: the URI of the manifest
    :param folder: the URI of the folder that it is in
    :param seconds: since the batch began
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "manifest": manifest,
        "folder": folder,
        "rows": rows.total,
        "counts": rows.counts(),
        "cost_usd": show_usd(rows.cost),
        "seconds": round(seconds),
    }
