"""The DAGs that the fault harness runs; each file in its DAGs folder calls :func:`build` with one specification."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from airflow.sdk import DAG, task

from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor


def build(spec: dict[str, Any]) -> DAG:
    """Return the DAG of a scenario.

    :param spec: ``dag_id``, ``shape``, ``image``, ``videos`` (a folder), ``options`` of the task that submits, and
        whether its payload ``differs`` on each try
    """
    again = {"retries": 6, "retry_delay": timedelta(seconds=1), "kirin_conn_id": spec["dag_id"]}
    options = dict(spec["options"])
    if "execution_timeout" in options:
        options["execution_timeout"] = timedelta(seconds=options["execution_timeout"])
    now = "It is {{ macros.datetime.now() }}. " if spec["differs"] else ""
    payload = {"image": spec["image"], "prompt": f"{now}The cup turns. [[seconds:{{{{ dag_run.conf['seconds'] }}}}]]"}
    destination = f"{spec['videos']}/{{{{ run_id }}}}/"
    with DAG(spec["dag_id"], schedule=None, start_date=datetime(2026, 1, 1), catchup=False) as dag:
        if spec["shape"] == "generate":
            KirinGenerateVideoOperator(
                task_id="generate", payload=payload, destination=destination, poll_interval=0.5, **again, **options
            )
        elif spec["shape"] == "taskflow":

            @task.kirin(task_id="generate", destination=destination, poll_interval=0.5, **again, **options)
            def whim(dag_run: Any = None) -> dict[str, Any]:
                """Want something else on each try."""
                prompt = f"Idea {uuid4()}. [[seconds:{dag_run.conf['seconds']}]]"
                return {"image": spec["image"], "prompt": prompt}

            whim()
        elif spec["shape"] == "steps":
            submit = KirinSubmitOperator(task_id="submit", payload=payload, **again, **options)
            wait = KirinTaskSensor(task_id="wait", kirin_task_id=submit.output, poke_interval=0.5, **again)
            download = KirinDownloadOperator(
                task_id="download", kirin_task_id=submit.output, destination=destination, **again
            )
            wait >> download
        else:
            # What is expanded is not rendered.
            payloads = [{"image": spec["image"], "prompt": f"Cup {number}. [[seconds:1]]"} for number in range(3)]
            submits = KirinSubmitOperator.partial(task_id="submit", **again, **options).expand(payload=payloads)
            KirinTaskSensor(task_id="wait", kirin_task_id=submits.output, poke_interval=0.5, **again)
    return dag
