"""What all triggers share: how they are stored, and for how long their event is held back."""

from __future__ import annotations

import time
from inspect import signature
from typing import Any

from airflow.triggers.base import BaseTrigger


class KirinTrigger(BaseTrigger):
    """A trigger whose attributes are named like its arguments."""

    #: When a worker may resume the task, in seconds since the epoch: see :class:`.KirinTaskTrigger`.
    earliest_event: float = 0.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which any triggerer can recreate this trigger."""
        own = type(self)
        return f"{own.__module__}.{own.__qualname__}", {name: getattr(self, name) for name in signature(own).parameters}

    def seconds_to_hold(self, *, deferred_at: float) -> float:
        """Return the seconds for which the event must be held back.

        :param deferred_at: when the worker deferred, by its clock
        """
        # dag.test() runs a trigger without a task instance, and without a scheduler.
        return 0.0 if self.task_instance is None else self.remaining_hold(deferred_at=deferred_at)

    def remaining_hold(self, *, deferred_at: float) -> float:
        """Return the same for an event from the API server, where no trigger has a task instance.

        :param deferred_at: when the worker deferred, by its clock
        """
        # Clocks may differ: if this one is behind the worker's, hold the event only as long as if they agreed.
        return max(min(self.earliest_event - time.time(), self.earliest_event - deferred_at), 0.0)
