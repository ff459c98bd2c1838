"""Starting in the triggerer, which the DAG asks for, and ending there, which is automatic."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, BaseOperator, Param, TaskDeferred, task, task_group

from airflow_provider_kirin.compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("before 3.3 a worker always starts and ends it", allow_module_level=True)

from airflow.serialization.serialized_objects import DagSerialization

PAYLOAD = {"image": "https://example.com/a.jpg", "prompt": "A cup."}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", raising=False)


@pytest.fixture
def dag():
    with DAG("d", schedule=None) as dag:
        yield dag


def sensor(kirin_task_id: Any = "abc", **options: Any) -> KirinTaskSensor:
    return KirinTaskSensor(task_id="wait", kirin_task_id=kirin_task_id, **options)


def ends(task: KirinTaskSensor) -> bool:
    assert task.start_trigger_args is not None
    return bool(task.start_trigger_args.trigger_kwargs["end_from_trigger"])


class TestStartsOnWorkerByDefault:
    def test_for_a_fixed_id(self, dag):
        wait = sensor()
        assert wait.start_from_trigger is False and wait.start_trigger_args is None

    def test_when_mapped(self, dag):
        mapped = KirinTaskSensor.partial(task_id="wait").expand(kirin_task_id=["a", "b"])
        assert mapped.start_from_trigger is False and mapped.start_trigger_args is None

    def test_for_an_operator_of_airflow(self):
        assert BaseOperator.start_from_trigger is False and BaseOperator.start_trigger_args is None


class TestStartFromTriggerTrue:
    @pytest.mark.parametrize(
        "kirin_task_id",
        [
            "abc",
            ["abc", "def"],
            "{{ run_id }}",
            "{{ params.x }}",
            "{{ dag_run.conf['x'] }}-{{ ds | replace('-', '') }}",
            "{% if dag_run.conf.x %}{{ dag_run.run_id | lower }}{% else %}{{ dag_run.run_after }}{% endif %}",
            ["{{ ts }}", "abc"],
            "xcom_pull-is-plain-text-here",
        ],
    )
    def test_hands_fixed_ids_and_templates_to_the_trigger(self, dag, kirin_task_id):
        wait = sensor(kirin_task_id, start_from_trigger=True)
        assert wait.start_from_trigger is True
        assert wait.start_trigger_args.trigger_kwargs["kirin_task_id"] == kirin_task_id

    def test_hands_the_output_of_a_task_over_as_its_task_id_and_key(self, dag):
        submit = KirinSubmitOperator(task_id="submit", payload=PAYLOAD)
        wait = sensor([submit.output, "abc", submit.output["other"]], start_from_trigger=True)
        assert wait.start_from_trigger is True
        assert wait.start_trigger_args.trigger_kwargs["kirin_task_id"] == [
            {"task_id": "submit", "key": "return_value"},
            "abc",
            {"task_id": "submit", "key": "other"},
        ]
        assert wait.upstream_task_ids == {"submit"}

    def test_derives_the_times_from_the_timeout(self, dag):
        arguments = sensor(start_from_trigger=True, timeout=timedelta(minutes=10)).start_trigger_args
        assert arguments.trigger_kwargs["timeout"] == 600
        assert arguments.timeout == timedelta(seconds=600 + arguments.trigger_kwargs["backstop"])

    def test_works_without_a_dag(self):
        assert sensor(start_from_trigger=True).start_from_trigger is True

    def test_works_together_with_end_from_trigger(self, dag):
        wait = sensor(start_from_trigger=True, end_from_trigger=True)
        assert wait.start_from_trigger is True and ends(wait)

    def test_in_default_args_holds_for_sensors_that_are_not_mapped(self):
        with DAG("d", schedule=None, default_args={"start_from_trigger": True}):
            assert sensor().start_from_trigger is True
            mapped = KirinTaskSensor.partial(task_id="mapped").expand(kirin_task_id=["a", "b"])
            generate = KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD)
        assert mapped.start_from_trigger is False and mapped.start_trigger_args is None
        assert generate.start_from_trigger is False

    def test_accepts_params_of_the_dag_and_unchecked_params_of_the_task(self):
        """Airflow checks the DAG's own when a DAG run is created."""
        with DAG("d", schedule=None, params={"x": Param("a", type="string"), "plain": {"b": 1}}):
            assert sensor(start_from_trigger=True, params={"y": 1}).start_from_trigger is True


class TestStartFromTriggerTrueIsRefused:
    @pytest.mark.parametrize(
        "options",
        [
            {"deferrable": False},
            {"on_execute_callback": print},
            {"pre_execute": print},
            {"execution_timeout": timedelta(minutes=1)},
            {"params": {"x": Param("a", type="string")}},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_for_an_argument_that_needs_a_worker(self, dag, options):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"start_from_trigger=True is not possible for task 'wait': .*{name}"):
            sensor(start_from_trigger=True, **options)

    @pytest.mark.parametrize("starts_on_worker", [[["abc"]], 42])
    def test_for_what_is_neither_a_string_nor_a_list_of_strings(self, dag, starts_on_worker):
        with pytest.raises(ValueError, match="its kirin_task_id must be a string"):
            sensor(starts_on_worker, start_from_trigger=True)

    @pytest.mark.parametrize(
        ("template", "name"),
        [
            ("{{ ti.xcom_pull('submit') }}", "xcom_pull"),
            ("{{ task_instance.xcom_pull(task_ids='submit') }}", "xcom_pull"),
            ("{{ prev_data_interval_start_success }}", "prev_data_interval_start_success"),
            ("{{ inlet_events['x'] }}", "inlet_events"),
            ("{{ ti.get_previous_dagrun().run_id }}", "get_previous_dagrun"),
            ("{{ task_state_store.get('x') }}", "task_state_store"),
        ],
    )
    def test_for_a_template_that_hangs_in_the_triggerer(self, dag, template, name):
        with pytest.raises(ValueError, match=f"a template with {name} hangs in the triggerer"):
            sensor(["abc", template], start_from_trigger=True)
        with pytest.raises(ValueError, match=f"a template with {name} hangs in the triggerer"):
            KirinTaskSensor(task_id="b", kirin_task_id="abc", kirin_conn_id=template, start_from_trigger=True)

    def test_for_a_connection_id_from_a_task(self, dag):
        choose = BaseOperator(task_id="choose")
        with pytest.raises(ValueError, match="its kirin_conn_id must be a string"):
            sensor(kirin_conn_id=choose.output, start_from_trigger=True)

    def test_for_the_output_of_a_mapped_task_and_a_transformed_output(self, dag):
        many = KirinSubmitOperator.partial(task_id="many").expand(payload=[PAYLOAD] * 2)
        submit = KirinSubmitOperator(task_id="submit", payload=PAYLOAD)
        for number, output in enumerate([many.output, submit.output.map(str)]):
            with pytest.raises(ValueError, match="the output of one unmapped task"):
                KirinTaskSensor(task_id=f"wait_{number}", kirin_task_id=output, start_from_trigger=True)

    def test_for_a_mapped_sensor(self, dag):
        with pytest.raises(ValueError, match="start_from_trigger=True is not possible for task 'wait': it is mapped"):
            KirinTaskSensor.partial(task_id="wait", start_from_trigger=True)

    def test_for_a_sensor_in_a_mapped_task_group(self, dag):
        @task_group
        def each(kirin_task_id: str) -> None:
            sensor(kirin_task_id, start_from_trigger=True)

        with pytest.raises(ValueError, match="it is in a mapped task group"):
            each.expand(kirin_task_id=["a", "b"])

    def test_when_triggerers_have_queues(self, dag, monkeypatch):
        monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
        with pytest.raises(ValueError, match="queues_enabled"):
            sensor(start_from_trigger=True)

    @pytest.mark.parametrize("method", ["execute", "pre_execute"])
    def test_for_a_subclass_that_overrides_a_method_which_a_worker_calls(self, dag, method):
        mine = type("Mine", (KirinTaskSensor,), {method: lambda self, context: None, "__module__": "mine"})
        with pytest.raises(ValueError, match=method):
            mine(task_id="a", kirin_task_id="abc", start_from_trigger=True)


class TestEndsInTheTriggerer:
    def test_when_nothing_needs_a_worker(self, dag):
        assert sensor()._ends_from_trigger()
        assert KirinGenerateVideoOperator(task_id="a", payload=PAYLOAD)._ends_from_trigger()

    def test_when_started_in_the_triggerer(self, dag):
        assert ends(sensor(start_from_trigger=True))


class TestEndsOnWorker:
    @pytest.mark.parametrize(
        "options",
        [
            {"on_success_callback": print},
            {"on_success_callback": [print]},
            {"outlets": [Asset("x")]},
            {"post_execute": print},
            {"multiple_outputs": True},
            {"end_from_trigger": False},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_for_an_argument_that_needs_a_worker(self, dag, options):
        wait = sensor(start_from_trigger=True, **options)
        assert wait.start_from_trigger is True
        assert not ends(wait)

    def test_for_a_callback_that_is_set_after_the_constructor(self, dag):
        """By a cluster policy, or by a later line of the DAG file."""
        wait = sensor(start_from_trigger=True)
        wait.on_success_callback = [print]
        assert not ends(wait)

    def test_when_another_task_is_mapped_over_the_result(self, dag):
        wait = sensor(["a", "b"])
        KirinSubmitOperator.partial(task_id="s").expand(payload=wait.output)
        assert not wait._ends_from_trigger()

    def test_when_a_plugin_listens(self, dag):
        from airflow.sdk.listener import get_listener_manager

        from tests.support import listener

        manager = get_listener_manager()
        manager.add_listener(listener)
        try:
            assert not sensor()._ends_from_trigger()
            generate = KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD)
            assert not generate._ends_from_trigger()
        finally:
            manager.pm.unregister(listener)
        assert KirinTaskSensor(task_id="again", kirin_task_id="abc")._ends_from_trigger()

    def test_for_a_subclass_that_overrides_execute_complete(self, dag):
        class Mine(KirinTaskSensor):
            def execute_complete(self, context, event):
                return "mine"

        mine = Mine(task_id="a", kirin_task_id="abc", start_from_trigger=True)
        assert mine.start_from_trigger is True and not ends(mine)

    def test_for_a_generate_operator_that_downloads(self, dag):
        assert not KirinGenerateVideoOperator(task_id="b", payload=PAYLOAD, destination="/v")._ends_from_trigger()


class TestEndFromTriggerTrueIsRefused:
    def test_for_an_argument_that_needs_a_worker(self, dag):
        with pytest.raises(ValueError, match=r"end_from_trigger=True .* .wait.: .*success_callback"):
            sensor(deferrable=False, end_from_trigger=True, on_success_callback=print)

    @pytest.mark.parametrize("start_from_trigger", [True, False])
    def test_for_a_sensor_that_a_later_task_is_mapped_over(self, dag, start_from_trigger):
        wait = sensor(start_from_trigger=start_from_trigger, end_from_trigger=True)
        DagSerialization.to_dict(dag)
        KirinSubmitOperator.partial(task_id="s").expand(payload=wait.output)
        with pytest.raises(Exception, match="end_from_trigger=True is not possible for task 'wait': another task"):
            DagSerialization.to_dict(dag)

    def test_for_a_generate_operator_that_a_later_task_is_mapped_over(self, dag):
        generate = KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD, end_from_trigger=True)
        DagSerialization.to_dict(dag)
        assert generate.start_from_trigger is False and KirinGenerateVideoOperator.start_from_trigger is False
        KirinSubmitOperator.partial(task_id="s").expand(payload=generate.output)
        with pytest.raises(Exception, match="end_from_trigger=True is not possible for task 'g': another task"):
            DagSerialization.to_dict(dag)

    def test_with_a_warning_only_if_a_worker_is_the_first_to_know(self, dag, caplog, capfd):
        wait = sensor(end_from_trigger=True)
        wait.on_success_callback = [print]
        with caplog.at_level("WARNING"), pytest.raises(TaskDeferred) as deferred:
            wait.execute({"ti": SimpleNamespace(try_number=1)})
        assert deferred.value.trigger.result_shape is None
        assert "on_success_callback" in caplog.text + "".join(capfd.readouterr())

    def test_for_the_decorator(self, dag):
        @task.kirin(end_from_trigger=True, on_success_callback=print)
        def video():
            return PAYLOAD

        with pytest.raises(ValueError, match="on_success_callback"):
            video()

    def test_for_a_generate_operator_that_downloads(self, dag):
        with pytest.raises(ValueError, match="downloads the video"):
            KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD, destination="/videos", end_from_trigger=True)
