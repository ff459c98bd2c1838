"""Which waits need no worker: each thing that Airflow does on a worker only takes the ordinary way."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, Param, TaskDeferred, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.utils.start_from_trigger import MAX_DAG_TASKS

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("before 3.3 a worker always starts and ends it", allow_module_level=True)

from airflow.serialization.serialized_objects import DagSerialization

PAYLOAD = {"image": "https://example.com/a.jpg", "prompt": "A cup."}


class Colour(str, Enum):  # noqa: UP042 - a StrEnum reads as its value everywhere
    RED = "red"


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


class TestItStartsInTheTriggerer:
    @pytest.mark.parametrize(
        "kirin_task_id",
        [
            "abc",
            ["abc", "def"],
            "{{ run_id }}",
            "{{ params.x }}",
            "{{ dag_run.conf['x'] }}-{{ ds | replace('-', '') }}",
            "{% if dag_run.conf.x %}{{ dag_run.run_id | lower }}{% else %}{{ dag_run.run_after }}{% endif %}",
            "{{ dag_run.dag_id }}/{{ dag_run.logical_date }}/{{ dag_run.data_interval_start.date() }}",
            ["{{ ts }}", "abc"],
        ],
    )
    def test_for_what_is_fixed_or_a_plain_template(self, dag, kirin_task_id):
        wait = sensor(kirin_task_id)
        assert wait.start_from_trigger is True
        assert wait.start_trigger_args.trigger_kwargs["kirin_task_id"] == kirin_task_id

    def test_for_the_output_of_one_task(self, dag):
        submit = KirinSubmitOperator(task_id="submit", payload=PAYLOAD)
        wait = sensor([submit.output, "abc", submit.output["other"]])
        assert wait.start_from_trigger is True
        assert wait.start_trigger_args.trigger_kwargs["kirin_task_id"] == [
            {"task_id": "submit", "key": "return_value"},
            "abc",
            {"task_id": "submit", "key": "other"},
        ]
        assert wait.upstream_task_ids == {"submit"}

    def test_with_times_that_follow_from_the_timeout(self, dag):
        arguments = sensor(timeout=timedelta(minutes=10)).start_trigger_args
        assert arguments.trigger_kwargs["timeout"] == 600
        assert arguments.timeout == timedelta(seconds=600 + arguments.trigger_kwargs["backstop"])

    def test_without_a_dag_around_it(self):
        assert sensor().start_from_trigger is True


class TestItStartsOnAWorker:
    @pytest.mark.parametrize(
        "options",
        [
            {"deferrable": False},
            {"start_from_trigger": False},
            {"on_execute_callback": print},
            {"pre_execute": print},
            {"execution_timeout": timedelta(minutes=1)},
            {"pool": "few"},
            {"max_active_tis_per_dag": 3},
            {"max_active_tis_per_dagrun": 3},
            {"multiple_outputs": True},
            {"kirin_conn_id": "{{ var.value.conn }}"},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_for_an_argument_that_a_worker_heeds(self, dag, options):
        wait = sensor(**options)
        assert wait.start_from_trigger is False
        assert wait.start_trigger_args is None

    @pytest.mark.parametrize(
        "kirin_task_id",
        [
            "{{ ti.xcom_pull('submit') }}",
            "{{ var.value.x }}",
            "{{ my_macro() }}",
            "{% for %}",
            "{{ macros.uuid.uuid4() }}",
            ["abc", "{{ ti.task_id }}"],
            "{{ dag_run }}",
            "{{ dag_run.run_type }}",
            "{{ dag_run.consumed_asset_events[0].extra['id'] }}",
            "{{ dag_run.conf.x }}/{{ dag_run.triggering_user_name }}",
            "{{ dag_run['state'] }}",
            "{{ dag_run | string }}",
            "{{ [dag_run] | map(attribute='state') | first }}",
            "{% set run = dag_run %}{{ run.state }}",
            "{% for name in ['state'] %}{{ dag_run[name] }}{% endfor %}",
            "{{ dag_run.conf.get('x', dag_run) }}",
            "{% include 'id.txt' %}",
            "{{ run_id | no_such_filter }}",
            [["abc"]],
            42,
        ],
    )
    def test_for_what_only_a_worker_can_resolve(self, dag, kirin_task_id):
        assert sensor(kirin_task_id).start_from_trigger is False

    def test_for_a_connection_that_a_task_chooses(self, dag):
        choose = BaseOperator(task_id="choose")
        assert sensor(kirin_conn_id=choose.output).start_from_trigger is False

    def test_where_triggerers_have_queues(self, dag, monkeypatch):
        monkeypatch.setenv("AIRFLOW__TRIGGERER__QUEUES_ENABLED", "True")
        assert sensor().start_from_trigger is False
        with pytest.raises(ValueError, match="queues_enabled"):
            KirinTaskSensor(task_id="insisting", kirin_task_id="abc", start_from_trigger=True)

    @pytest.mark.parametrize("default", [["a", {"b": 1}], ("a",), {"b": 1}, Colour.RED])
    def test_for_params_whose_defaults_the_triggerer_reads_otherwise(self, default):
        with DAG("d", schedule=None, params={"x": default}):
            assert sensor("{{ params.x }}").start_from_trigger is False
            assert KirinTaskSensor(task_id="fixed", kirin_task_id="abc").start_from_trigger is True

    def test_for_params_that_only_a_worker_checks(self):
        """The DAG's own are checked when a DAG run is created."""
        with DAG("d", schedule=None, params={"x": Param("a", type="string"), "plain": {"b": 1}}):
            assert sensor().start_from_trigger is True
            own = KirinTaskSensor(task_id="own", kirin_task_id="abc", params={"x": Param("a", type="string")})
            assert own.start_from_trigger is False
            unchecked = KirinTaskSensor(task_id="plain", kirin_task_id="abc", params={"y": 1})
            assert unchecked.start_from_trigger is True

    def test_for_a_template_in_a_file(self, dag):
        class FromFile(KirinTaskSensor):
            template_ext = (".txt",)

        assert FromFile(task_id="a", kirin_task_id="id.txt").start_from_trigger is False

    def test_for_the_output_of_a_mapped_task_and_what_is_made_of_an_output(self, dag):
        many = KirinSubmitOperator.partial(task_id="many").expand(payload=[PAYLOAD] * 2)
        submit = KirinSubmitOperator(task_id="submit", payload=PAYLOAD)
        assert KirinTaskSensor(task_id="a", kirin_task_id=many.output).start_from_trigger is False
        assert KirinTaskSensor(task_id="b", kirin_task_id=submit.output.map(str)).start_from_trigger is False

    def test_where_it_is_mapped(self, dag):
        mapped = KirinTaskSensor.partial(task_id="wait").expand(kirin_task_id=["a", "b"])
        assert mapped.start_from_trigger is False and mapped.start_trigger_args is None

    def test_where_the_dag_renders_in_its_own_way(self):
        for options in (
            {"render_template_as_native_obj": True},
            {"user_defined_macros": {"run_id": "mine"}},
            {"user_defined_filters": {"replace": str}},
            {"jinja_environment_kwargs": {"variable_start_string": "[["}},
            {"template_undefined": jinja2.Undefined},
        ):
            with DAG("d", schedule=None, **options):
                assert sensor("{{ run_id }}").start_from_trigger is False
            with DAG("d", schedule=None, **options):
                assert sensor("abc").start_from_trigger is True

    def test_where_it_renders_in_its_own_way(self, dag):
        assert sensor("{{ run_id }}", render_template_as_native_obj=True).start_from_trigger is False

    def test_in_a_dag_of_many_tasks_unless_the_user_insists(self, dag):
        wait = sensor()
        insisting = KirinTaskSensor(task_id="insisting", kirin_task_id="abc", start_from_trigger=True)
        for number in range(MAX_DAG_TASKS - 2):
            KirinTaskSensor(task_id=f"wait_{number}", kirin_task_id="abc", start_from_trigger=False)
        assert wait.start_from_trigger is True
        KirinTaskSensor(task_id="one_more", kirin_task_id="abc", start_from_trigger=False)
        assert wait.start_from_trigger is False
        assert insisting.start_from_trigger is True

    def test_where_a_subclass_has_its_own_way(self, dag):
        class Mine(KirinTaskSensor):
            def execute(self, context):
                return super().execute(context)

        assert Mine(task_id="a", kirin_task_id="abc").start_from_trigger is False

    def test_where_a_subclass_has_its_own_end(self, dag):
        """It may push more, which would be there still after another try has failed."""

        class Mine(KirinTaskSensor):
            def execute_complete(self, context, event):
                return "mine"

        mine = Mine(task_id="a", kirin_task_id="abc")
        assert mine.start_from_trigger is False
        assert not mine._ends_from_trigger()


class TestItEndsInTheTriggerer:
    def test_where_nothing_else_is_to_do(self, dag):
        assert ends(sensor())

    @pytest.mark.parametrize(
        "options",
        [
            {"on_success_callback": print},
            {"on_success_callback": [print]},
            {"outlets": ["s3://bucket/x"]},
            {"post_execute": print},
            {"end_from_trigger": False},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_not_where_a_worker_has_something_to_do(self, dag, options):
        from airflow.providers.common.compat.sdk import Asset

        if "outlets" in options:
            options = {"outlets": [Asset("x")]}
        wait = sensor(**options)
        assert wait.start_from_trigger is True
        assert not ends(wait)

    def test_not_where_a_worker_takes_the_result_apart(self, dag):
        assert not sensor(multiple_outputs=True)._ends_from_trigger()

    def test_what_is_set_after_the_constructor_counts(self, dag):
        """A cluster policy, or a line further down in the DAG file."""
        wait = sensor()
        wait.on_success_callback = [print]
        assert not ends(wait)

    def test_not_where_another_task_is_mapped_over_the_result(self, dag):
        wait = sensor(["a", "b"])
        KirinSubmitOperator.partial(task_id="s").expand(payload=wait.output)
        assert not ends(wait)

    def test_not_where_a_plugin_listens(self, dag):
        from airflow.sdk.listener import get_listener_manager

        from tests.unit import a_listener

        manager = get_listener_manager()
        manager.add_listener(a_listener)
        try:
            assert sensor().start_from_trigger is False
            generate = KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD)
            assert not generate._ends_from_trigger()
        finally:
            manager.pm.unregister(a_listener)
        assert KirinTaskSensor(task_id="again", kirin_task_id="abc").start_from_trigger is True


class TestTheUserInsists:
    def test_and_it_can_be_kept(self, dag):
        wait = sensor(start_from_trigger=True, end_from_trigger=True)
        assert wait.start_from_trigger is True and ends(wait)

    def test_and_it_cannot_says_why_when_the_dag_is_parsed(self, dag):
        with pytest.raises(ValueError, match=r"start_from_trigger=True of task 'wait'.*execution_timeout"):
            sensor(start_from_trigger=True, execution_timeout=timedelta(minutes=1))
        with pytest.raises(ValueError, match=r"end_from_trigger=True of task 'other'.*on_success_callback"):
            KirinTaskSensor(
                task_id="other", kirin_task_id="abc", deferrable=False, end_from_trigger=True, on_success_callback=print
            )

    def test_on_what_a_mapped_sensor_cannot_do(self, dag):
        with pytest.raises(ValueError, match="start_from_trigger=True of task 'wait' cannot be kept: it is mapped"):
            KirinTaskSensor.partial(task_id="wait", start_from_trigger=True)

    @pytest.mark.parametrize("starts_on_worker", [True, False])
    def test_and_only_the_whole_dag_shows_that_a_sensor_cannot(self, dag, starts_on_worker):
        wait = sensor("{{ ti.task_id }}" if starts_on_worker else "abc", end_from_trigger=True)
        DagSerialization.to_dict(dag)
        KirinSubmitOperator.partial(task_id="s").expand(payload=wait.output)
        with pytest.raises(Exception, match="end_from_trigger=True of task 'wait' cannot be kept: another task"):
            DagSerialization.to_dict(dag)

    def test_and_only_the_whole_dag_shows_that_a_generate_operator_cannot(self, dag):
        generate = KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD, end_from_trigger=True)
        DagSerialization.to_dict(dag)
        assert generate.start_from_trigger is False and KirinGenerateVideoOperator.start_from_trigger is False
        KirinSubmitOperator.partial(task_id="s").expand(payload=generate.output)
        with pytest.raises(Exception, match="end_from_trigger=True of task 'g' cannot be kept: another task"):
            DagSerialization.to_dict(dag)

    def test_and_what_only_a_worker_knows_fails_no_sensor(self, dag, caplog, capfd):
        wait = sensor(end_from_trigger=True)
        wait.on_success_callback = [print]
        with caplog.at_level("WARNING"), pytest.raises(TaskDeferred) as deferred:
            wait.execute({"ti": SimpleNamespace(try_number=1)})
        assert deferred.value.trigger.result_shape is None
        assert "on_success_callback" in caplog.text + "".join(capfd.readouterr())

    def test_with_the_decorator(self, dag):
        @task.kirin(end_from_trigger=True, on_success_callback=print)
        def video():
            return PAYLOAD

        with pytest.raises(ValueError, match="on_success_callback"):
            video()

    def test_on_a_download_that_a_worker_does(self, dag):
        with pytest.raises(ValueError, match="downloads the video"):
            KirinGenerateVideoOperator(task_id="g", payload=PAYLOAD, destination="/videos", end_from_trigger=True)


def test_the_generate_operator_ends_in_the_triggerer_unless_it_downloads(dag):
    assert KirinGenerateVideoOperator(task_id="a", payload=PAYLOAD)._ends_from_trigger()
    assert not KirinGenerateVideoOperator(task_id="b", payload=PAYLOAD, destination="/videos")._ends_from_trigger()


def test_an_operator_of_airflows_own_has_none_of_it():
    assert BaseOperator.start_from_trigger is False and BaseOperator.start_trigger_args is None
