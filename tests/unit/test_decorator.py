"""What of ``@task.kirin`` depends on Airflow's own decorated operators."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from airflow_provider_kirin.decorators.kirin import KirinDecoratedOperator


def test_assets_among_the_arguments_are_inlets() -> None:
    def payload(*_: Any, **__: Any) -> dict[str, Any]:
        return {"image": "https://h.example/a.png"}

    first, second = Asset("s3://bucket/first"), Asset("s3://bucket/second")
    operator = KirinDecoratedOperator(
        task_id="video", python_callable=payload, op_args=[first, "text"], op_kwargs={"asset": second}
    )
    # They are known before anything is submitted, which needs a task instance.
    with pytest.raises(ValueError, match="the task instance, is missing"):
        operator.execute({})
    assert list(operator.inlets) == [first, second]
