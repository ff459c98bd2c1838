"""50 callbacks of one generation at the same moment, each with a connection of its own to Airflow's database.

`python -m tests.support.callback_race` prints, as JSON, how many of them ended the task and how many resumed another.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from airflow.sdk import DAG

from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator
from airflow_provider_kirin.plugins import wake
from tests.support.callbacks import Deferred

CALLERS = 50
_DONE = {
    "id": "kirin-1",
    "status": "completed",
    "output": [{"content": [{"type": "video", "url": "https://cdn.example/1.mp4"}]}],
    "usage": {"cost": "0.28"},
}


def race(call: Callable[[], bool]) -> int:
    """Call from 50 threads at the same moment, and return how many were reported to have done it.

    :param call: ends a wait
    """
    barrier = threading.Barrier(CALLERS)

    def wait_and_call() -> bool:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(CALLERS) as callers:
        return [one.result() for one in [callers.submit(wait_and_call) for _ in range(CALLERS)]].count(True)


def main() -> None:
    """Race for two tasks."""
    with DAG("race", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        for task_id in ("ended", "resumed"):
            KirinGenerateVideoOperator(task_id=task_id, payload={"image": "https://h.example/a.png", "prompt": "x"})
    deferred, kirin_task = Deferred(dag), KirinTask.from_response(_DONE)
    now = time.time()
    for task_id in ("ended", "resumed"):
        deferred.defer(task_id, [kirin_task.id], external_task_id=f"own-{task_id}", result_shape="one", started_at=now)
    (ending,) = wake.find(deferred.token("ended", "own-ended")).waits
    (resuming,) = wake.find(deferred.token("resumed", "own-resumed")).waits
    result = ending.trigger.result_of([kirin_task])
    assert result is not None
    counts = {
        "ended": race(lambda: wake.end(ending, kirin_task.id, result)),
        "resumed": race(lambda: wake.resume(resuming, kirin_task.id, [kirin_task])),
    }
    states = {task_id: deferred.ti(task_id).state for task_id in counts}
    returned = deferred.xcoms("ended")["return_value"]["id"]
    print(json.dumps({"counts": counts, "states": states, "returned": returned}))


if __name__ == "__main__":
    main()
