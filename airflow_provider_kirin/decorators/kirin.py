"""``@task.kirin``: a function returns the payload, and its task returns the video."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import Asset, DecoratedOperator, context_merge

from airflow_provider_kirin.api.idempotency import arguments_fingerprint
from airflow_provider_kirin.compat import SET_DURING_EXECUTION, TaskDecoratorBase, determine_kwargs
from airflow_provider_kirin.exceptions import Problem
from airflow_provider_kirin.operators.generate import KirinGenerateVideoOperator
from airflow_provider_kirin.utils.retry_defaults import add_retry_defaults

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_kirin.operators.specs import SubmitSpec


_ID_FROM_FUNCTION = Problem(
    field="external_task_id",
    value="(not shown)",
    rule="the function may return another one on the next try, which would then pay again",
    remedy='Give it to the decorator, @task.kirin(external_task_id="order-{{ params.order }}")',
)


class KirinDecoratedOperator(DecoratedOperator, KirinGenerateVideoOperator):
    """Call a function for the payload, then do what :class:`.KirinGenerateVideoOperator` does.

    The function is called on every try, before anything is submitted, and may return something else each time. So the
    step is identified by the function's arguments, not by the payload: a later try adopts what an earlier one
    submitted.

    :param python_callable: the function
    :param op_args: its positional arguments (templated)
    :param op_kwargs: its keyword arguments (templated)
    """

    # The function's return value is data: it is neither rendered nor stored, and its images least of all.
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in KirinGenerateVideoOperator.template_fields if name != "payload"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = DecoratedOperator.template_fields_renderers
    custom_operator_name = "@task.kirin"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "payload" in kwargs:
            raise TypeError("@task.kirin does not take a payload: the function returns it.")
        if inspect.iscoroutinefunction(python_callable) or inspect.isgeneratorfunction(python_callable):
            raise TypeError(
                "@task.kirin needs a plain function that returns the payload, not a coroutine or generator."
            )
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            payload=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]
        """Call the function, then submit and wait."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        self.payload = self.python_callable(*self.op_args, **arguments)
        self._hide_images()
        # The rest of DecoratedOperator.execute, which on Airflow 3.0 would fail after the generation has been paid.
        self.inlets.extend(arg for arg in (*self.op_args, *self.op_kwargs.values()) if isinstance(arg, Asset))
        return KirinGenerateVideoOperator.execute(self, context)

    def _submit_spec(self) -> SubmitSpec:
        """Identify the step by the function's arguments, and refuse an id that the function chose."""
        spec = super()._submit_spec()
        problems = list(spec.problems)
        if isinstance(self.payload, Mapping) and self.payload.get("external_task_id") is not None:
            problems.append(_ID_FROM_FUNCTION)
        return replace(
            spec,
            problems=problems,
            arguments_fingerprint=arguments_fingerprint(self.model, self.op_args, self.op_kwargs),
        )


class _KirinTaskDecorator(TaskDecoratorBase[..., Any, KirinDecoratedOperator]):
    """Turns a function into a task; a mapped task gets our retry defaults, as an unmapped one does."""

    def _expand(self, *args: Any, **kwargs: Any) -> Any:
        expanded: Any = super()._expand(*args, **kwargs)
        mapped = expanded.operator
        add_retry_defaults(mapped.partial_kwargs, self.kwargs, mapped.dag, mapped.task_group)
        return expanded


def kirin_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """Turn a function that returns a payload into a task that generates the video: ``@task.kirin``.

    :param python_callable: the decorated function
    :param multiple_outputs: whether each field of the result becomes an XCom of its own too. It is not inferred from
        the function's return annotation, which describes the payload.
    :param kwargs: any argument of :class:`.KirinGenerateVideoOperator` except ``payload``
    """

    def decorate(function: Callable[..., Any]) -> Any:
        return _KirinTaskDecorator(
            function=function,
            operator_class=KirinDecoratedOperator,
            multiple_outputs=multiple_outputs,
            kwargs=kwargs,
        )

    return cast("TaskDecorator", decorate if python_callable is None else decorate(python_callable))
