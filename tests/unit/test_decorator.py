"""What of ``@task.kirin`` depends on Airflow's own decorated operators."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, BaseOperator, DecoratedOperator

from airflow_provider_kirin.decorators.kirin import KirinDecoratedOperator
from airflow_provider_kirin.operators.kirin import KirinGenerateVideoOperator

PAID = {"id": "dc26"}


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run an operator whose generation is done at once."""
    monkeypatch.setattr(KirinGenerateVideoOperator, "execute", lambda self, context: PAID)

    def run(*arguments: Any, **named: Any) -> tuple[KirinDecoratedOperator, Any]:
        operator = KirinDecoratedOperator(
            task_id="video",
            python_callable=lambda *_, **__: {"image": "https://h.example/a.png"},
            op_args=arguments,
            op_kwargs=named,
        )
        return operator, operator.execute({})

    return run


def test_nothing_of_airflow_s_comes_after_the_payment(execute: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_in_airflow_3_0(self: Any, context: Any) -> Any:
        return self._handle_output(super(DecoratedOperator, self).execute(context), context, self.xcom_push)

    monkeypatch.setattr(DecoratedOperator, "execute", as_in_airflow_3_0)
    monkeypatch.delattr(BaseOperator, "xcom_push", raising=False)
    assert execute()[1] == PAID


def test_assets_among_the_arguments_are_inlets(execute: Any) -> None:
    first, second = Asset("s3://bucket/first"), Asset("s3://bucket/second")
    operator, _ = execute(first, "text", asset=second)
    assert list(operator.inlets) == [first, second]
