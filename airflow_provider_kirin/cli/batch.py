"""``kirin batch``: the batch operator's engine in a shell. The folder is the batch, and can be resumed."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from airflow_provider_kirin.api.batch.report import failure, progress_line, summary
from airflow_provider_kirin.api.batch.state import is_to_submit
from airflow_provider_kirin.api.budget import parse_budget
from airflow_provider_kirin.api.idempotency import StepIdentity
from airflow_provider_kirin.api.pricing import show_usd
from airflow_provider_kirin.cli._runner import ConsoleLog, absolute, confirm, echo, fail, printable, show
from airflow_provider_kirin.cli.hook import open_hook
from airflow_provider_kirin.cli.prices import find_table_price
from airflow_provider_kirin.cli.progress import ShowProgress, progress_bar
from airflow_provider_kirin.download.atomic_file import storage_errors
from airflow_provider_kirin.download.destination import Destination
from airflow_provider_kirin.download.storage import as_path
from airflow_provider_kirin.exceptions import KirinError, KirinTableError
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.batch_budget import BatchBudget
from airflow_provider_kirin.operators.batch_client import BATCH, HookBatchClient
from airflow_provider_kirin.operators.batch_run import BatchRun
from airflow_provider_kirin.operators.batch_settings import BatchSettings
from airflow_provider_kirin.operators.batch_wait import wait_for_ends
from airflow_provider_kirin.operators.destinations import BATCH_TEMPLATE
from airflow_provider_kirin.operators.table import Table
from airflow_provider_kirin.state.journal import MANIFEST, Journal

#: Distinguishes the batches of a shell from those of a DAG.
_PREFIX = "cli-"
#: Seconds between two updates of the progress bar, each of which sums the costs of all rows.
_UPDATE_EVERY = 0.5
#: What a shell returns for a program that Ctrl-C has ended.
_INTERRUPTED = 128 + signal.SIGINT


def work(args: Namespace) -> None:
    """Work through a table, or continue it.

    :param args: table, destination, resume, conn_id, model, allow_unknown_model, key, max_in_flight, max_cost_usd,
        on_bad_row, row_retries, fail_fast, timeout, row_timeout, fit_images, yes, output
    """
    table = Table(absolute(args.table), key=args.key, model=args.model)
    if "://" not in args.table:
        # Shown as it was given.
        table.source = args.table
    journal = Journal(_folder(args.destination), owner=secrets.token_hex(4))
    if _resolved(args.table) == f"{journal.folder}/{MANIFEST}":
        fail(f"{args.table} is where this batch would write its manifest: rename the table, or give another folder.")
    name = _name(args, journal)
    with open_hook(args) as hook:
        # Threads share the session.
        hook.get_conn()
        budget = None
        if args.max_cost_usd is not None:
            budget = BatchBudget(
                parse_budget(args.max_cost_usd), name, hook, push=lambda entries: None, others=lambda **how: ()
            )
        run = BatchRun(_client(args, hook, journal.folder, name, budget), journal, table, _settings(args, table))
        run.log = _log(args, hook)
        _open(args, run, name)
        _confirm(args, hook, table, run)
        try:
            _on_interrupt()
            with progress_bar(is_shown=not args.verbose) as bar:
                _finish(args, hook, run, budget, bar)
        except KirinError as error:
            if args.verbose:
                raise
            _fail_in_lines(error, f"To continue: {_resume_command()}")
        except KeyboardInterrupt:
            rows = run.rows
            echo(
                f"interrupted: {rows.count('saved'):,} of {rows.total:,} done, {show_usd(rows.cost)} USD. Generations "
                "that are in flight continue at Kirin, and are billed."
            )
            echo(f"To continue, without paying anything twice: {_resume_command()}")
            raise SystemExit(_INTERRUPTED) from None
    _report(args, run)


def _folder(destination: str) -> str:
    """Return the batch's folder, under a name that does not depend on the current one."""
    if destination.lower().endswith(".mp4"):
        fail(f"{destination} must be a folder: a batch has a file for each row.")
    return _resolved(destination)


def _resolved(path: str) -> str:
    path = absolute(path)
    return path.rstrip("/") if "://" in path else str(Path(path).resolve())


def _name(args: Namespace, journal: Journal) -> str:
    """Return the batch's identity: that of the journal, which is still right if the folder was moved."""
    head = journal.read_head()
    if head is not None and not head.batch.startswith(_PREFIX):
        fail(
            f"the batch in {journal.folder} belongs to a task of a DAG: clear the task to continue it, or give another "
            "folder."
        )
    if not args.resume and journal.is_begun():
        fail(
            f"{journal.folder} holds a batch already. Add --resume to continue it, which pays only for what is "
            "missing, or give another folder."
        )
    if args.resume and _is_empty(journal.folder):
        fail(
            f"{journal.folder} is empty, so there is nothing to resume. Leave out --resume: each row is looked up "
            "before it is submitted, and what an earlier batch in this folder has paid for is not paid again."
        )
    return _PREFIX + _identity(args, journal.folder).external_task_id(BATCH) if head is None else head.batch


def _is_empty(folder: str) -> bool:
    path = as_path(folder)
    with storage_errors(path, "read"):
        return not path.exists() or next(iter(path.iterdir()), None) is None


def _identity(args: Namespace, name: str, namespace: str = "") -> StepIdentity:
    return StepIdentity(
        conn_id=args.conn_id,
        dag_id="",
        run_id=name,
        task_id="kirin batch",
        map_index=-1,
        take=1,
        namespace=namespace,
    )


def _client(args: Namespace, hook: KirinHook, folder: str, name: str, budget: BatchBudget | None) -> HookBatchClient:
    destination = Destination(folder, BATCH_TEMPLATE, {"key": ""}, is_first_try=False)
    destination.check()
    return HookBatchClient(
        hook,
        _identity(args, name, hook.connection.namespace),
        destination,
        model=args.model,
        fit_images=args.fit_images,
        allow_unknown_model=args.allow_unknown_model,
        budget=budget,
        report=lambda event, state, outcome: None,
    )


def _settings(args: Namespace, table: Table) -> BatchSettings:
    return BatchSettings(
        source=table.source,
        model=args.model,
        conn_id=args.conn_id,
        max_in_flight=args.max_in_flight,
        row_retries=args.row_retries,
        fail_fast=args.fail_fast,
        on_bad_row=args.on_bad_row,
        timeout=args.timeout,
        row_timeout=args.row_timeout,
        allow_unknown_model=args.allow_unknown_model,
        by_position=args.key is None,
    )


def _log(args: Namespace, hook: KirinHook) -> Any:
    """Return the batch's logger: with a progress bar, a line for each wave would be redundant."""
    return hook.log if args.verbose or sys.stderr.isatty() else _LinesLog()


class _LinesLog(ConsoleLog):
    def info(self, message: object, *args: object) -> None:
        self.warning(message, *args)


def _open(args: Namespace, run: BatchRun, name: str) -> None:
    """Check the table, and take the batch over from an earlier process: as a task that was cleared."""
    head = run.journal.read_head()
    try:
        run.open(
            batch=name,
            try_number=head.try_number + 1 if head else 1,
            # Never that of an earlier process, even if the journal is lost.
            round=int(time.time()),
            may_be_lost=args.resume,
        )
    except KirinTableError as error:
        if args.verbose:
            raise
        _fail_in_lines(error)


def _confirm(args: Namespace, hook: KirinHook, table: Table, run: BatchRun) -> None:
    if not run.rows.left:
        return
    rows = (row for row in table() if not row.problems and is_to_submit(run.rows.get(row.key), args.row_retries))
    price = find_table_price(hook, rows, args.model)
    some = f"{price.count:,}" if price.count == run.rows.total else f"{price.count:,} of {run.rows.total:,}"
    some += " row" if run.rows.total == 1 else " rows"
    limit = f", and at most {args.max_cost_usd} USD" if args.max_cost_usd is not None else ""
    if args.yes:
        echo(f"submitting {some} of {table.source} for {price}{limit}")
    confirm(args, f"submit {some} of {table.source} to {hook.connection.base_url} for {price}{limit}")


def _finish(args: Namespace, hook: KirinHook, run: BatchRun, budget: BatchBudget | None, bar: ShowProgress) -> None:
    """Work until nothing is left to do."""
    run.on_change = update = _updater(run, bar)
    while True:
        if budget is not None:
            budget.begin(run.rows)
        run.wave()
        update(at_once=True)
        if run.is_finished:
            return
        wait_for_ends(run, hook, timeout=args.timeout)


def _updater(run: BatchRun, bar: ShowProgress) -> Callable[..., None]:
    """Return a function that shows how far the batch is, if it was not shown a moment ago."""
    shown_at = 0.0

    def update(*, at_once: bool = False) -> None:
        nonlocal shown_at
        if at_once or time.monotonic() - shown_at >= _UPDATE_EVERY:
            shown_at = time.monotonic()
            rows = run.rows
            bar(rows.count("saved") + rows.failed, rows.total, progress_line(rows, run.places))

    update(at_once=True)
    return update


def _on_interrupt() -> None:
    """Let the first Ctrl-C finish what is being sent or stored, and the second one leave at once."""

    def again(*_: object) -> NoReturn:
        # All that matters is on disk. The progress bar has hidden the cursor.
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        os.write(2, f"{show_cursor}\nkirin: left at once. To continue: {printable(_resume_command())}\n".encode())
        os._exit(_INTERRUPTED)

    def first(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, again)
        echo("stopping, as soon as what is being sent or stored is finished; Ctrl-C again leaves at once.")
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)


def _resume_command() -> str:
    """Return the command that continues the batch."""
    program = "python -m airflow_provider_kirin" if "airflow_provider_kirin" in Path(sys.argv[0]).parts else "airflow"
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    return f"{program} {shlex.join([*arguments, '--resume'])}"


def _fail_in_lines(error: KirinError, *more: str) -> NoReturn:
    for line in (*str(error).splitlines(), *more):
        echo(line)
    raise SystemExit(1)


def _report(args: Namespace, run: BatchRun) -> None:
    manifest = run.journal.manifest_uri
    seconds = time.time() - run.journal.head.started_at
    result = summary(run.rows, manifest=manifest, folder=run.journal.folder, seconds=seconds)
    show(json.dumps(result, indent=2, ensure_ascii=False) if args.output == "json" else manifest)
    error = failure(
        run.rows,
        max_failed_rows=0,
        refused_count=args.on_bad_row == "error",
        manifest=manifest,
        why=run.why_stopped,
        remedy="Run it again with --resume",
    )
    if error is not None:
        _fail_in_lines(error)
