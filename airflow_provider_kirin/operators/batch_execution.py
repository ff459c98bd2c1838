"""Runtime of the batch operator, imported inside ``execute()``: Airflow's side of a :class:`.BatchRun`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kirin.api.batch.progress import progress
from airflow_provider_kirin.api.batch.report import failure, summary
from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.lineage import Provenance, set_outlet_extras
from airflow_provider_kirin.metrics import report_outcome, report_submission
from airflow_provider_kirin.operators.batch_budget import BatchBudget
from airflow_provider_kirin.operators.batch_client import BATCH, HookBatchClient, Report
from airflow_provider_kirin.operators.batch_run import BatchRun
from airflow_provider_kirin.operators.batch_wait import wait_for_ends
from airflow_provider_kirin.operators.callback import url_maker
from airflow_provider_kirin.operators.destinations import batch_destination
from airflow_provider_kirin.operators.generation_client import connect
from airflow_provider_kirin.operators.run_budget import budget_limit, charges_of_run, kirin_task_ids
from airflow_provider_kirin.state.journal import Journal
from airflow_provider_kirin.state.keys import BATCH_KEY, BATCH_STATE_KEY, BUDGET_KEY
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger, fits_into_arguments
from airflow_provider_kirin.utils import deferral
from airflow_provider_kirin.utils.start_from_trigger import BACKSTOP
from airflow_provider_kirin.utils.task_instance import identity_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kirin.api.payload import FitImages
    from airflow_provider_kirin.api.task import KirinTask
    from airflow_provider_kirin.exceptions import KirinError
    from airflow_provider_kirin.operators.batch_settings import BatchSettings
    from airflow_provider_kirin.operators.specs import CallbackSpec, FilesSpec
    from airflow_provider_kirin.operators.table import Table


@dataclass(frozen=True, kw_only=True, repr=False)
class BatchSpec:
    """What a batch is to do. See :class:`.KirinBatchOperator` for the arguments.

    :param settings: what its engine has to know
    """

    table: Table
    settings: BatchSettings
    files: FilesSpec
    take: Any
    max_cost_usd: Any
    max_failed_rows: float
    fit_images: FitImages
    poll_interval: float | None
    callback: CallbackSpec | None


class OpenBatch:
    """A batch that this process works on.

    :param spec: what it is to do
    :param run: carries it out
    :param hook: polls while the worker itself waits
    :param budget: the budget, if there is one
    :param has_callbacks: whether the gateway is asked to call back
    """

    def __init__(
        self,
        spec: BatchSpec,
        run: BatchRun,
        hook: KirinHook,
        budget: BatchBudget | None,
        *,
        has_callbacks: bool,
    ) -> None:
        self._spec = spec
        self._hook = hook
        self._budget = budget
        self._has_callbacks = has_callbacks
        self.run = run

    def wave(self, event: Any = None) -> bool:
        """Work until there is nothing to do but wait; return whether the batch has ended.

        :param event: the event that began the wave, if one did
        """
        if self._budget is not None:
            self._budget.begin(self.run.rows)
        self.run.wave(Reported.from_event(event))
        return self.run.is_finished

    def deferral(self) -> dict[str, Any]:
        """Return the arguments of the operator's ``defer()``."""
        wait = self.run.wait(hold=deferral.min_deferral())
        in_flight = [[state.kirin_task_id, round(state.since or wait.since)] for state in self.run.rows.having("sent")]
        fits = fits_into_arguments(in_flight)
        return {
            "trigger": KirinBatchTrigger(
                kirin_conn_id=self._spec.settings.conn_id,
                in_flight=in_flight if fits else None,
                folder=None if fits else self.run.journal.folder,
                deferred_at=wait.since,
                known_until=self.run.known_until,
                earliest_event=wait.earliest,
                deadline=wait.deadline,
                has_more=wait.has_more,
                retry_at=wait.retry_at,
                poll_interval=self._spec.poll_interval,
                # The API server, which receives them, does not read the journal.
                awaits_callback=self._has_callbacks and fits,
            ),
            "method_name": "execute_complete",
            # The trigger keeps the time; Airflow's own deadline is a backstop.
            "timeout": timedelta(seconds=max(wait.deadline, wait.earliest) - wait.since + BACKSTOP),
        }

    def wait_here(self) -> None:
        """Wait on the worker until the next wave is worth it."""
        wait_for_ends(self.run, self._hook, timeout=self._spec.settings.timeout, poll_interval=self._spec.poll_interval)

    def provenance(self) -> Provenance:
        """Return what the batch was made from, and what it made, for OpenLineage."""
        return Provenance(
            self.run.journal.head.batch,
            inputs=[self._spec.table.uri] if self._spec.table.uri else [],
            outputs=[self.run.journal.manifest_uri],
        )

    def result(self) -> dict[str, Any]:
        """Return what the task returns.

        :raises KirinBatchError: too many rows have no video
        """
        run = self.run
        error = failure(
            run.rows,
            max_failed_rows=self._spec.max_failed_rows,
            refused_count=self._spec.settings.on_bad_row == "error",
            manifest=run.journal.manifest_uri,
            why=run.why_stopped,
        )
        if error is not None:
            raise error
        return summary(
            run.rows,
            manifest=run.journal.manifest_uri,
            folder=run.journal.folder,
            seconds=time.time() - run.journal.head.started_at,
        )


@contextmanager
def opened(spec: BatchSpec, context: Context, log: Any, *, is_resumed: bool) -> Iterator[OpenBatch]:
    """Take the batch over from the process that worked on it before.

    :param spec: what it is to do
    :param context: the running task's context
    :param log: the operator's logger
    :param is_resumed: whether an earlier run of this try has deferred
    """
    fields: Any = context
    ti, store = fields["ti"], fields.get("task_state_store")
    settings = spec.settings
    # A wave that ended, or an entry in the store, proves that there was a journal.
    has_begun = is_resumed or (store is not None and store.get(BATCH_STATE_KEY) is not None)
    with closing(KirinHook(settings.conn_id)) as hook:
        connect(hook)
        identity = identity_of(ti, conn_id=settings.conn_id, take=spec.take, namespace=hook.connection.namespace)
        name = identity.external_task_id(BATCH)
        destination, folder = batch_destination(spec.files, ti)
        if has_begun:
            # The journal, in the same place, shows whether it is out of reach.
            destination.check_names()
        else:
            destination.check()
        # Threads share the session.
        hook.get_conn()
        budget = _budget(spec, context, hook, name)
        make_callback_url = url_maker(
            spec.callback,
            ti=ti,
            kirin_conn_id=settings.conn_id,
            connection=hook.connection,
            model=settings.model,
            params={},
            log=log,
        )
        run = BatchRun(
            HookBatchClient(
                hook,
                identity,
                destination,
                model=settings.model,
                fit_images=spec.fit_images,
                allow_unknown_model=settings.allow_unknown_model,
                budget=budget,
                make_callback_url=make_callback_url,
                report=_reporter(settings, ti),
            ),
            Journal(folder, owner=secrets.token_hex(4), has_begun=has_begun),
            spec.table,
            settings,
            log=log,
        )
        run.open(batch=name, try_number=ti.try_number, round=ti.max_tries, may_be_lost=has_begun)
        _point_to(run.journal.manifest_uri, store, has_begun=has_begun)
        run.on_report = lambda: _show_progress(run, ti)
        run.on_report()
        yield OpenBatch(spec, run, hook, budget, has_callbacks=make_callback_url is not None)


def _budget(spec: BatchSpec, context: Context, hook: KirinHook, batch: str) -> BatchBudget | None:
    limit = budget_limit(spec.max_cost_usd, spec.files.rendering)
    if limit is None:
        return None
    ti, task_ids = context["ti"], kirin_task_ids(context)
    return BatchBudget(
        limit,
        batch,
        hook,
        push=lambda entries: ti.xcom_push(BUDGET_KEY, entries),
        others=lambda **how: [
            charge for charge in charges_of_run(ti, task_ids, **how) if charge.external_task_id != batch
        ],
    )


def _reporter(settings: BatchSettings, ti: Any) -> Report:
    def report(event: Literal["submitted", "ended"], state: RowState, outcome: KirinTask | KirinError) -> None:
        if event == "submitted":
            report_submission(ti=ti, kirin_conn_id=settings.conn_id, model=settings.model)
            return
        seconds = None if state.since is None else time.time() - state.since
        report_outcome(outcome, ti=ti, kirin_conn_id=settings.conn_id, model=settings.model, seconds=seconds)

    return report


def _point_to(manifest: str, store: Any, *, has_begun: bool) -> None:
    """Record where the manifest is, for ``kirin costs`` and for a try that does not find the journal."""
    if store is not None and not has_begun:
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined,unused-ignore]  # loaded lazily

        store.set(BATCH_STATE_KEY, {"manifest": manifest}, retention=NEVER_EXPIRE)


def _show_progress(run: BatchRun, ti: Any) -> None:
    """Record where the batch stands, for the Kirin pages, and where its manifest is."""
    now = progress(
        run.rows,
        manifest=run.journal.manifest_uri,
        model=run.settings.model,
        places=run.places,
        started_at=run.journal.head.started_at,
        now=time.time(),
    )
    ti.xcom_push(BATCH_KEY, now)


def add_asset_event(context: Context, outlets: Any, result: dict[str, Any], log: Any) -> None:
    """Set the extra of the task's Asset events: the manifest, and what is in it.

    :param context: the running task's context
    :param outlets: the operator's outlets
    :param result: what the task returns
    :param log: the operator's logger
    """
    extra = {"uri": result["manifest"], "rows": result["rows"], "cost": result["cost_usd"]}
    set_outlet_extras(context, outlets, extra, [(result["manifest"], extra)], log)
