"""Default retries of our tasks, read from the serialized DAG as the scheduler does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, TaskGroup, conf

from airflow_provider_kirin.decorators.kirin import kirin_task
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)
from airflow_provider_kirin.sensors.kirin import KirinTaskSensor
from airflow_provider_kirin.utils.retry_defaults import RETRIES, RETRY_DELAY

try:
    from airflow.serialization.serialized_objects import DagSerialization
except ImportError:  # Airflow before 3.2
    from airflow.serialization.serialized_objects import (  # type: ignore[attr-defined, no-redef]
        SerializedDAG as DagSerialization,
    )

PAYLOAD = {"image": "https://h.example/a.png", "prompt": "x"}
#: By operator: the arguments that it needs, the first of which is what it is mapped over.
OPERATORS: dict[type[BaseOperator], dict[str, Any]] = {
    KirinSubmitOperator: {"payload": PAYLOAD},
    KirinGenerateVideoOperator: {"payload": PAYLOAD},
    KirinDownloadOperator: {"kirin_task_id": "abc", "destination": "/videos"},
    KirinTaskSensor: {"kirin_task_id": "abc"},
    KirinBatchOperator: {"payloads": "/rows.jsonl", "destination": "/videos"},
}
Make = Callable[..., Any]


def ordinary(operator: type[BaseOperator]) -> Make:
    return lambda **options: operator(task_id="it", **OPERATORS[operator], **options)


def mapped(operator: type[BaseOperator]) -> Make:
    (over, value), *fixed = OPERATORS[operator].items()
    return lambda **options: operator.partial(task_id="it", **dict(fixed), **options).expand(**{over: [value, value]})


def decorated(**options: Any) -> Any:
    @kirin_task(task_id="it", **options)
    def payload(number: int) -> dict[str, Any]:
        return PAYLOAD | {"seed": number}

    return payload


WAYS = {
    **{f"{one.__name__}": ordinary(one) for one in OPERATORS},
    **{f"mapped {one.__name__}": mapped(one) for one in OPERATORS},
    "@task.kirin": lambda **options: decorated(**options)(1),
    "mapped @task.kirin": lambda **options: decorated(**options).expand(number=[1, 2]),
    "partly mapped @task.kirin": lambda **options: decorated(**options).partial().expand(number=[1, 2]),
    "mapped @task.kirin by rows": lambda **options: decorated(**options).expand_kwargs([{"number": 1}]),
}
pytestmark = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in ("RETRIES", "RETRY_DELAY"):
        monkeypatch.delenv(f"AIRFLOW__CORE__DEFAULT_TASK_{option}", raising=False)


def scheduled(
    way: str,
    *,
    dag_args: Mapping[str, Any] | None = None,
    group_args: Mapping[str, Any] | None = None,
    outer_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[int, timedelta]:
    """Return the retries and the delay that the scheduler sees."""
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1), default_args=dict(dag_args or {})) as dag:
        if group_args is None:
            WAYS[way](**options)
        else:
            outer = TaskGroup("outer", default_args=dict(outer_args or {}))
            with outer, TaskGroup("inner", default_args=dict(group_args), prefix_group_id=False):
                WAYS[way](**options)
    (task,) = DagSerialization.from_dict(DagSerialization.to_dict(dag)).task_dict.values()
    (authored,) = dag.task_dict.values()
    assert (authored.retries, authored.retry_delay) == (task.retries, task.retry_delay)
    return task.retries, task.retry_delay


def test_two_retries_by_default(way: str) -> None:
    assert scheduled(way) == (RETRIES, RETRY_DELAY) == (2, timedelta(seconds=30))


def test_arguments_of_the_task_override_the_defaults(way: str) -> None:
    assert scheduled(way, retries=0, retry_delay=timedelta(seconds=7)) == (0, timedelta(seconds=7))


def test_one_argument_keeps_the_default_of_the_other(way: str) -> None:
    assert scheduled(way, retries=0) == (0, RETRY_DELAY)
    assert scheduled(way, retry_delay=timedelta(minutes=5)) == (RETRIES, timedelta(minutes=5))


def test_default_args_override_the_defaults(way: str) -> None:
    assert scheduled(way, dag_args={"retries": 0}) == (0, RETRY_DELAY)
    assert scheduled(way, default_args={"retries": 0}) == (0, RETRY_DELAY)
    assert scheduled(way, group_args={"retries": 0}) == (0, RETRY_DELAY)
    assert scheduled(way, group_args={}, outer_args={"retries": 0}) == (0, RETRY_DELAY)


def test_the_environment_overrides_the_defaults(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TASK_RETRIES", "0")
    assert scheduled(way) == (0, RETRY_DELAY)
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY", "300")
    assert scheduled(way) == (0, timedelta(seconds=300))


@pytest.mark.parametrize(("value", "counts"), [("3", True), ("0", False)])
def test_airflow_cfg_overrides_the_defaults_unless_generated(
    way: str, value: str, counts: bool, request: pytest.FixtureRequest
) -> None:
    if not conf.has_section("core"):
        conf.add_section("core")
    request.addfinalizer(lambda: conf.remove_option("core", "default_task_retries", remove_default=False))
    conf.set("core", "default_task_retries", value)
    # Airflow read its own value, 0, when it was imported. What matters is that ours does not replace it.
    assert scheduled(way)[0] == (0 if counts else RETRIES)
