"""Names that an older Airflow or common-compat lacks, and the private names of Airflow that this package relies on.

The constraints files of Airflow up to 3.3.2 pin a common-compat that has none of the first group. Everything here is
cheap to import: what is not is loaded inside a function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

#: common-compat has this one from 1.15 on.
AIRFLOW_V_3_3_PLUS: bool = get_base_airflow_version_tuple() >= (3, 3, 0)

try:
    from airflow.providers.common.compat.sdk import SET_DURING_EXECUTION
except ImportError:  # common-compat before 1.21
    try:
        from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION
    except ImportError:  # Airflow 2.11
        from airflow.utils.types import NOTSET as SET_DURING_EXECUTION  # type: ignore[attr-defined,no-redef]

# A private name of Airflow. The others are at the end of this file.
try:
    from airflow.sdk.bases.decorator import _TaskDecorator as TaskDecoratorBase
except ImportError:  # Airflow 2.11
    from airflow.decorators.base import _TaskDecorator as TaskDecoratorBase  # type: ignore[no-redef,import-not-found]

__all__ = [
    "AIRFLOW_V_3_3_PLUS",
    "SET_DURING_EXECUTION",
    "TaskDecoratorBase",
    "dagbag_module",
    "determine_kwargs",
    "get_async_extra_dejson",
    "has_execute_hook",
    "init_arguments",
    "is_unmapped_copy",
    "supervisor_encoder",
]


def dagbag_module() -> Any:
    """Return the module that parses DAG files."""
    try:
        from airflow.dag_processing import dagbag
    except ImportError:  # Airflow before 3.2
        from airflow.models import dagbag  # type: ignore[no-redef]
    return dagbag


def determine_kwargs(
    function: Callable[..., Any], args: Collection[Any], context: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the keyword arguments that Airflow passes to the function of a decorated task.

    :param function: the function
    :param args: its positional arguments
    :param context: the task's context, with the function's own keyword arguments merged in
    """
    try:
        from airflow.providers.common.compat.sdk import determine_kwargs
    except ImportError:  # common-compat before 1.14.1
        try:
            from airflow.sdk.bases.decorator import determine_kwargs
        except ImportError:  # Airflow before 3.1
            from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]
    return determine_kwargs(function, tuple(args), context)


async def get_async_extra_dejson(connection: Any) -> dict[str, Any]:
    """Return a connection's extra without blocking the event loop, as common-compat 1.21 and later do.

    :param connection: the connection
    """
    if hasattr(connection, "aextra_dejson"):  # Airflow 3.3.2 and later
        extra: dict[str, Any] = await connection.aextra_dejson()
        return extra
    from asgiref.sync import sync_to_async

    # Masking the extra's secrets asks the supervisor, and blocks.
    extra = await sync_to_async(lambda: connection.extra_dejson)()
    return extra


def is_unmapped_copy(operator: Any) -> bool:
    """Return whether an operator was created on a worker for one instance of a mapped task.

    :param operator: the operator
    """
    return bool(getattr(operator, "_BaseOperator__from_mapped", False))


def init_arguments(operator: Any) -> Mapping[str, Any]:
    """Return the arguments that an operator was created with.

    :param operator: the operator
    """
    arguments: Mapping[str, Any] = operator._BaseOperator__init_kwargs
    return arguments


def has_execute_hook(operator: Any, name: Literal["pre_execute", "post_execute"]) -> bool:
    """Return whether the user gave an operator a function that runs before or after ``execute()``.

    :param operator: the operator
    :param name: the operator's argument
    """
    return getattr(operator, f"_{name}_hook") is not None


def supervisor_encoder() -> Any:
    """Return the encoder of messages between a triggerer and its supervisor; None before Airflow 3.1."""
    try:
        from airflow.sdk.execution_time.comms import _new_encoder
    except ImportError:
        return None
    return _new_encoder()
