"""``kirin list``: the generations of this Airflow, the latest first."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from airflow_provider_kirin.api.generations import Generation, select
from airflow_provider_kirin.api.pricing import show_usd
from airflow_provider_kirin.cli._runner import echo, show_rows
from airflow_provider_kirin.cli.records import NONE_ON_RECORD, day, read_generations


def list_generations(args: Namespace) -> None:
    """Print the generations.

    :param args: dag_id, run_id, task_id, status, from_, to, limit, output
    """
    generations = read_generations()
    found = select(
        generations,
        dag=args.dag_id,
        run=args.run_id,
        task=args.task_id,
        status=args.status,
        first=day(args.from_, "--from"),
        last=day(args.to, "--to"),
    )
    found.sort(key=lambda generation: generation.at, reverse=True)
    shown = found[: args.limit] if args.limit else found
    show_rows([_row(generation) for generation in shown], args.output)
    if not generations:
        echo(NONE_ON_RECORD)
    elif not found:
        echo(f"none of the {len(generations):,} generations on record is selected")
    if len(shown) < len(found):
        echo(f"the latest {len(shown):,} of {len(found):,}; --limit 0 lists all")


def _row(generation: Generation) -> dict[str, Any]:
    is_mapped = generation.map_index >= 0
    return {
        "id": generation.kirin_task_id,
        "external_task_id": generation.external_task_id or None,
        "dag_id": generation.dag,
        "run_id": generation.run,
        "task_id": f"{generation.task}[{generation.map_index}]" if is_mapped else generation.task,
        "status": generation.status,
        "code": generation.code or None,
        "cost": None if generation.cost is None else show_usd(generation.cost),
        "at": generation.at.isoformat(timespec="seconds"),
        "files": list(generation.files),
    }
