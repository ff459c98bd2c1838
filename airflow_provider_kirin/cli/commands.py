"""What each command does: a thin shell around the hook that the operators use."""

from __future__ import annotations

import json
import sys
import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_kirin.api.payload import prepare
from airflow_provider_kirin.api.pricing import Estimate, billed_for, estimated, price_key, show_usd
from airflow_provider_kirin.api.record import NoRecord
from airflow_provider_kirin.api.submission import Submission
from airflow_provider_kirin.cli._runner import ConsoleLog, command, fail, say, show
from airflow_provider_kirin.cli.payload_file import read_payload
from airflow_provider_kirin.download.destination import Place, fetch_finished, save_videos
from airflow_provider_kirin.download.storage import open_uri
from airflow_provider_kirin.exceptions import (
    KirinError,
    KirinPayloadError,
    KirinUnknownSubmitError,
)
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.generation_client import HookGateway

if TYPE_CHECKING:
    from airflow_provider_kirin.api.payload import PreparedPayload
    from airflow_provider_kirin.api.task import KirinTask


@command
def validate(args: Namespace) -> None:
    """Check a payload; print what would be sent, or each problem on a line of its own.

    :param args: payload, model
    """
    try:
        ready = prepare(read_payload(args.payload), args.model, open_uri=open_uri)
    except KirinPayloadError as error:
        for problem in error.problems:
            say(str(problem))
        raise SystemExit(1) from None
    for notice in ready.notices:
        say(notice)
    show(f"{ready.model}: {ready.describe()}")


@command
def submit(args: Namespace) -> None:
    """Start a generation and print its id, after a look for one of the same external task id.

    :param args: payload, model, conn_id, external_task_id, yes
    """
    with _hook(args) as hook:
        own_id = {"external_task_id": args.external_task_id} if args.external_task_id else {}
        ready = hook.prepare(read_payload(args.payload), model=args.model, replacing=own_id)
        _confirm(args, hook, ready)
        # Always named, so that a submission whose reply is lost can be found.
        name = ready.params.get("external_task_id") or f"airflow-cli-{uuid.uuid4().hex[:20]}"
        submission = Submission(
            HookGateway(hook, ready),
            NoRecord(),
            external_task_id=name,
            is_own_id="external_task_id" in ready.params,
            conn_id=args.conn_id,
            log=hook.log,
        )
        try:
            submitted = submission.run()
        except KirinUnknownSubmitError as error:
            fail(
                f"Kirin may have accepted, and may bill, a generation with the external task id {name}. Look for it "
                f"with this program's `status --conn-id {args.conn_id} {name}`. Only if it is not in your account "
                f"either, submit again. Cause: {error.__cause__}"
            )
        except KeyboardInterrupt:
            in_flight = submission.in_flight
            fail(f"interrupted; look for external task id {name}: it may be billed." if in_flight else "interrupted.")
    say(f"{'adopted, nothing is paid' if submitted.adopted else 'submitted'}; external task id {name}")
    show(submitted.kirin_task.id)


@command
def status(args: Namespace) -> None:
    """Print what became of a generation.

    :param args: kirin_task_id, conn_id, output
    """
    with _hook(args) as hook:
        kirin_task = hook.get_task(args.kirin_task_id)
    if not kirin_task.external_task_id and kirin_task.id != args.kirin_task_id:
        # The gateway found it by an external task id, which not every response repeats.
        kirin_task = replace(kirin_task, external_task_id=args.kirin_task_id)
    if args.output == "json":
        show(json.dumps(kirin_task.to_dict(), indent=2, ensure_ascii=False))
    else:
        show("\n".join(_describe(kirin_task)))


@command
def download(args: Namespace) -> None:
    """Copy a finished generation's videos and print the files' URIs.

    :param args: kirin_task_id, destination, conn_id, no_overwrite
    """
    place = Place(args.destination, overwrite=not args.no_overwrite)
    if not place.is_file:
        # There is no DAG here to name a folder after.
        place = replace(place, template="{kirin_task_id}-{index}.mp4")
    place.check()
    with _hook(args) as hook:
        kirin_task = fetch_finished(hook, args.kirin_task_id, pauses=())
        show("\n".join(save_videos(hook, kirin_task, place)))


@command
def costs(args: Namespace) -> None:
    """Print what generations have cost.

    :param args: dag_id, run_id, from_, to, by, output, ask
    """
    from airflow_provider_kirin.cli.costs import report

    report(args)


def _hook(args: Namespace) -> closing[KirinHook]:
    """Return the connection's hook. With ``-v`` its log is shown whole, without it the warnings are."""
    return closing((KirinHook if args.verbose else _ConsoleHook)(args.conn_id))


class _ConsoleHook(KirinHook):
    log = ConsoleLog()  # type: ignore[assignment]


def _confirm(args: Namespace, hook: KirinHook, ready: PreparedPayload) -> None:
    estimate = _estimate(hook, ready)
    price = f"about {show_usd(estimate.usd)} USD (says {estimate.source})" if estimate else "an unknown price"
    # What is unusual about the payload, the hook has shown already.
    say(f"{ready.model}: {ready.describe()}")
    if args.yes:
        say(f"submitting for {price}")
        return
    if args.payload == "-" or not sys.stdin.isatty():
        fail("this costs money, and there is nobody to ask: give --yes. Nothing was submitted.")
    print(f"kirin: submit it to {hook.connection.base_url} for {price}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("nothing was submitted.")


def _estimate(hook: KirinHook, ready: PreparedPayload) -> Estimate | None:
    try:
        usd, _ = hook.precharge(ready)
    except KirinError:
        usd = None
    return estimated(usd, hook.connection.prices, price_key(ready.model, ready.params))


def _describe(kirin_task: KirinTask) -> Iterator[str]:
    yield f"id:       {kirin_task.id}"
    yield f"status:   {kirin_task.status}"
    yield f"model:    {kirin_task.model}"
    if kirin_task.progress is not None:
        yield f"progress: {kirin_task.progress:.0%}"
    if kirin_task.is_final:
        cost = billed_for(kirin_task)
        yield f"cost:     {'unknown' if cost is None else f'{show_usd(cost)} USD'}"
    if kirin_task.error:
        yield f"error:    {kirin_task.error.code} {kirin_task.error.message}"
    if kirin_task.status == "completed":
        yield f"videos:   {len(kirin_task.videos)}"
