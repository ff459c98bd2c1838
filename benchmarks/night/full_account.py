"""The ways to get a table of videos from an account that runs a few generations at once: one mapped task each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_provider_kirin.operators.specs import SubmitSpec

#: Seconds. Nothing waits that long here.
_LONG = 7200
#: A pool with as many slots as the account has places, which counts deferred tasks.
POOL = "kirin_places"


class _WaitsOnWorker(KirinGenerateVideoOperator):
    """Waits for a place on a worker, and for the video in the triggerer."""

    def _submit_spec(self) -> SubmitSpec:
        return replace(super()._submit_spec(), waiting=None)


@dataclass(frozen=True)
class Way:
    """One way to wait for a place.

    :param title: what the table calls it
    :param operator: the class; None for a task that does nothing
    :param options: more of its arguments
    """

    title: str
    operator: type[KirinGenerateVideoOperator] | None
    options: dict[str, Any]


WAYS = {
    "deferred": Way("wait for a place in the triggerer", KirinGenerateVideoOperator, {}),
    "pool": Way("a pool of as many slots, deferred tasks included", KirinGenerateVideoOperator, {"pool": POOL}),
    "worker": Way("wait for a place on a worker", _WaitsOnWorker, {}),
    "empty": Way("an empty task each: what starting a worker costs", None, {}),
}


def build(way: str, count: int, image: str) -> DAG:
    """Return the DAG of a way.

    :param way: key of :data:`WAYS`, and the DAG's name
    :param count: how many rows
    :param image: the file
    """
    from airflow.sdk import DAG, task

    operator = WAYS[way].operator
    with DAG(way, schedule=None, catchup=False, max_active_tasks=count) as dag:
        if operator is None:
            task(_do_nothing).expand(number=list(range(count)))
        else:
            operator.partial(
                task_id="generate", timeout=_LONG, retry_delay=timedelta(seconds=5), **WAYS[way].options
            ).expand(payload=[{"image": image, "prompt": f"Cup {number}."} for number in range(count)])
    return dag


def _do_nothing(number: int) -> int:
    return number
