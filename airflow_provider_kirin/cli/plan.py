"""``kirin plan``: what a table, or the DAGs of a file, would submit and cost. Nothing is submitted."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_kirin.api.batch.row import BadRows, Row, check_row
from airflow_provider_kirin.api.pricing import Estimate, show_usd
from airflow_provider_kirin.cli._runner import absolute, echo, fail, show, show_rows
from airflow_provider_kirin.cli.hook import open_hook
from airflow_provider_kirin.cli.prices import Price, PriceLine, PriceList, find_table_price
from airflow_provider_kirin.cli.purchases import Purchase, purchases_of
from airflow_provider_kirin.compat import dagbag_module
from airflow_provider_kirin.exceptions import KirinConfigError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.table import Table


def plan(args: Namespace) -> None:
    """Print what would be submitted.

    :param args: source, dag_id, model, allow_unknown_model, key, conn_id, output
    """
    (_plan_dags if args.source.lower().endswith(".py") else _plan_table)(args)


def _plan_table(args: Namespace) -> None:
    table = Table(absolute(args.source), key=args.key, model=args.model)
    bad = BadRows(by_position=args.key is None)
    with open_hook(args) as hook:
        price = find_table_price(hook, _good_rows(args, table(), bad), args.model)
    for line in bad.lines():
        echo(line)
    _show([_fields(line) for line in price.lines], args.output)
    if args.output == "table" and price.lines:
        show(f"\n{_count(price.count, 'generation')}, {price}")
    if bad.count:
        fail(f"{bad.count:,} of {_count(bad.count + price.count, 'row')} cannot be used.{bad.key_hint}")
    if not price.lines:
        echo(f"{table.source} has no rows.")


def _good_rows(args: Namespace, rows: Iterable[Row], bad: BadRows) -> Iterator[Row]:
    """Yield the rows without problems, and collect the others; images are not read."""
    for row in rows:
        checked = check_row(row, args.model, allow_unknown_model=args.allow_unknown_model)
        if checked.problems:
            bad.add(checked)
        else:
            yield row


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _show(rows: list[dict[str, Any]], output: str) -> None:
    # Airflow's table without rows says "No data found", which is not the reason.
    if rows or output in ("json", "yaml"):
        show_rows(rows, output)


@dataclass(frozen=True)
class _Step:
    """Generations of one task that have the same price; the key is empty if that is known only at run time."""

    dag_id: str
    task_id: str
    is_counted: bool
    key: str
    estimate: Estimate | None


def _plan_dags(args: Namespace) -> None:
    purchases = [purchase for dag in _load(args.source, args.dag_id) for purchase in purchases_of(dag)]
    conn_ids = sorted({purchase.conn_id for purchase in purchases if purchase.payload is not None})
    with ExitStack() as hooks:
        prices = {conn_id: PriceList(hooks.enter_context(hook)) for conn_id, hook in _hooks(args, conn_ids)}

        def step(purchase: Purchase) -> _Step:
            key, estimate = "", None
            if purchase.payload is not None:
                key, estimate = prices[purchase.conn_id].find(purchase.payload, purchase.model)
            return _Step(purchase.dag_id, purchase.task_id, purchase.is_counted, key, estimate)

        steps = Counter(map(step, purchases))
    lines = {step: PriceLine(step.key, count, step.estimate) for step, count in steps.items()}
    rows = [
        {"dag_id": step.dag_id, "task_id": step.task_id, **_fields(line, is_counted=step.is_counted)}
        for step, line in lines.items()
    ]
    _show(rows, args.output)
    if not steps:
        echo(f"no task of {args.source} would submit a generation.")
    elif args.output == "table":
        uncounted = len({(step.dag_id, step.task_id) for step in steps if not step.is_counted})
        price = Price([line for step, line in lines.items() if step.is_counted])
        parts = [f"{_count(price.count, 'generation')}, {price}"] if price.count else []
        if uncounted:
            parts.append(f"those of {_count(uncounted, 'task')}, whose number is known only at run time")
        show(f"\nIf every task runs once: {'; and '.join(parts)}")


def _hooks(args: Namespace, conn_ids: Iterable[str]) -> Iterator[tuple[str, closing[KirinHook]]]:
    """Yield the hook of each connection; exit if one is missing, after naming all that are."""
    missing = []
    for conn_id in conn_ids:
        try:
            yield conn_id, open_hook(Namespace(conn_id=conn_id, verbose=args.verbose))
        except KirinConfigError as error:
            missing.append(error)
    for missed in missing:
        echo(str(missed))
    if missing:
        raise SystemExit(1)


def _load(file: str, dag_id: str | None) -> list[Any]:
    """Return the DAGs of a file, as Airflow itself parses it; exit if it cannot be parsed."""
    if not Path(file).is_file():
        fail(f"{file} does not exist.")
    # Without the heuristic that skips files in which the words DAG and Airflow do not occur.
    bag = dagbag_module().DagBag(dag_folder=absolute(file), safe_mode=False, load_op_links=False)
    for error in bag.import_errors.values():
        fail(f"{file} cannot be imported: {error.strip().splitlines()[-1]}", in_shell_words=False)
    dags = [dag for name, dag in sorted(bag.dags.items()) if dag_id in (None, name)]
    if not dags:
        fail(f"{file} has no DAG{'' if dag_id is None else f' {dag_id}'}.")
    return dags


def _fields(line: PriceLine, *, is_counted: bool = True) -> dict[str, Any]:
    return {
        "priced_by": line.key or None,
        "generations": line.count if is_counted else None,
        "usd_each": show_usd(line.estimate.usd) if line.estimate else None,
        "usd": show_usd(line.usd) if line.usd is not None and is_counted else None,
    }
