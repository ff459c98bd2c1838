"""A sensor that the scheduler hands to the triggerer finds there what it would find on a worker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("before 3.3 a worker always starts it", allow_module_level=True)

import jinja2
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.supervisor import set_supervisor_comms
from airflow.utils.session import create_session
from sqlalchemy import select

from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.state.keys import USAGE_KEY
from airflow_provider_kirin.triggers.events import load_event
from tests.support.triggerer import Comms, start, write_dag

pytestmark = pytest.mark.usefixtures("airflow_db")


@pytest.fixture
def comms() -> Iterator[None]:
    with set_supervisor_comms(Comms()):
        yield


async def fired(trigger: Any) -> Any:
    (event,) = [event async for event in trigger.run()]
    return event.payload


class TestATemplate:
    PLAIN = (
        "{{ run_id }}/{{ ds }}/{{ ds_nodash }}/{{ ts }}/{{ ts_nodash }}/{{ ts_nodash_with_tz }}",
        "{{ logical_date }}/{{ data_interval_start }}/{{ data_interval_end }}/{{ logical_date.timezone_name }}",
        "{{ logical_date.add(days=1).format('zz') }}/{{ logical_date.in_timezone('Europe/Berlin') }}",
        "{{ params.text }}/{{ params.number }}/{{ params.decimal }}/{{ params.none }}/{{ params.own }}",
        "{{ params }}/{{ params.new }}",
        "{{ dag_run.conf }}/{{ dag_run.conf['nested'] }}/{{ dag_run.conf.number }}",
        "{{ dag_run.run_id }}/{{ dag_run.dag_id }}/{{ dag_run.logical_date }}/{{ dag_run.run_after.isoformat() }}",
        "{{ dag_run.data_interval_start }}/{{ dag_run.data_interval_end.strftime('%Y%m%d %Z') }}",
    )

    def test_a_plain_template_renders_as_on_a_worker(self, dag):
        dag.params.update({"text": Param("a b", type="string"), "number": 1, "decimal": 1.0, "none": None})
        with dag:
            wait = KirinTaskSensor(
                task_id="wait", kirin_task_id=list(self.PLAIN), params={"own": True}, start_from_trigger=True
            )
        assert wait.start_from_trigger is True
        run = start(dag, conf={"number": 2, "new": "conf's", "nested": {"z": [1, None], "a": 0.5}})
        trigger, context = run.trigger()
        trigger.render_template_fields(context)
        wait.render_template_fields(run.worker_context())
        assert trigger.kirin_task_id == wait.kirin_task_id
        assert not any("{{" in one for one in trigger.kirin_task_id)

    @pytest.mark.parametrize("missing", ["dag_run.conf.order", "params.order"])
    def test_of_something_missing_fails_the_try_as_on_a_worker(self, dag, missing):
        with dag:
            template = f"order-{{{{ {missing} }}}}"
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=template, start_from_trigger=True)
        run = start(dag, conf={"else": 1})
        trigger, context = run.trigger()
        with pytest.raises(jinja2.UndefinedError):
            trigger.render_template_fields(context)
        with pytest.raises(jinja2.UndefinedError):
            wait.render_template_fields(run.worker_context())


class TestADagThatChangedMeanwhile:
    def changed(self, dag: DAG, **options: Any) -> KirinTaskSensor:
        """Store the DAG again, with a sensor that a worker starts."""
        with DAG(dag.dag_id, schedule=None, start_date=dag.start_date) as new:
            wait = KirinTaskSensor(task_id="wait", **options)
        assert wait.start_from_trigger is False
        write_dag(new)
        return wait

    @pytest.mark.usefixtures("comms")
    async def test_leaves_the_template_to_a_worker_which_waits_for_the_time_that_is_left(self, dag, submit, emulator):
        submit(external_task_id="order-manual__1")
        options = {"kirin_task_id": "order-{{ run_id }}", "timeout": 600, "poke_interval": 0.1}
        with dag:
            KirinTaskSensor(task_id="wait", start_from_trigger=True, **options)
        run = start(dag)
        wait = self.changed(dag, **options)
        trigger, context = run.trigger()
        assert context is None
        # It has waited for some time already.
        trigger.timeout_after -= timedelta(seconds=60)
        end = trigger.timeout_after.timestamp()
        payload = await fired(trigger)
        assert not emulator.requests("GET", "/task/"), "the gateway is not asked for a template"

        context = run.worker_context()
        wait.render_template_fields(context)
        with pytest.raises(TaskDeferred) as deferred:
            wait.execute_complete(context, payload)
        again = deferred.value.trigger
        assert again.kirin_task_ids == ["order-manual__1"]
        assert again.deadline == pytest.approx(end - trigger.backstop)
        (kirin_task,) = load_event(await fired(again), expected=1)
        assert kirin_task.status == "completed"

    @pytest.mark.usefixtures("comms")
    async def test_makes_no_difference_to_what_has_no_template(self, dag, submit):
        options = {"kirin_task_id": submit(), "poke_interval": 0.1, "end_from_trigger": False}
        with dag:
            KirinTaskSensor(task_id="wait", start_from_trigger=True, **options)
        run = start(dag)
        self.changed(dag, **options)
        trigger, _ = run.trigger()
        (kirin_task,) = load_event(await fired(trigger), expected=1)
        assert kirin_task.status == "completed"


class TestWhatAnEarlierRoundLeft:
    @staticmethod
    def stored(dag_id: str) -> set[str]:
        with create_session() as session:
            return set(session.scalars(select(XComModel.key).filter_by(dag_id=dag_id)))

    @pytest.mark.usefixtures("comms")
    @pytest.mark.parametrize("try_number", [1, 2])
    async def test_is_cleared_before_another_try_waits(self, dag, submit, try_number):
        with dag:
            kirin_task_id = submit(prompt="[[fail:8002005098]]")
            KirinTaskSensor(task_id="wait", kirin_task_id=kirin_task_id, poke_interval=0.1, start_from_trigger=True)
        run = start(dag)
        with create_session() as session:
            for key in ("return_value", USAGE_KEY, "else"):
                XComModel.set(
                    key=key, value="old", dag_id=dag.dag_id, task_id="wait", run_id=run.ti.run_id, session=session
                )
            session.get(TaskInstance, run.ti.id).try_number = try_number
        trigger, _ = run.trigger()
        (failed,) = load_event(await fired(trigger), expected=1)
        assert "8002005098" in str(failed)
        cleared = set() if try_number == 1 else {"return_value", USAGE_KEY}
        assert self.stored(dag.dag_id) == {"return_value", USAGE_KEY, "else"} - cleared
