"""One DAG with every way to wait: each sensor, and each generate operator, waits differently for the same result."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task, task_group

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator, KirinSubmitOperator
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor

#: Known when the DAG is parsed.
KNOWN = "known-when-parsed"
CONN_ID = "waiting"


def _tell(context: Any) -> None:
    """Leave a trace of a callback in the log."""
    print(f"the callback of {context['ti'].task_id} ran")


def build(image: str) -> DAG:
    """Return the DAG.

    :param image: a path
    """
    args = {"kirin_conn_id": CONN_ID}
    with DAG(
        "waiting",
        schedule=None,
        start_date=datetime(2026, 1, 1),
        default_args=args,
        params={"wanted": Param(KNOWN, type="string")},
    ) as dag:
        submit = KirinSubmitOperator(
            task_id="submit",
            external_task_id=KNOWN,
            payload={"image": image, "prompt": "The cup turns. [[seconds:3]]"},
        )
        one = submit.output
        many = KirinSubmitOperator.partial(task_id="submit_many").expand(
            payload=[{"image": image, "prompt": f"Cup {number}. [[seconds:{3 - number}]]"} for number in range(3)]
        )
        broken = KirinSubmitOperator(
            task_id="submit_broken", payload={"image": image, "prompt": "[[fail:8002005098]] [[seconds:1]]"}
        )
        endless = KirinSubmitOperator(
            task_id="submit_endless", payload={"image": image, "prompt": "No end. [[seconds:600]]"}
        )

        def sensor(name: str, kirin_task_id: Any = one, **options: Any) -> Any:
            wait = KirinTaskSensor(task_id=name, kirin_task_id=kirin_task_id, poke_interval=0.5, **options)
            submit >> wait
            return wait

        # No worker at all.
        start: dict[str, Any] = {"start_from_trigger": True}
        sensor("static", KNOWN, **start)
        sensor("static_list", [KNOWN, KNOWN], **start)
        sensor("by_param", "{{ params.wanted }}", **start)
        sensor("by_conf", "{{ dag_run.conf['wanted'] }}", **start)
        sensor("by_variable", "{{ var.value.kirin_wanted }}", **start)
        sensor("by_output", **start)
        sensor("by_outputs", [one, KNOWN], **start)
        sensor("no_xcom", do_xcom_push=False, **start)
        # A worker ends it.
        sensor("callback", on_success_callback=_tell, **start)
        sensor("outlet", outlets=[Asset("kirin_waiting")], **start)
        sensor("ends_on_worker", end_from_trigger=False, **start)
        mapped_over = sensor("mapped_over", [one, KNOWN], **start)
        # A worker starts it.
        sensor("by_pull", "{{ ti.xcom_pull('submit') }}")
        sensor("of_mapped", many.output)
        sensor("starts_on_worker")
        sensor("timed", execution_timeout=timedelta(minutes=5))
        KirinTaskSensor.partial(task_id="mapped", poke_interval=0.5).expand(kirin_task_id=many.output)
        # A worker starts and ends it.
        sensor("ordinary", end_from_trigger=False)
        # What goes wrong needs a worker to say so.
        sensor("failed", broken.output, retries=2, retry_delay=timedelta(seconds=1), **start)
        sensor("skipped", broken.output, soft_fail=True, **start)
        sensor("fast", [endless.output, broken.output], fail_fast=True, timeout=300, **start)
        sensor("late", endless.output, timeout=6, retries=2, retry_delay=timedelta(seconds=1), **start)

        @task
        def length(video: dict[str, Any]) -> float:
            return float(video["videos"][0]["duration"])

        length.expand(video=mapped_over.output)

        @task_group
        def each(kirin_task_id: str) -> None:
            KirinTaskSensor(task_id="in_group", kirin_task_id=kirin_task_id, poke_interval=0.5)

        each.expand(kirin_task_id=many.output)

        payload = {"image": image, "prompt": "The cup turns. [[seconds:3]]"}
        KirinGenerateVideoOperator(task_id="generate", payload=payload, poll_interval=0.5)
        KirinGenerateVideoOperator(
            task_id="generate_download", payload=payload, poll_interval=0.5, destination="{{ dag_run.conf['videos'] }}"
        )
    return dag
