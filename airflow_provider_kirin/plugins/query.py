"""What the pages read from Airflow's database. Every function opens a session of its own and closes it.

XComs are read in the order of the primary key, by key, in pages (keyset), and as columns: the model joins the DAG run
eagerly. Values are decoded after the session is closed, because an XCom backend may have to fetch them from elsewhere.
"""

from __future__ import annotations

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
from sqlalchemy import Select, and_, select, tuple_

from airflow_provider_kirin.plugins.records import Place, Stored
from airflow_provider_kirin.state.keys import FILES_KEY, ORDER_KEY, SUBMISSION_KEY, USAGE_KEY

log = logging.getLogger(__name__)

#: Submissions of a run that are searched for a generation which another task submitted.
MAX_SEARCHED = 2000
_KEYS = (ORDER_KEY, USAGE_KEY, FILES_KEY)
_X: Any = XComModel
_COLUMNS = (_X.dag_run_id, _X.dag_id, _X.run_id, _X.task_id, _X.map_index, _X.key, _X.timestamp, _X.value)


def kirin_dags() -> set[str]:
    """Return the ids of all DAGs that ever submitted a generation."""
    with create_session(scoped=False) as session:
        return set(session.scalars(select(_X.dag_id).where(_X.key == SUBMISSION_KEY).distinct()))


def submissions(
    dag_ids: Sequence[str] | None, *, after: Place | None, day: date | None = None, limit: int
) -> list[Stored]:
    """Return submissions, those of the latest DAG runs first.

    :param dag_ids: of these DAGs; None for all
    :param after: begin behind this task instance
    :param day: only those of one day, in UTC
    :param limit: how many at most
    """
    # One direction for all columns: the database walks the primary key backwards, and sorts nothing.
    order = (_X.dag_run_id, _X.task_id, _X.map_index)
    query = (
        select(*_COLUMNS).where(_X.key == SUBMISSION_KEY).order_by(*(column.desc() for column in order)).limit(limit)
    )
    if dag_ids is not None:
        query = query.where(_X.dag_id.in_(dag_ids))
    if after is not None:
        query = query.where(tuple_(*order) < tuple_(*after))
    if day is not None:
        start = datetime.combine(day, time(), UTC)
        query = query.where(_X.timestamp >= start, _X.timestamp < start + timedelta(days=1))
    return [row for row in _read(query) if _is_submission(row.value)]


def related(places: Iterable[Place]) -> list[Stored]:
    """Return what was recorded in the same runs about the generations that these task instances submitted.

    A sensor or download of a mapped task has the same map index, or is one for all of them.
    """
    places = list(places)
    if not places:
        return []
    indexes = {-1, *(place.map_index for place in places)}
    runs = {place.dag_run_id for place in places}
    return list(_read(select(*_COLUMNS).where(_X.dag_run_id.in_(runs), _X.map_index.in_(indexes), _X.key.in_(_KEYS))))


def ends(days: int) -> list[Stored]:
    """Return the records of generations that ended in the last days."""
    since = datetime.now(UTC) - timedelta(days=days)
    return list(_read(select(*_COLUMNS).where(_X.key == USAGE_KEY, _X.timestamp >= since)))


def of_task(dag_id: str, run_id: str, task_id: str, map_index: int) -> list[Stored]:
    """Return the submissions of the generations that a task instance is about: its own, or those it waits for.

    :return: what a task instance knows only by its id has no more than the id and the connection
    """
    is_run = and_(_X.dag_id == dag_id, _X.run_id == run_id)
    is_own = and_(is_run, _X.task_id == task_id, _X.map_index == map_index)
    query = select(*_COLUMNS)
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
    where = own[0].place if own else Place(-1, task_id, map_index)
    at = own[0].at if own else datetime.now(UTC)
    conn_id = arguments.get("kirin_conn_id")

    def stand_in(kirin_task_id: str) -> Stored:
        value = {"kirin_task_id": kirin_task_id, "kirin_conn_id": conn_id}
        return Stored(where, dag_id, run_id, SUBMISSION_KEY, at, value)

    return [found.get(kirin_task_id) or stand_in(kirin_task_id) for kirin_task_id in wanted]


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
        yield from (one for one in (argument if isinstance(argument, list) else [argument]) if isinstance(one, str))


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


def _read(query: Select[Any]) -> Iterator[Stored]:
    with create_session(scoped=False) as session:
        rows = session.execute(query).all()
    for row in rows:
        place = Place(row.dag_run_id, row.task_id, row.map_index)
        yield Stored(place, row.dag_id, row.run_id, row.key, row.timestamp, _decode(row))


def _decode(row: Any) -> Any:
    if XCom is BaseXCom:
        # What we push is plain JSON, which Airflow stores as it is; its own decoder would walk through all of it.
        return row.value
    try:
        return XCom.deserialize_value(row)
    except Exception:
        # A custom XCom backend may raise anything: a key was rotated, a bucket is unavailable.
        which = (row.key, row.dag_id, row.run_id, row.task_id)
        log.warning("The XCom %s of %s, %s, %s cannot be read.", *which, exc_info=True)
        return None
