"""What a DAG would submit, and whose generation a download copies, read from the tasks of a DAG file."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_kirin.cli.purchases import Purchase, purchases_of
from airflow_provider_kirin.operators.batch import KirinBatchOperator
from airflow_provider_kirin.operators.kirin import (
    KirinDownloadOperator,
    KirinGenerateVideoOperator,
    KirinSubmitOperator,
)

IMAGE = "https://images.example/a.jpg"
PAYLOAD = {"image": IMAGE, "prompt": "x"}


@pytest.fixture
def dag() -> DAG:
    return DAG("shop", schedule=None, start_date=datetime(2026, 1, 1))


def purchases(dag: DAG) -> list[Purchase]:
    return list(purchases_of(dag))


def test_mapped_tasks_submit_one_for_each_combination(dag: DAG) -> None:
    with dag:
        KirinGenerateVideoOperator.partial(task_id="product", kirin_conn_id="paid").expand(
            payload=[PAYLOAD, {**PAYLOAD, "mode": "pro"}], take=[1, 2, 3]
        )
        KirinSubmitOperator.partial(task_id="rows").expand_kwargs([{"payload": PAYLOAD, "kirin_conn_id": "b"}] * 2)
    counts = Counter((one.task_id, one.conn_id, (one.payload or {}).get("mode")) for one in purchases(dag))
    assert counts == {("product", "paid", None): 3, ("product", "paid", "pro"): 3, ("rows", "b", None): 2}
    assert all(one.is_counted for one in purchases(dag))


def test_what_only_a_run_knows_is_not_counted_or_not_priced(dag: DAG) -> None:
    with dag:
        first = KirinSubmitOperator(task_id="first", payload={"image": "{{ params.image }}", "prompt": "{{ ds }}"})
        KirinSubmitOperator(task_id="mode", payload={**PAYLOAD, "mode": "{{ params.mode }}"})
        KirinSubmitOperator.partial(task_id="outputs").expand(payload=first.output)
        KirinSubmitOperator.partial(task_id="ids", payload=PAYLOAD).expand(external_task_id=first.output)
        KirinBatchOperator(task_id="table", payloads="{{ params.table }}", destination="/videos")
    found = {one.task_id: (one.is_counted, one.payload is not None) for one in purchases(dag)}
    assert found == {
        "first": (True, True),
        "mode": (True, False),
        "outputs": (False, False),
        "ids": (False, True),
        "table": (False, False),
    }
    (one,) = [one for one in purchases(dag) if one.task_id == "first"]
    assert one.payload is not None and not any("{{" in value for value in one.payload.values())


def test_a_batch_submits_one_for_each_good_row(dag: DAG) -> None:
    rows = [{**PAYLOAD, "sku": "a"}, {**PAYLOAD, "sku": "b"}, {**PAYLOAD, "sku": "b"}, "no row"]
    with dag:
        KirinBatchOperator(task_id="table", payloads=rows, key="sku", destination="/videos")
    assert [one.is_counted for one in purchases(dag)] == [True] * len(purchases(dag)) and 1 <= len(purchases(dag)) <= 2


@pytest.mark.parametrize(("is_mapped", "expected"), [(False, -1), (True, 2)])
def test_a_mapped_download_finds_what_one_task_submitted_for_all(dag: DAG, is_mapped: bool, expected: int) -> None:
    with dag:
        if is_mapped:
            submit = KirinSubmitOperator.partial(task_id="submit").expand(payload=[PAYLOAD] * 3)
        else:
            submit = KirinSubmitOperator(task_id="submit", payload=PAYLOAD)
        download = KirinDownloadOperator(task_id="download", kirin_task_id="id", destination="/videos")
        submit >> download
    assert list(download._submitters(2)) == [("submit", expected)]
