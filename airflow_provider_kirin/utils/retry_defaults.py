"""Default retries of our operators, unless the DAG or Airflow's configuration sets them.

Retrying is safe by design: each try looks up earlier submissions before it pays. Recovery often depends on a next try,
and Airflow's own default is not to retry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

#: Two: the second helps if the first meets the same fault again, such as a lost worker.
RETRIES = 2
#: Short, since most retries adopt a generation that already exists. For longer outages the operators wait within a
#: try, or :class:`.KirinRetryPolicy` between tries.
RETRY_DELAY = timedelta(seconds=30)

#: Per argument: our default, the ``[core]`` option that overrides it, and Airflow's own default of that option.
_DEFAULTS: dict[str, tuple[Any, str, int]] = {
    "retries": (RETRIES, "default_task_retries", 0),
    "retry_delay": (RETRY_DELAY, "default_task_retry_delay", 300),
}


def retry_defaults(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return our defaults for the arguments that are not set anywhere.

    :param given: arguments and default_args of the task, its groups and its DAG
    """
    return {
        name: default
        for name, (default, option, airflow_default) in _DEFAULTS.items()
        if not any(name in arguments for arguments in given if arguments) and not _is_set(option, airflow_default)
    }


def add_retry_defaults(partial_kwargs: dict[str, Any], arguments: Mapping[str, Any], dag: Any, task_group: Any) -> None:
    """Add our defaults to the arguments of a mapped task.

    :param partial_kwargs: the arguments that all instances share, including Airflow's own defaults
    :param arguments: the arguments in the DAG file
    :param dag: the task's DAG, or None
    :param task_group: the task's group, or None; its default_args include those of the groups around it
    """
    inherited = [getattr(owner, "default_args", None) for owner in (dag, task_group)]
    partial_kwargs.update(retry_defaults(arguments, arguments.get("default_args"), *inherited))


class RetriedByDefault(BaseOperator):
    """An operator with our defaults for ``retries`` and ``retry_delay``, mapped or not."""

    def __init__(self, **kwargs: Any) -> None:
        # Airflow passes the default_args of the DAG, its groups and the task merged into one.
        super().__init__(**retry_defaults(kwargs, kwargs.get("default_args")), **kwargs)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Set the defaults on the mapped task: the scheduler reads them there, not from its instances."""
        partial = super().partial(**kwargs)
        add_retry_defaults(partial.kwargs, kwargs, partial.kwargs["dag"], partial.kwargs["task_group"])
        return partial


def _is_set(option: str, airflow_default: int) -> bool:
    """Return whether the deployment sets an option of ``[core]``.

    Airflow writes its own defaults into each airflow.cfg that it generates, so a default value counts only in the
    environment.
    """
    if f"AIRFLOW__CORE__{option.upper()}" in os.environ:
        return True
    return bool(conf.getint("core", option) != airflow_default)
