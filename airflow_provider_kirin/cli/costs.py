"""``kirin costs``: from Airflow's metadata database to a table, JSON or CSV.

Commands may read the database directly, as Airflow's own do; tasks may not, so no task may import this module.
"""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date
from itertools import chain
from typing import Any

from airflow_provider_kirin.api.batch.report import cost_entries
from airflow_provider_kirin.api.cost_report import (
    FIELDS,
    CostRecord,
    GenerationCost,
    merge_records,
    select,
    summarize,
    total,
)
from airflow_provider_kirin.api.pricing import billed_cost
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.cli._runner import echo, fail, printable, show
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.state.journal import Journal
from airflow_provider_kirin.state.keys import BATCH_KEY, STATE_PREFIX, SUBMISSION_KEY, USAGE_KEY, USAGE_STATE_KEY


def report(args: Namespace) -> None:
    """Print the report.

    :param args: dag_id, run_id, from_, to, by, output, ask
    """
    by = [field.strip() for field in args.by.split(",") if field.strip()]
    if unknown := [field for field in by if field not in FIELDS]:
        fail(f"--by {short_repr(unknown[0])} must be one or more of {', '.join(FIELDS)}, separated by commas.")
    first, last = _day(args.from_, "--from"), _day(args.to, "--to")
    # Filter after merging: which task submitted a generation, and when it ended, may be in another DAG's records.
    costs = merge_records(_with_batches(chain(_xcoms(), _state_store())))
    costs = select(costs, dag=args.dag_id, run=args.run_id, first=first, last=last)
    if args.ask:
        costs = list(_with_current_costs(costs))
    _print(summarize(costs, by), total(costs), output=args.output)


def _day(text: str | None, name: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        fail(f"{name} {short_repr(text)} must be a date such as 2026-11-25.")


def _xcoms() -> Iterator[CostRecord]:
    """Yield the records in XComs, read through the deployment's XCom backend."""
    from airflow.models import xcom
    from airflow.providers.common.compat.sdk import XCom

    # In Airflow 2 the database model has the name that the XCom backend has in Airflow 3.
    model: Any = getattr(xcom, "XComModel", None) or xcom.XCom
    keys = model.key.in_((SUBMISSION_KEY, USAGE_KEY, BATCH_KEY))
    for row in _rows(model, keys, model.timestamp):
        yield CostRecord(
            row.dag_id,
            row.run_id,
            row.task_id,
            _utc(row.timestamp),
            row.key == SUBMISSION_KEY,
            XCom.deserialize_value(row),
        )


def _state_store() -> Iterator[CostRecord]:
    """Yield the records that survive a clear: in the task state store of Airflow 3.3 and later."""
    try:
        from airflow.models.task_state_store import TaskStateStoreModel
    except ImportError:
        return
    model: Any = TaskStateStoreModel
    for row in _rows(model, model.key.like(f"{STATE_PREFIX}%"), model.updated_at):
        try:
            value = json.loads(row.value)
        except ValueError:
            continue
        yield CostRecord(row.dag_id, row.run_id, row.task_id, _utc(row.updated_at), row.key != USAGE_STATE_KEY, value)


def _with_batches(records: Iterable[CostRecord]) -> Iterator[CostRecord]:
    """Replace the record of each batch, which names its manifest, by the generations in it."""
    seen: set[str] = set()
    for record in records:
        manifest = record.value.get("manifest") if isinstance(record.value, Mapping) else None
        if not isinstance(manifest, str):
            yield record
        elif manifest not in seen:
            seen.add(manifest)
            yield from _generations_of_batch(record, manifest)


def _generations_of_batch(record: CostRecord, manifest: str) -> Iterator[CostRecord]:
    try:
        states = Journal(manifest.rpartition("/")[0], owner="").peek()
    except KirinError as error:
        echo(f"The costs of the batch {record.task} of {record.run} are not included: {error}")
        return
    for state in states.values():
        submitted, ended = cost_entries(state)
        yield replace(record, is_submission=True, value=submitted)
        yield replace(record, is_submission=False, value=ended)


def _rows(model: Any, keys: Any, at: Any) -> Iterator[Any]:
    """Stream rows: there may be several for every generation that the deployment ever submitted."""
    import sqlalchemy
    from airflow import settings

    query = sqlalchemy.select(model.dag_id, model.run_id, model.task_id, model.key, model.value, at).where(keys)
    # Not a session, which is shared within a thread: an XCom backend that looks up a connection would close it.
    engine: Any = settings.engine
    with engine.connect() as connection:
        yield from connection.execution_options(yield_per=1000).execute(query)


def _utc(at: Any) -> Any:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _with_current_costs(costs: Iterable[GenerationCost]) -> Iterator[GenerationCost]:
    """Look up generations whose cost is not on record, each with the connection that submitted it."""
    for generation in costs:
        if generation.cost is not None:
            yield generation
            continue
        try:
            with closing(KirinHook(generation.conn_id or KirinHook.default_conn_name)) as hook:
                kirin_task = hook.get_task(generation.kirin_task_id)
        except KirinError as error:
            echo(f"{generation.kirin_task_id}: {error}")
            yield generation
            continue
        yield replace(generation, cost=billed_cost(kirin_task), model=generation.model or kirin_task.model)


def _print(groups: list[dict[str, Any]], whole: dict[str, Any], *, output: str) -> None:
    if output == "json":
        show(json.dumps({"total": whole, "groups": groups}, indent=2, ensure_ascii=False))
        return
    rows = [
        {name: printable(value) if isinstance(value, str) else value for name, value in group.items()}
        for group in groups
    ]
    if output == "csv":
        if rows:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        from airflow.cli.simple_table import AirflowConsole

        AirflowConsole().print_as(data=rows, output="table")
        if rows:
            print(f"\n{whole['generations']} generations, {whole['usd']} USD", end="")
            print(f", and {whole['unknown']} whose cost is not on record (--ask)" if whole["unknown"] else "")
