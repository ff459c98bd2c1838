"""End the wait of a deferred task from Airflow's API server. Each function is one short use of the database.

Airflow resumes a deferred task when its trigger fires. Here the row of the task instance is claimed first, by an UPDATE
that only succeeds while the task is still deferred to the same trigger: of any number of callbacks, on any number of
API servers, one ends the wait. In the same transaction the task gets its result, or the event that it resumes with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from airflow.assets.manager import AssetManager
from airflow.models.asset import AssetModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger, handle_event_submit
from airflow.models.xcom import XComModel
from airflow.providers.common.compat.sdk import XCom
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import lazyload

from airflow_provider_kirin.api.batch.reported import Reported
from airflow_provider_kirin.api.callback_token import CallbackToken
from airflow_provider_kirin.api.polling import Outcome
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.lineage import Provenance
from airflow_provider_kirin.metrics import report_outcome
from airflow_provider_kirin.state.keys import BATCH_KEY, CALLBACK_KEY, SUBMISSION_KEY, USAGE_KEY
from airflow_provider_kirin.state.usage import usage_entries
from airflow_provider_kirin.triggers.batch import KirinBatchTrigger
from airflow_provider_kirin.triggers.encoding import make_event
from airflow_provider_kirin.triggers.kirin import KirinTaskTrigger, TaskResult
from airflow_provider_kirin.utils.task_instance import where_of

log = logging.getLogger(__name__)

_TRIGGERS = {f"{each.__module__}.{each.__qualname__}": each for each in (KirinTaskTrigger, KirinBatchTrigger)}
Trigger_co = TypeVar("Trigger_co", KirinTaskTrigger, KirinBatchTrigger, covariant=True)


@dataclass(frozen=True)
class TaskInstanceKey:
    """A task instance, without its try."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Wait(Generic[Trigger_co]):
    """A task instance that is deferred until its generations have ended, or enough of them.

    :param ti_id: the primary key of the task instance
    :param trigger_id: the primary key of its trigger
    :param trigger: the trigger, for what it was asked to do
    """

    key: TaskInstanceKey
    ti_id: Any
    trigger_id: int
    trigger: Trigger_co


@dataclass(frozen=True)
class Found:
    """What a callback is about.

    :param kirin_task_id: the generation; None if Airflow does not know it (yet)
    :param waits: the task instances that wait for it
    :param submission: the record of the submission, for an asset's event that has not been emitted yet
    :param batch: the batch that waits for it among others
    :param may_defer: whether the task that submitted it runs, and may wait for it later
    :param in_wave: whether a worker works on the batch that submitted it, or is about to
    """

    kirin_task_id: str | None
    waits: Sequence[Wait[KirinTaskTrigger]] = ()
    submission: Mapping[str, Any] | None = None
    batch: Wait[KirinBatchTrigger] | None = None
    may_defer: bool = False
    in_wave: bool = False


def find(token: CallbackToken) -> Found:
    """Return what waits for the generation of a token.

    Only what names the connection that signed the token counts: another account's key says nothing about it.

    :param token: a genuine one
    """
    submitter = TaskInstanceKey(token.dag_id, token.run_id, token.task_id, token.map_index)
    deferred, batches, next_method = _waits_of(submitter)
    if own_batches := [batch for batch in batches if batch.key == submitter]:
        (batch,) = own_batches
        return Found(None, batch=batch if batch.trigger.kirin_conn_id == token.kirin_conn_id else None)
    waits = [wait for wait in deferred if wait.trigger.kirin_conn_id == token.kirin_conn_id]
    if any(wait.key == submitter for wait in deferred):
        # It may have submitted another generation since: a token is good for its own one only.
        own = [wait for wait in waits if wait.key == submitter]
        matching = [wait for wait in own if wait.trigger.external_task_id == token.external_task_id]
        return Found(matching[0].trigger.kirin_task_ids[0] if matching else None, matching)
    if next_method is not None and _has_xcom(submitter, BATCH_KEY):
        return Found(None, in_wave=True)
    # A task that resumes after its wait keeps the method's name while it runs. Only a batch waits again.
    may_defer = next_method not in (None, "execute_complete")
    submission = _read_xcom(submitter, SUBMISSION_KEY)
    signed = {"external_task_id": token.external_task_id, "kirin_conn_id": token.kirin_conn_id}
    if not isinstance(submission, Mapping) or any(submission.get(name) != value for name, value in signed.items()):
        return Found(None, may_defer=may_defer)
    kirin_task_id = submission.get("kirin_task_id")
    if not isinstance(kirin_task_id, str):
        return Found(None, may_defer=may_defer)
    ids = {kirin_task_id, token.external_task_id}
    waits = [wait for wait in waits if ids.intersection(wait.trigger.kirin_task_ids)]
    is_asset_due = token.asset is not None and not _has_xcom(submitter, CALLBACK_KEY)
    return Found(kirin_task_id, waits, submission if is_asset_due else None, may_defer=may_defer)


def end(wait: Wait[KirinTaskTrigger], kirin_task_id: str, result: TaskResult) -> bool:
    """End a task with its result, as its trigger would, and return whether it was still waiting.

    :param wait: whose trigger may end it
    :param kirin_task_id: the generation that called back
    :param result: what :meth:`.KirinTaskTrigger.result_of` returned
    """
    from airflow.triggers.base import TaskSuccessEvent

    values = {USAGE_KEY: usage_entries(result.generations), CALLBACK_KEY: _mark(kirin_task_id, wait)}
    if wait.trigger.do_xcom_push:
        values[XCom.XCOM_RETURN_KEY] = result.value
    if not _fire(wait, TaskSuccessEvent(), values):
        return False
    for kirin_task in result.generations:
        seconds = datetime.now(UTC).timestamp() - wait.trigger.started_at
        report_outcome(kirin_task, ti=wait.key, kirin_conn_id=wait.trigger.kirin_conn_id, seconds=seconds)
    return True


def resume(wait: Wait[KirinTaskTrigger], kirin_task_id: str, outcomes: Sequence[Outcome]) -> bool:
    """Resume a task on a worker, as its trigger's event would, and return whether it was still waiting.

    :param wait: whose event need not be held back any longer
    :param kirin_task_id: the generation that called back
    :param outcomes: how each wait ended, in the order of the trigger's ids
    """
    event = TriggerEvent(dict(make_event(outcomes).payload))
    return _fire(wait, event, {CALLBACK_KEY: _mark(kirin_task_id, wait)})


def begin_wave(wait: Wait[KirinBatchTrigger], kirin_task_id: str, reported: Reported) -> bool:
    """Begin the next wave of a batch, as its trigger's event would, and return whether it was still waiting.

    :param wait: whose event need not be held back any longer
    :param kirin_task_id: the generation that called back
    :param reported: which generations have ended
    """
    return _fire(wait, wait.trigger.event(len(reported.ended), reported), {CALLBACK_KEY: _mark(kirin_task_id, wait)})


def emit_asset_event(token: CallbackToken, kirin_task: KirinTask, submission: Mapping[str, Any]) -> bool:
    """Emit the event of the token's asset, and return whether this call did.

    :param token: names the asset
    :param kirin_task: the generation, with its video
    :param submission: its record
    """
    submitter = TaskInstanceKey(token.dag_id, token.run_id, token.task_id, token.map_index)
    extra = Provenance.of(kirin_task, (), submission).as_event_extra()
    mark = _serialize(submitter, CALLBACK_KEY, _mark(kirin_task.id))
    name, uri = token.asset or ("", "")
    with suppress(IntegrityError), create_session(scoped=False) as session:
        ti = session.scalar(select(TaskInstance).filter_by(**where_of(submitter)))
        asset = session.scalar(select(AssetModel).filter_by(name=name, uri=uri))
        if ti is None or asset is None:
            log.warning("There is no event for the asset %s: no DAG of this Airflow knows it.", name)
            return False
        # Its primary key lets one of several callbacks through.
        session.add(_xcom(ti, CALLBACK_KEY, mark))
        session.flush()
        AssetManager.register_asset_change(task_instance=ti, asset=asset, extra=extra, session=session)
        return True
    return False


def _waits_of(
    submitter: TaskInstanceKey,
) -> tuple[list[Wait[KirinTaskTrigger]], list[Wait[KirinBatchTrigger]], str | None]:
    """Return the Kirin waits of a DAG run that can be for a generation of this task instance, and its batches.

    A mapped task that waits for it has the same map index, unless it is mapped over something else. The last value is
    the method that the task which submitted it runs, or resumes with. One query for all: no deferral is in between.
    """
    is_resuming = and_(
        TaskInstance.state.in_({TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED}),
        TaskInstance.next_method.is_not(None),
    )
    submitter_runs = and_(
        TaskInstance.task_id == submitter.task_id,
        TaskInstance.map_index == submitter.map_index,
        or_(TaskInstance.state == TaskInstanceState.RUNNING, is_resuming),
    )
    query = (
        select(
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.id,
            TaskInstance.next_method,
            TaskInstance.state,
            Trigger,
        )
        .outerjoin(Trigger, TaskInstance.trigger_id == Trigger.id)
        .where(
            TaskInstance.dag_id == submitter.dag_id,
            TaskInstance.run_id == submitter.run_id,
            TaskInstance.map_index.in_({submitter.map_index, -1}),
            or_(
                submitter_runs,
                and_(TaskInstance.state == TaskInstanceState.DEFERRED, Trigger.classpath.in_(_TRIGGERS)),
            ),
        )
        .options(lazyload("*"))
    )
    waits: list[Wait[Any]] = []
    running: str | None = None
    with create_session(scoped=False) as session:
        for task_id, map_index, ti_id, next_method, state, row in session.execute(query):
            if state != TaskInstanceState.DEFERRED:
                running = next_method or "execute"
                continue
            key = TaskInstanceKey(submitter.dag_id, submitter.run_id, task_id, map_index)
            waits.append(Wait(key, ti_id, row.id, _TRIGGERS[row.classpath](**row.kwargs)))
    batches = [wait for wait in waits if isinstance(wait.trigger, KirinBatchTrigger)]
    return [wait for wait in waits if isinstance(wait.trigger, KirinTaskTrigger)], batches, running


def _fire(wait: Wait[Any], event: TriggerEvent, values: Mapping[str, Any]) -> bool:
    """Claim a task instance, and give it XComs and an event, all or nothing."""
    # An XCom backend may have to write elsewhere, so this comes before the transaction.
    stored = {key: _serialize(wait.key, key, value) for key, value in values.items()}
    claim = (
        update(TaskInstance)
        .where(
            TaskInstance.id == wait.ti_id,
            TaskInstance.state == TaskInstanceState.DEFERRED,
            TaskInstance.trigger_id == wait.trigger_id,
        )
        .values(trigger_id=None)
        .execution_options(synchronize_session=False)
    )
    with create_session(scoped=False) as session:
        claimed: Any = session.execute(claim)
        if claimed.rowcount != 1:
            return False
        ti = session.scalars(select(TaskInstance).where(TaskInstance.id == wait.ti_id)).one()
        for key, value in stored.items():
            xcom = _xcom(ti, key, value)
            session.execute(
                delete(XComModel).filter_by(
                    dag_run_id=xcom.dag_run_id, task_id=xcom.task_id, map_index=xcom.map_index, key=key
                )
            )
            session.add(xcom)
        # Not a public function; but Trigger.submit_event finds the task instance by its trigger, which is claimed.
        handle_event_submit(event, task_instance=ti, session=session)
    return True


def _mark(kirin_task_id: str, wait: Wait[Any] | None = None) -> dict[str, Any]:
    at = {"kirin_task_id": kirin_task_id, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    return at if wait is None else {**at, "started_at": wait.trigger.started_at}


def _serialize(key: TaskInstanceKey, name: str, value: Any) -> Any:
    """Return a value as the deployment's XCom backend stores it."""
    return XCom.serialize_value(value, key=name, **where_of(key))


def _xcom(ti: TaskInstance, key: str, value: Any) -> XComModel:
    """Return a row; the model's own ``set`` encodes the value once more before Airflow 3.2."""
    return XComModel(dag_run_id=ti.dag_run.id, key=key, value=value, **where_of(ti))


def _has_xcom(of: TaskInstanceKey, key: str) -> bool:
    query = select(XComModel.key).filter_by(key=key, **where_of(of))
    with create_session(scoped=False) as session:
        return session.scalar(query) is not None


def _read_xcom(of: TaskInstanceKey, key: str) -> Any:
    """Return an XCom, read through the deployment's XCom backend; None if there is none, or it cannot be read."""
    query = select(XComModel).filter_by(key=key, **where_of(of))
    with create_session(scoped=False) as session:
        row = session.scalar(query)
    try:
        # After the session is closed: the backend may have to fetch the value from elsewhere.
        return None if row is None else XCom.deserialize_value(row)
    except Exception:
        log.warning("The XCom %s of %s cannot be read.", key, of, exc_info=True)
        return None
