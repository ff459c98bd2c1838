"""What importing costs a DAG file, beyond what Airflow loads for any DAG: milliseconds of CPU, and modules."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass

#: What each DAG file loads anyway.
_ANYWAY = "from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, dag, task"
_OPERATOR = """
from airflow_provider_kirin.operators.kirin import KirinSubmitOperator
with DAG("d", schedule=None):
    BaseOperator(task_id="warm")
    old = len(sys.modules); began = time.process_time()
    KirinSubmitOperator(task_id="t", payload={"image": "https://example.com/teapot.png", "prompt": "x"})
"""

#: What a DAG file does, by what the tables call it.
CODE = {
    "Kirin: operators and sensor": (
        "import airflow_provider_kirin.operators.kirin; import airflow_provider_kirin.sensors.kirin"
    ),
    "Kirin: first operator, payload checked": _OPERATOR,
    "openai: operators": "import airflow.providers.openai.operators.openai",
    "http: sensor": "import airflow.providers.http.sensors.http",
}


@dataclass(frozen=True)
class Importing:
    """What a DAG file pays.

    :param milliseconds: of CPU
    :param modules: how many were loaded
    """

    milliseconds: float
    modules: int


def measured(code: str, *, repeats: int) -> Importing:
    """Run code in fresh interpreters that have loaded Airflow; return medians.

    :param code: what to run
    :param repeats: how often; the first run, which may compile, does not count
    """
    script = (
        f"import json, sys, time\n{_ANYWAY}\nold = len(sys.modules); began = time.process_time()\n{code}\n"
        "print(json.dumps([1000 * (time.process_time() - began), len(sys.modules) - old]))"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    runs = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for _ in range(repeats + 1)
    ][1:]
    return Importing(statistics.median(run[0] for run in runs), runs[0][1])
