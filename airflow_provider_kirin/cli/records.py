"""What Airflow keeps of generations, read from its metadata database for ``kirin costs`` and ``kirin list``.

Commands may read the database directly, as Airflow's own do; tasks may not, so no task may import this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date
from itertools import chain
from typing import Any

from airflow_provider_kirin.api.batch.report import generation_entries
from airflow_provider_kirin.api.generations import About, Generation, GenerationRecord, merge_records
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.cli._runner import echo, fail
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.state.journal import Journal
from airflow_provider_kirin.state.keys import (
    BATCH_KEY,
    FILES_KEY,
    STATE_PREFIX,
    SUBMISSION_KEY,
    USAGE_KEY,
    USAGE_STATE_KEY,
    submission_state_key,
)

#: Why there is nothing to list or to sum.
NONE_ON_RECORD = (
    "no task of this Airflow has submitted a generation yet. `submit PAYLOAD` starts one without a DAG. What a shell "
    "starts is not listed here: use `status ID`, or the manifest in the folder of a batch."
)
_ABOUT: dict[str, About] = {SUBMISSION_KEY: "submission", USAGE_KEY: "end", FILES_KEY: "files", BATCH_KEY: "submission"}


def read_generations() -> list[Generation]:
    """Return every generation of this Airflow once."""
    return merge_records(with_batches(chain(_xcoms(), _state_store())))


def day(text: str | None, name: str) -> date | None:
    """Return the day that an argument names; exit if it names none.

    :param text: such as ``2026-11-25``
    :param name: the argument
    """
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        fail(f"{name} {short_repr(text)} must be a date such as 2026-11-25.")


def _xcoms() -> Iterator[GenerationRecord]:
    """Yield the records in XComs, read through the deployment's XCom backend."""
    from airflow.models import xcom
    from airflow.providers.common.compat.sdk import XCom

    # In Airflow 2 the database model has the name that the XCom backend has in Airflow 3.
    model: Any = getattr(xcom, "XComModel", None) or xcom.XCom
    for row in _rows(model, model.key.in_(_ABOUT), model.timestamp):
        yield _record(row, row.timestamp, _ABOUT[row.key], XCom.deserialize_value(row))


def _state_store() -> Iterator[GenerationRecord]:
    """Yield the records that survive a clear: in the task state store of Airflow 3.3 and later."""
    try:
        from airflow.models.task_state_store import TaskStateStoreModel
    except ImportError:
        return
    model: Any = TaskStateStoreModel
    prefix = submission_state_key("")
    for row in _rows(model, model.key.like(f"{STATE_PREFIX}%"), model.updated_at):
        try:
            value = json.loads(row.value)
        except ValueError:
            continue
        if row.key.startswith(prefix) and isinstance(value, dict):
            value["external_task_id"] = row.key.removeprefix(prefix)
        yield _record(row, row.updated_at, "end" if row.key == USAGE_STATE_KEY else "submission", value)


def _record(row: Any, at: Any, about: About, value: Any) -> GenerationRecord:
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    return GenerationRecord(row.dag_id, row.run_id, row.task_id, at, about, value, row.map_index)


def _rows(model: Any, keys: Any, at: Any) -> Iterator[Any]:
    """Stream rows: there may be several for every generation that the deployment ever submitted."""
    import sqlalchemy
    from airflow import settings

    columns = (model.dag_id, model.run_id, model.task_id, model.map_index, model.key, model.value, at)
    # Not a session, which is shared within a thread: an XCom backend that looks up a connection would close it.
    engine: Any = settings.engine
    with engine.connect() as connection:
        yield from connection.execution_options(yield_per=1000).execute(sqlalchemy.select(*columns).where(keys))


def with_batches(records: Iterator[GenerationRecord]) -> Iterator[GenerationRecord]:
    """Replace the record of each batch, which names its manifest, by the generations in it.

    :param records: of task instances
    """
    seen: set[str] = set()
    for record in records:
        manifest = record.value.get("manifest") if isinstance(record.value, Mapping) else None
        if not isinstance(manifest, str):
            yield record
        elif manifest not in seen:
            seen.add(manifest)
            yield from _generations_of_batch(record, manifest)


def _generations_of_batch(record: GenerationRecord, manifest: str) -> Iterator[GenerationRecord]:
    try:
        states = Journal(manifest.rpartition("/")[0], owner="").peek()
    except KirinError as error:
        echo(f"The generations of the batch {record.task} of {record.run} are not included: {error}")
        return
    for state in states.values():
        for about, entry in generation_entries(state):
            yield replace(record, about=about, value=entry)
