"""Cards: what the pages show of a generation, made from what Airflow keeps. Pure functions.

A value in an XCom may have been edited in Airflow's UI, and a record may come from another version: whatever is in it
becomes a string, a number or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from airflow_provider_kirin.api.errors import advice_for, error_from_task
from airflow_provider_kirin.api.pricing import billed
from airflow_provider_kirin.api.redaction import is_web_url
from airflow_provider_kirin.api.task import KirinTask, KirinTaskError
from airflow_provider_kirin.api.task_fields import parse_decimal
from airflow_provider_kirin.plugins.media import Root, find_root
from airflow_provider_kirin.state.keys import FILES_KEY, ORDER_KEY, USAGE_KEY

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
#: The states of a generation as far as Airflow knows; a generation whose end is not on record is in progress.
STATES = ("in_progress", "completed", "failed")


class InstanceKey(NamedTuple):
    """A task instance, in the order of the database's primary key."""

    dag_run_id: int
    task_id: str
    map_index: int


class Stored(NamedTuple):
    """An XCom."""

    ti: InstanceKey
    dag_id: str
    run_id: str
    key: str
    at: datetime
    value: Any


@dataclass
class Records:
    """What task instances recorded about some generations, by Kirin task id."""

    orders: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ends: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    files: dict[str, tuple[list[str], datetime]] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Iterable[Stored]) -> Records:
        """Sort XComs by what they are about."""
        records = cls()
        for row in stored:
            for entry in row.value if isinstance(row.value, list) else [row.value]:
                kirin_task_id = entry.get("kirin_task_id") if isinstance(entry, Mapping) else None
                if isinstance(kirin_task_id, str):
                    records._add(kirin_task_id, entry, row)
        return records

    def of_generation(self, kirin_task_id: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return its order and its end; empty if not on record."""
        return self.orders.get(kirin_task_id) or {}, self.ends.get(kirin_task_id) or {}

    def _add(self, kirin_task_id: str, entry: Mapping[str, Any], row: Stored) -> None:
        if row.key == ORDER_KEY:
            self.orders[kirin_task_id] = entry
        elif row.key == USAGE_KEY:
            self.ends.setdefault(kirin_task_id, entry)
        elif row.key == FILES_KEY:
            files = entry.get("files")
            uris = [uri for uri in files if isinstance(uri, str)] if isinstance(files, list) else []
            self.files[kirin_task_id] = (uris, row.at)


def card(submission: Stored, records: Records, roots: Sequence[Root], live: KirinTask | None = None) -> dict[str, Any]:
    """Return what the pages show of a generation, for JSON.

    :param submission: the submission's record
    :param records: what else is on record
    :param roots: where files may be shown from
    :param live: the generation as the gateway has it now; None if it was not asked
    """
    value = submission.value
    kirin_task_id = value["kirin_task_id"]
    order, end = records.of_generation(kirin_task_id)
    uris, downloaded_at = records.files.get(kirin_task_id) or ([], None)
    status = live.status if live else _status(end)
    error = _error(kirin_task_id, status, end, live)
    completed_at = end.get("completed_at") or (live and live.metadata.get("completed_at"))
    created_at = end.get("created_at") or (live and live.created_at)
    cost = live.usage.cost if live and live.usage else parse_decimal(end.get("cost"))
    videos = len(live.videos) if live else max(len(uris), int(status == "completed" and not error))
    return {
        "id": kirin_task_id,
        "external_task_id": as_text(value.get("external_task_id")),
        "conn_id": as_text(value.get("kirin_conn_id")),
        "dag_id": submission.dag_id,
        "run_id": submission.run_id,
        "task_id": submission.ti.task_id,
        "map_index": submission.ti.map_index,
        "status": status,
        "is_on_record": bool(end),
        "progress": live.progress if live else None,
        "model": _model(value, order, end),
        "prompt": as_text(order.get("prompt")),
        "negative_prompt": as_text(order.get("negative_prompt")),
        "settings": _settings(order.get("settings")),
        "images": _images(order.get("images") or value.get("images"), roots),
        "cost": None if cost is None else f"{cost:f}",
        "error": error,
        "files": [{"uri": uri, "is_home": find_root(uri, roots) is not None} for uri in uris],
        "videos": videos if status == "completed" else 0,
        "timeline": _timeline(
            {
                "Submitted": moment(submission.at),
                "Accepted by Kirin": moment(created_at),
                "Finished at Kirin": moment(completed_at),
                "Seen by Airflow": moment(end.get("at")),
                "Downloaded": moment(downloaded_at) if uris else None,
            }
        ),
    }


def matches(submission: Stored, records: Records, *, state: str = "", model: str = "", text: str = "") -> bool:
    """Return whether a generation passes the gallery's filters, of which an empty one lets everything pass.

    Separate from :func:`card`, because many are searched for a few.

    :param submission: the submission's record
    :param records: what else is on record
    :param state: one of :data:`STATES`
    :param model: the model's id
    :param text: part of the prompt or of an id, in upper or lower case
    """
    value = submission.value
    order, end = records.of_generation(value["kirin_task_id"])
    searched = (order.get("prompt"), value["kirin_task_id"], value.get("external_task_id"))
    return (
        state in ("", _status(end))
        and model in ("", _model(value, order, end))
        and (not text or any(text.casefold() in as_text(each).casefold() for each in searched))
    )


def plain_parts(text: str) -> list[str]:
    """Return the parts of a search that are the same in every database's JSON, in lower case.

    :param text: the search text
    """
    # ß counts as ss here, and in no database.
    parts = re.findall(r"[ -~]+", re.sub(r'ss|["\\]', "\0", text.casefold()))
    return [part for part in parts if part.strip()]


class End(NamedTuple):
    """The end of a generation, or of several alike, for sums."""

    day: str
    dag_id: str
    usd: Decimal
    code: str | None
    number: int = 1


def first_ends(records: Iterable[tuple[str, Any]]) -> list[End]:
    """Return the end of every generation once: as it was first recorded, in whichever task.

    :param records: DAG ids and values of the :data:`.USAGE_KEY` XComs
    """
    found: dict[str, tuple[str, End]] = {}
    for dag_id, value in records:
        for entry in value if isinstance(value, list) else []:
            kirin_task_id, at = (entry.get("kirin_task_id"), entry.get("at")) if isinstance(entry, dict) else (None, "")
            if not isinstance(kirin_task_id, str) or not isinstance(at, str) or not _ISO.match(at):
                continue
            if kirin_task_id not in found or at < found[kirin_task_id][0]:
                found[kirin_task_id] = (at, _end(dag_id, at, entry))
    return [end for _, end in found.values()]


def _end(dag_id: str, at: str, entry: Mapping[str, Any]) -> End:
    status, error = as_text(entry.get("status")), entry.get("error")
    code = as_text(error.get("code")) if isinstance(error, Mapping) else ""
    usd = billed(parse_decimal(entry.get("cost")), status) or Decimal(0)
    return End(at[:10], dag_id, usd, (code or "no code") if status == "failed" else None)


def summary(ends: Iterable[End], dag_ids: Iterable[str]) -> dict[str, Any]:
    """Return the sums that the plots show.

    :param ends: the result of :func:`first_ends`
    :param dag_ids: what the viewer may see
    """
    visible = set(dag_ids)
    days: dict[str, dict[str, Decimal]] = {}
    failures: dict[str, int] = {}
    seen = [end for end in ends if end.dag_id in visible]
    for end in seen:
        of_day = days.setdefault(end.day, {})
        of_day[end.dag_id] = of_day.get(end.dag_id, Decimal(0)) + end.usd
        if end.code is not None:
            failures[end.code] = failures.get(end.code, 0) + end.number
    return {
        "generations": sum(end.number for end in seen),
        "failed": sum(failures.values()),
        "usd": f"{sum((end.usd for end in seen), Decimal(0)):f}",
        "days": {day: {dag: f"{usd:f}" for dag, usd in of_day.items()} for day, of_day in sorted(days.items())},
        # Pairs: JavaScript would sort an object by its numbers.
        "failures": sorted(failures.items(), key=lambda item: -item[1]),
    }


def moment(value: Any) -> str | None:
    """Return a time in ISO format; the gateway gives seconds or milliseconds, without saying which."""
    try:
        if isinstance(value, datetime):
            return _aware(value).isoformat(timespec="milliseconds")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return moment(datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC))
        return moment(datetime.fromisoformat(as_text(value)))
    except (ValueError, OverflowError, OSError):
        return None


def _status(end: Mapping[str, Any]) -> str:
    status = end.get("status")
    return status if isinstance(status, str) and status in STATES else "in_progress"


def _model(value: Mapping[str, Any], order: Mapping[str, Any], end: Mapping[str, Any]) -> str:
    # A price key starts with the model.
    return as_text(end.get("model")) or as_text(order.get("model")) or as_text(value.get("price_key")).partition("/")[0]


def _aware(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _timeline(steps: Mapping[str, str | None]) -> list[dict[str, str]]:
    return [{"step": step, "at": at} for step, at in steps.items() if at]


def _error(kirin_task_id: str, status: str, end: Mapping[str, Any], live: KirinTask | None) -> dict[str, str] | None:
    """Return the gateway's code and message, and what to do about it."""
    recorded = end.get("error") if isinstance(end.get("error"), Mapping) else None
    if live is None and (status == "failed" or (status == "completed" and recorded)):
        reason = recorded or {}
        error = KirinTaskError(as_text(reason.get("code")), as_text(reason.get("message")))
        live = KirinTask(kirin_task_id, "failed" if status == "failed" else "completed", error=error)
    if live is None or not live.is_final or error_from_task(live) is None:
        return None
    reason_given = live.error or KirinTaskError("", "")
    return {"code": reason_given.code, "message": reason_given.message, "advice": advice_for(live)}


def _settings(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): str(setting) for name, setting in value.items() if isinstance(setting, (str, int, float, bool))}


def _images(value: Any, roots: Sequence[Root]) -> list[dict[str, Any]]:
    """Return name and URI of each image, and whether a browser gets it by itself, or from us, or not at all."""
    named = value.items() if isinstance(value, Mapping) else enumerate(value if isinstance(value, list) else [])
    return [
        {
            "name": str(name),
            "uri": uri if isinstance(uri, str) else None,
            "source": "web" if is_web_url(uri) else "home" if isinstance(uri, str) and find_root(uri, roots) else None,
        }
        for name, uri in named
    ]


def as_text(value: Any) -> str:
    """Return a string; empty for anything else."""
    return value if isinstance(value, str) else ""
