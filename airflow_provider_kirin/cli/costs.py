"""``kirin costs``: from what Airflow keeps of generations to a table, JSON, YAML or CSV."""

from __future__ import annotations

import csv
import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from airflow_provider_kirin.api.cost_report import FIELDS, summarize, total
from airflow_provider_kirin.api.generations import Generation, select
from airflow_provider_kirin.api.pricing import billed_cost
from airflow_provider_kirin.api.redaction import short_repr
from airflow_provider_kirin.cli._runner import echo, fail, printable, show, show_rows
from airflow_provider_kirin.cli.records import NONE_ON_RECORD, day, read_generations
from airflow_provider_kirin.exceptions import KirinError
from airflow_provider_kirin.hooks.kirin import KirinHook


def report(args: Namespace) -> None:
    """Print the report.

    :param args: dag_id, run_id, from_, to, by, output, ask
    """
    by = [field.strip() for field in args.by.split(",") if field.strip()]
    if unknown := [field for field in by if field not in FIELDS]:
        fail(f"--by {short_repr(unknown[0])} must be one or more of {', '.join(FIELDS)}, separated by commas.")
    first, last = day(args.from_, "--from"), day(args.to, "--to")
    # Filter after merging: which task submitted a generation, and when it ended, may be in another DAG's records.
    generations = read_generations()
    if not generations:
        echo(NONE_ON_RECORD)
    costs = select(generations, dag=args.dag_id, run=args.run_id, first=first, last=last)
    if args.ask:
        costs = list(_with_current_costs(costs))
    _print(summarize(costs, by), total(costs), output=args.output)


def _with_current_costs(costs: Iterable[Generation]) -> Iterator[Generation]:
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
    elif output == "csv":
        if groups:
            writer = csv.DictWriter(sys.stdout, fieldnames=list(groups[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {name: printable(value) if isinstance(value, str) else value for name, value in group.items()}
                for group in groups
            )
    else:
        show_rows(groups, output)
        if groups and output == "table":
            unknown = f", and {whole['unknown']} whose cost is not on record (--ask)" if whole["unknown"] else ""
            show(f"\n{whole['generations']} generations, {whole['usd']} USD{unknown}")
