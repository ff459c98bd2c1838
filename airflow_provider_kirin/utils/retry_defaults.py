"""How often Airflow retries our tasks, unless the DAG or Airflow's configuration says otherwise.

Retrying is safe by design: a try looks for what an earlier one submitted before it pays. A promise that rests on the
next try is worth little if there is none, and Airflow's own default is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

#: Two: the second helps when the first meets the fault that it should have repaired, such as a worker lost again.
RETRIES = 2
#: Short, since most retries adopt a generation that exists already. What a gateway needs longer for, the operators
#: wait for within a try, or :class:`.KirinRetryPolicy` does between two.
RETRY_DELAY = timedelta(seconds=30)

#: By argument: our default, the option of ``[core]`` that overrides it, and Airflow's own default of that option.
_DEFAULTS: dict[str, tuple[Any, str, int]] = {
    "retries": (RETRIES, "default_task_retries", 0),
    "retry_delay": (RETRY_DELAY, "default_task_retry_delay", 300),
}


def retry_defaults(*given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return our defaults for what is not given, in any way.

    :param given: arguments and default_args, from the task's own to its DAG's
    """
    return {
        name: default
        for name, (default, option, airflow_default) in _DEFAULTS.items()
        if not any(name in arguments for arguments in given if arguments) and not _is_set(option, airflow_default)
    }


def add_retry_defaults(partial_kwargs: dict[str, Any], arguments: Mapping[str, Any], dag: Any, task_group: Any) -> None:
    """Add our defaults to what Airflow has made of a mapped task's arguments.

    :param partial_kwargs: the arguments that all instances share, with Airflow's own defaults in them already
    :param arguments: as the DAG's author wrote them
    :param dag: the task's DAG, or None
    :param task_group: the task's group, or None: its default_args hold those of the groups around it
    """
    inherited = [getattr(owner, "default_args", None) for owner in (dag, task_group)]
    partial_kwargs.update(retry_defaults(arguments, arguments.get("default_args"), *inherited))


class RetriedByDefault(BaseOperator):
    """An operator with our defaults of ``retries`` and ``retry_delay``, mapped or not."""

    def __init__(self, **kwargs: Any) -> None:
        # Airflow hands the default_args of the DAG, its groups and the task on, merged.
        super().__init__(**retry_defaults(kwargs, kwargs.get("default_args")), **kwargs)

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Set them for the mapped task, as its scheduler reads them there and not from its instances."""
        partial = super().partial(**kwargs)
        add_retry_defaults(partial.kwargs, kwargs, partial.kwargs["dag"], partial.kwargs["task_group"])
        return partial


def _is_set(option: str, airflow_default: int) -> bool:
    """Return whether someone has chosen an option of ``[core]``.

    Airflow writes its own defaults into each airflow.cfg that it generates, so there they say nothing; in the
    environment they do.
    """
    if f"AIRFLOW__CORE__{option.upper()}" in os.environ:
        return True
    return bool(conf.getint("core", option) != airflow_default)
