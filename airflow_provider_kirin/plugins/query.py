"""What the pages read from Airflow's database. Every function opens a session of its own and closes it.

XComs are read in the order of the primary key, by key, in pages (keyset), and as columns: the model joins the DAG run
eagerly. Values are decoded after the session is closed, because an XCom backend may have to fetch them from elsewhere,
and a few at a time: thousands of them at once cost more in garbage collection than in decoding.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import XCom
from airflow.sdk.bases.xcom import BaseXCom
from airflow.utils.session import create_session
from sqlalchemy import ColumnElement, Select, Text, and_, cast, exists, func, or_, select, tuple_
from sqlalchemy.orm import aliased

from airflow_provider_kirin.plugins.batches import is_batch
from airflow_provider_kirin.plugins.records import InstanceKey, Stored
from airflow_provider_kirin.state.keys import BATCH_KEY, FILES_KEY, ORDER_KEY, SUBMISSION_KEY, USAGE_KEY

log = logging.getLogger(__name__)

#: Submissions of a run that are searched for a generation which another task submitted.
MAX_SEARCHED = 2000
_DECODED_TOGETHER = 200
_KEYS = (ORDER_KEY, USAGE_KEY, FILES_KEY)
_CARDS = (SUBMISSION_KEY, BATCH_KEY)
_X: Any = XComModel
_COLUMNS = (_X.dag_run_id, _X.dag_id, _X.run_id, _X.task_id, _X.map_index, _X.key, _X.timestamp)


def kirin_dags() -> set[str]:
    """Return the ids of all DAGs that ever submitted a generation."""
    with create_session(scoped=False) as session:
        return set(session.scalars(select(_X.dag_id).where(_X.key.in_(_CARDS)).distinct()))


def submissions(
    dag_ids: Sequence[str] | None,
    *,
    after: InstanceKey | None,
    state: str = "",
    parts: Sequence[str] = (),
    day: date | None = None,
    limit: int,
) -> tuple[list[Stored], InstanceKey | None]:
    """Return submissions and batches that may be what is searched for, those of the latest DAG runs first.

    :param dag_ids: of these DAGs; None for all
    :param after: begin behind this task instance
    :param state: leave out what the database knows to be in another state
    :param parts: of a prompt or an id, in lower case
    :param day: only those of one day, in UTC
    :param limit: how many at most
    :return: these, and behind which task instance to continue; None at the end
    """
    # One direction for all columns: the database walks the primary key backwards, and sorts nothing.
    order = (_X.dag_run_id, _X.task_id, _X.map_index)
    query = _select().where(_X.key.in_(_CARDS)).order_by(*(column.desc() for column in order)).limit(limit)
    if dag_ids is not None:
        query = query.where(_X.dag_id.in_(dag_ids))
    if after is not None:
        query = query.where(tuple_(*order) < tuple_(*after))
    if day is not None:
        first, last = (datetime.combine(day, each, UTC) for each in (time.min, time.max))
        query = query.where(_X.timestamp.between(first, last))
    # What an XCom backend of the deployment's own keeps, the database cannot search.
    if _is_plain():
        if parts:
            query = query.where(_has_text(parts))
        if state == "failed":
            query = query.where(_may_have_failed())
        elif state == "in_progress":
            query = query.where(~_saw_its_end())
    rows = list(_read(query))
    found = [row for row in rows if (is_batch if row.key == BATCH_KEY else _is_submission)(row.value)]
    return found, rows[-1].ti if len(rows) == limit else None


def _has_text(parts: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a record of the same task instance has all parts."""
    other = aliased(_X)
    instances = select(other.dag_run_id, other.task_id, other.map_index)
    found = instances.where(other.key.in_((ORDER_KEY, SUBMISSION_KEY, BATCH_KEY)), *_contain(other, parts))
    return tuple_(_X.dag_run_id, _X.task_id, _X.map_index).in_(found)


def _may_have_failed() -> ColumnElement[bool]:
    """Return the condition that a failure is among the records that :func:`related` finds, or that it is a batch."""
    other = aliased(_X)
    # Searched once for both conditions.
    found = select(other.dag_run_id, other.map_index).where(other.key == USAGE_KEY, *_contain(other, ["failed"])).cte()
    own, of_all = select(found), select(found.c.dag_run_id).where(found.c.map_index == -1)
    return or_(_X.key == BATCH_KEY, tuple_(_X.dag_run_id, _X.map_index).in_(own), _X.dag_run_id.in_(of_all))


def _contain(record: Any, parts: Sequence[str]) -> Iterator[ColumnElement[bool]]:
    text = func.lower(cast(record.value, Text))
    return (text.contains(part, autoescape=True) for part in parts)


def _saw_its_end() -> ColumnElement[bool]:
    """Return the condition that the task instance which submitted a generation recorded its end as well."""
    own, kirin_task_id = aliased(_X), _X.value["kirin_task_id"].as_string()
    is_own = (getattr(own, column) == getattr(_X, column) for column in ("dag_run_id", "task_id", "map_index"))
    return exists().where(*is_own, own.key == USAGE_KEY, cast(own.value, Text).contains(kirin_task_id))


def related(instances: Iterable[InstanceKey], keys: Sequence[str] = _KEYS) -> list[Stored]:
    """Return what was recorded in the same runs about the generations that these task instances submitted.

    A sensor or download of a mapped task has the same map index, or is one for all of them.

    :param instances: task instances that submitted
    :param keys: of the records
    """
    instances = list(instances)
    if not instances or not keys:
        return []
    indexes = {-1, *(instance.map_index for instance in instances)}
    runs = {instance.dag_run_id for instance in instances}
    # An expression, so that SQLite uses the index of these runs, not the one of keys, which has all runs.
    of_runs = and_(_X.dag_run_id.in_(runs), _X.key.concat("").in_(keys))
    return list(_read(_select().where(of_runs, _X.map_index.in_(indexes))))


def ends(days: int) -> Iterator[tuple[str, Any]]:
    """Yield the DAG ids and the records of generations that ended, and of batches, in the last days."""
    since = datetime.now(UTC) - timedelta(days=days)
    query = _select().where(_X.key.in_((USAGE_KEY, BATCH_KEY)), _X.timestamp >= since)
    if _is_plain():
        # There may be tens of thousands.
        query = query.with_only_columns(_X.dag_id, cast(_X.value, Text).label("value"))
    yield from ((row.dag_id, value) for row, value in _rows(query))


def of_task(dag_id: str, run_id: str, task_id: str, map_index: int) -> list[Stored]:
    """Return the submissions of the generations that a task instance is about: its own, or those it waits for.

    :return: what a task instance knows only by its id has no more than the id and the connection
    """
    is_run = and_(_X.dag_id == dag_id, _X.run_id == run_id)
    is_own = and_(is_run, _X.task_id == task_id, _X.map_index == map_index)
    query = _select()
    own = list(_read(query.where(is_own, _X.key.in_((SUBMISSION_KEY, USAGE_KEY, FILES_KEY)))))
    if submitted := [row for row in own if row.key == SUBMISSION_KEY and _is_submission(row.value)]:
        return submitted
    arguments = _arguments(dag_id, run_id, task_id, map_index)
    wanted = dict.fromkeys(_ids(own, arguments.get("kirin_task_id")))
    if not wanted:
        return []
    searched = query.where(is_run, _X.key == SUBMISSION_KEY).limit(MAX_SEARCHED)
    found = {
        known: row
        for row in _read(searched)
        if _is_submission(row.value)
        for known in (row.value["kirin_task_id"], row.value.get("external_task_id"))
        if isinstance(known, str)
    }
    instance = own[0].ti if own else InstanceKey(-1, task_id, map_index)
    at = own[0].at if own else datetime.now(UTC)
    conn_id = arguments.get("kirin_conn_id")

    def stand_in(kirin_task_id: str) -> Stored:
        value = {"kirin_task_id": kirin_task_id, "kirin_conn_id": conn_id}
        return Stored(instance, dag_id, run_id, SUBMISSION_KEY, at, value)

    return [found.get(kirin_task_id) or stand_in(kirin_task_id) for kirin_task_id in wanted]


def batch(dag_id: str, run_id: str, task_id: str, map_index: int) -> Stored | None:
    """Return the record of the batch that a task instance works on; None if it is none."""
    is_own = and_(_X.dag_id == dag_id, _X.run_id == run_id, _X.task_id == task_id, _X.map_index == map_index)
    return next((row for row in _read(_select().where(is_own, _X.key == BATCH_KEY)) if is_batch(row.value)), None)


def task_states(batches: Sequence[Stored]) -> dict[InstanceKey, str]:
    """Return the states of the task instances of batches."""
    if not batches:
        return {}
    of = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
    instances = {(each.dag_id, each.run_id, each.ti.task_id, each.ti.map_index): each.ti for each in batches}
    query = select(*of, TaskInstance.state).where(tuple_(*of).in_(list(instances)))
    with create_session(scoped=False) as session:
        return {instances[dag, run, task, index]: str(state) for dag, run, task, index, state in session.execute(query)}


def task_state(dag_id: str, run_id: str, task_id: str, map_index: int) -> str | None:
    """Return the state of a task instance; None if it has none yet."""
    query = select(TaskInstance.state).filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    with create_session(scoped=False) as session:
        state = session.scalar(query)
    return None if state is None else str(state)


def _ids(own: list[Stored], argument: Any) -> Iterator[str]:
    entries = [entry for row in own for entry in (row.value if isinstance(row.value, list) else [row.value])]
    yield from (
        entry["kirin_task_id"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("kirin_task_id"), str)
    )
    if not entries:
        given = argument if isinstance(argument, list) else [argument]
        yield from (kirin_task_id for kirin_task_id in given if isinstance(kirin_task_id, str))


def _arguments(dag_id: str, run_id: str, task_id: str, map_index: int) -> dict[str, Any]:
    """Return the rendered arguments of a task instance: while a sensor waits, they have the ids."""
    query = select(RenderedTaskInstanceFields.rendered_fields).filter_by(
        dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index
    )
    with create_session(scoped=False) as session:
        fields = session.scalar(query)
    return fields if isinstance(fields, dict) else {}


def _is_submission(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("kirin_task_id"), str)


def _select() -> Select[Any]:
    return select(*_COLUMNS, (cast(_X.value, Text) if _is_plain() else _X.value).label("value"))


def _is_plain() -> bool:
    """Return whether the database has values as they were pushed: not with an XCom backend of the deployment's own."""
    return XCom is BaseXCom


def _read(query: Select[Any]) -> Iterator[Stored]:
    for row, value in _rows(query):
        instance = InstanceKey(row.dag_run_id, row.task_id, row.map_index)
        yield Stored(instance, row.dag_id, row.run_id, row.key, row.timestamp, value)


def _rows(query: Select[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield rows with their values."""
    with create_session(scoped=False) as session:
        rows = session.execute(query).all()
    if not _is_plain():
        yield from ((row, _decode(row)) for row in rows)
        return
    # Decoding some hundred together takes a third of the time. The database's own type: each is valid JSON, or NULL.
    for start in range(0, len(rows), _DECODED_TOGETHER):
        some = rows[start : start + _DECODED_TOGETHER]
        yield from zip(some, json.loads(f"[{','.join(row.value or 'null' for row in some)}]"), strict=True)


def _decode(row: Any) -> Any:
    try:
        return XCom.deserialize_value(row)
    except Exception:
        # A custom XCom backend may raise anything: a key was rotated, a bucket is unavailable.
        which = (row.key, row.dag_id, row.run_id, row.task_id)
        log.warning("The XCom %s of %s, %s, %s cannot be read.", *which, exc_info=True)
        return None
