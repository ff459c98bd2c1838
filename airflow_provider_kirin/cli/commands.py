"""The commands: thin shells around the hook that the operators use."""

from __future__ import annotations

import json
import uuid
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.api.pricing import billed_cost, price_key, show_usd
from airflow_provider_kirin.api.record import NoRecord
from airflow_provider_kirin.api.submission import Submission
from airflow_provider_kirin.cli._runner import absolute, command, confirm, echo, fail, show, show_rows
from airflow_provider_kirin.cli.follow import follow
from airflow_provider_kirin.cli.hook import open_hook
from airflow_provider_kirin.cli.payload_file import read_payload
from airflow_provider_kirin.cli.prices import describe_price, find_price
from airflow_provider_kirin.download.destination import Destination, fetch_finished, save_videos
from airflow_provider_kirin.download.storage import open_uri
from airflow_provider_kirin.exceptions import KirinError, KirinPayloadError, KirinUnknownSubmitError
from airflow_provider_kirin.operators.generation_client import HookClient

if TYPE_CHECKING:
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.hooks.kirin import KirinHook


@command
def validate(args: Namespace) -> None:
    """Validate a payload; print what would be sent and cost, or each problem on a line of its own.

    :param args: payload, model, allow_unknown_model, conn_id
    """
    try:
        prepared = prepare_payload(
            read_payload(args.payload), args.model, open_uri=open_uri, allow_unknown_model=args.allow_unknown_model
        )
    except KirinPayloadError as error:
        for problem in error.problems:
            echo(str(problem))
        raise SystemExit(1) from None
    for warning in prepared.warnings:
        echo(warning)
    show(f"{prepared.model}: {prepared.describe()}")
    try:
        with open_hook(args) as hook:
            show(f"price: {describe_price(find_price(hook, prepared))}")
    except KirinError as error:
        # The payload is valid without a connection too.
        echo(f"no price: {error}")


@command
def price(args: Namespace) -> None:
    """Print what a payload will probably cost.

    :param args: payload, model, allow_unknown_model, conn_id
    """
    with open_hook(args) as hook:
        prepared = hook.prepare(
            read_payload(args.payload), model=args.model, allow_unknown_model=args.allow_unknown_model
        )
        estimate = find_price(hook, prepared)
        key = price_key(prepared.model, prepared.params)
    if estimate is None:
        fail(f"no price of {key} is known: the gateway has none, and the connection's `prices` do not list it.")
    echo(f"{key}, according to {estimate.source}")
    show(f"{show_usd(estimate.usd)} USD")


@command
def models(args: Namespace) -> None:
    """Print the models, or the parameters of one.

    :param args: model, output
    """
    from airflow_provider_kirin.cli.models import list_models, list_parameters

    show_rows(list_parameters(args.model) if args.model else list_models(), args.output)


@command
def plan(args: Namespace) -> None:
    """Print what a table, or the DAGs of a file, would submit and cost.

    :param args: source, dag_id, model, allow_unknown_model, key, conn_id, output
    """
    from airflow_provider_kirin.cli import plan as planning

    planning.plan(args)


@command
def list_(args: Namespace) -> None:
    """Print the generations of this Airflow.

    :param args: dag_id, run_id, task_id, status, from_, to, limit, output
    """
    from airflow_provider_kirin.cli.listing import list_generations

    list_generations(args)


def version(args: Namespace) -> None:
    """Print the version of this provider."""
    from airflow_provider_kirin import __version__

    show(f"airflow-provider-kirin {__version__}")


@command
def submit(args: Namespace) -> None:
    """Start a generation and print its id, or adopt one that has the same external task id.

    :param args: payload, model, allow_unknown_model, conn_id, external_task_id, yes, wait, timeout, download
    """
    destination = None if args.download is None else _destination(args.download)
    with open_hook(args) as hook:
        user_id = {"external_task_id": args.external_task_id} if args.external_task_id else {}
        prepared = hook.prepare(
            read_payload(args.payload),
            model=args.model,
            replacing=user_id,
            allow_unknown_model=args.allow_unknown_model,
        )
        # The hook has printed the payload's warnings already.
        echo(f"{prepared.model}: {prepared.describe()}")
        price = describe_price(find_price(hook, prepared))
        if args.yes:
            echo(f"submitting for {price}")
        confirm(args, f"submit it to {hook.connection.base_url} for {price}", is_stdin_free=args.payload != "-")
        # Always sent, so that a submission whose response is lost can be found.
        external_task_id = prepared.params.get("external_task_id") or f"airflow-cli-{uuid.uuid4().hex[:20]}"
        submission = Submission(
            HookClient(hook, prepared),
            NoRecord(),
            external_task_id=external_task_id,
            is_user_id="external_task_id" in prepared.params,
            conn_id=args.conn_id,
            log=hook.log,
        )
        try:
            submitted = submission.submit_or_adopt()
        except KirinUnknownSubmitError as error:
            fail(
                f"Kirin may have accepted, and may bill, a generation with the external task id {external_task_id}. "
                f"Look it up with this program's `status --conn-id {args.conn_id} {external_task_id}`. Submit again "
                f"only if it is not in your account either. Cause: {error.__cause__}"
            )
        except KeyboardInterrupt:
            fail(
                f"interrupted; look up the external task id {external_task_id}: it may be billed."
                if submission.in_flight.external_task_id
                else "interrupted."
            )
        echo(f"{'adopted at no cost' if submitted.adopted else 'submitted'}; external task id {external_task_id}")
        show(submitted.kirin_task.id)
        if args.wait or destination is not None:
            kirin_task = follow(hook, submitted.kirin_task.id, timeout=args.timeout, is_shown=not args.verbose)
            if destination is not None:
                _save(hook, kirin_task, destination)


@command
def status(args: Namespace) -> None:
    """Print the state of a generation.

    :param args: kirin_task_id, conn_id, output
    """
    with open_hook(args) as hook:
        _show_state(args, hook.get_task(args.kirin_task_id))


@command
def wait(args: Namespace) -> None:
    """Wait until a generation has its video, and print its state.

    :param args: kirin_task_id, conn_id, timeout, output
    """
    with open_hook(args) as hook:
        _show_state(args, follow(hook, args.kirin_task_id, timeout=args.timeout, is_shown=not args.verbose))


def _show_state(args: Namespace, kirin_task: KirinTask) -> None:
    if args.output == "json":
        show(json.dumps(kirin_task.to_dict(), indent=2, ensure_ascii=False))
    else:
        show("\n".join(_describe(kirin_task)))


@command
def download(args: Namespace) -> None:
    """Download a finished generation's videos and print the files' URIs.

    :param args: kirin_task_id, destination, conn_id, no_overwrite
    """
    destination = _destination(args.destination, overwrite=not args.no_overwrite)
    with open_hook(args) as hook:
        remedy = f"`wait {args.kirin_task_id}` waits for it."
        kirin_task = fetch_finished(hook, args.kirin_task_id, remedy=remedy, pauses=())
        _save(hook, kirin_task, destination)


def _save(hook: KirinHook, kirin_task: KirinTask, destination: Destination) -> None:
    show("\n".join(file.uri for file in save_videos(hook, kirin_task, destination)))


def _destination(path: str, *, overwrite: bool = True) -> Destination:
    destination = Destination(absolute(path), overwrite=overwrite)
    if not destination.is_file:
        # Without a DAG there is no value for the default template's dag_id and run_id.
        destination = replace(destination, template="{kirin_task_id}-{index}.mp4")
    destination.check()
    return destination


@command
def batch(args: Namespace) -> None:
    """Make a video of each row of a table.

    :param args: table, destination, resume, and what a batch operator takes
    """
    from airflow_provider_kirin.cli.batch import work

    work(args)


@command
def costs(args: Namespace) -> None:
    """Print what generations have cost.

    :param args: dag_id, run_id, from_, to, by, output, ask
    """
    from airflow_provider_kirin.cli.costs import report

    report(args)


def _describe(kirin_task: KirinTask) -> Iterator[str]:
    yield f"id:       {kirin_task.id}"
    yield f"status:   {kirin_task.status}"
    yield f"model:    {kirin_task.model}"
    if kirin_task.progress is not None:
        yield f"progress: {kirin_task.progress:.0%}"
    if kirin_task.is_final:
        cost = billed_cost(kirin_task)
        yield f"cost:     {'unknown' if cost is None else f'{show_usd(cost)} USD'}"
    if kirin_task.error:
        yield f"error:    {kirin_task.error.code} {kirin_task.error.message}"
    if kirin_task.status == "completed":
        yield f"videos:   {len(kirin_task.videos)}"
