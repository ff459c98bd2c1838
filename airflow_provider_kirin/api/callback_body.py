"""What the body of a callback is good for: it is not signed, so it can only save a lookup at the gateway."""

from __future__ import annotations

import json

from airflow_provider_kirin.api.task_fields import STATUSES, unwrap
from airflow_provider_kirin.exceptions import KirinResponseError


def reports_progress(body: bytes) -> bool:
    """Return whether a callback reports a generation in progress, so that there is nothing to look up yet.

    The shape of the body is not documented: the gateway's own task object, and Kling's callback, are known. Anything
    else is worth a lookup.

    :param body: the callback's body
    """
    try:
        fields = unwrap(json.loads(body))
    except (ValueError, RecursionError, KirinResponseError):
        return False
    status = fields.get("status", fields.get("task_status"))
    return isinstance(status, str) and STATUSES.get(status.strip().lower()) == "in_progress"
