"""What callbacks have reported of a batch: the worker that they wake polls only what they leave open."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_kirin.api.batch.state import RowState
from airflow_provider_kirin.api.callback_health import KEPT, SAFETY_NET
from airflow_provider_kirin.api.task import KirinTask
from airflow_provider_kirin.exceptions import KirinResponseError

#: Bytes of generations in an event. With the ids of all others it stays under the 64 KB that MySQL stores.
_MAX_BYTES = 30_000


@dataclass(frozen=True)
class Reported:
    """The generations that have ended, as the API server saw them when the gateway called back.

    :param at: until when callbacks are included, in seconds since the epoch; 0 if no callback has begun the wave
    :param ended: Kirin task id -> the generation; None if it has to be polled for its video
    """

    at: float = 0.0
    ended: Mapping[str, KirinTask | None] = field(default_factory=dict)

    def is_current(self, now: float) -> bool:
        """Return whether any other end will be reported too: a callback that comes during a wave is kept for a while.

        :param now: seconds since the epoch, by a clock that may differ a little from the API server's
        """
        return abs(now - self.at) <= KEPT

    def is_due(self, state: RowState, now: float) -> bool:
        """Return whether a row in flight is due: its generation has ended, or its callback does not come.

        :param state: the row
        :param now: seconds since the epoch
        """
        is_overdue = now - (state.since or 0.0) >= SAFETY_NET
        return not self.is_current(now) or is_overdue or state.kirin_task_id in self.ended

    def to_event(self) -> dict[str, Any]:
        """Return the same for a trigger's event, without generations for which there is no room."""
        left, ended = _MAX_BYTES, dict[str, Any]()
        for kirin_task_id, kirin_task in self.ended.items():
            entry = None if kirin_task is None else replace(kirin_task, metadata={}).to_dict()
            left -= len(json.dumps(entry))
            ended[kirin_task_id] = entry if left >= 0 else None
        return {"at": self.at, "ended": ended}

    @classmethod
    def from_event(cls, event: Any) -> Reported:
        """Return what :meth:`to_event` wrote; nothing for any other event.

        :param event: the event that Airflow passes to ``execute_complete``
        """
        fields = event if isinstance(event, Mapping) else {}
        at, ended = fields.get("at"), fields.get("ended")
        if not isinstance(at, float) or not isinstance(ended, Mapping):
            return cls()
        return cls(at, {str(kirin_task_id): _read(kirin_task_id, entry) for kirin_task_id, entry in ended.items()})


def _read(kirin_task_id: Any, entry: Any) -> KirinTask | None:
    try:
        kirin_task = KirinTask.from_dict(entry)
    except KirinResponseError:
        return None
    return kirin_task if kirin_task.is_final and kirin_task.id == kirin_task_id else None
