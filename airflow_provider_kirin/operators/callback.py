"""The callback URL that a submission carries, or why it carries none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_kirin.api.callback_token import LIFETIME, MAX_TOKEN, CallbackToken, callback_url, signing_key
from airflow_provider_kirin.api.models import find_schema
from airflow_provider_kirin.exceptions import KirinConfigError
from airflow_provider_kirin.utils.task_instance import where_of

if TYPE_CHECKING:
    from airflow_provider_kirin.connection import KirinConnection
    from airflow_provider_kirin.operators.specs import CallbackSpec

#: The payload's parameter.
PARAMETER = "callback_url"

MakeUrl = Callable[[str], str]


def url_maker(
    spec: CallbackSpec | None,
    *,
    ti: Any,
    kirin_conn_id: str,
    connection: KirinConnection,
    model: str,
    params: Mapping[str, Any],
    log: Any,
) -> MakeUrl | None:
    """Return a function that makes the callback URL of an external task id; None if there is to be no callback.

    :param spec: what the task asks for
    :param ti: the task instance that submits
    :param kirin_conn_id: the connection's id
    :param connection: the connection
    :param model: the model
    :param params: the payload's parameters
    :param log: a logger
    :raises KirinConfigError: the task needs a callback and cannot have one
    """
    if spec is None:
        return None

    def make(external_task_id: str) -> str:
        token = CallbackToken(
            **where_of(ti),
            external_task_id=external_task_id,
            kirin_conn_id=kirin_conn_id,
            expires_at=int(time.time()) + LIFETIME,
            asset=spec.asset,
        )
        return callback_url(connection.callback_base_url, token.sign(signing_key(connection.api_key)))

    reason = _why_not(connection, model, params) or (
        "the ids of this task are too long for a URL" if len(make("x" * 64)) > MAX_TOKEN else ""
    )
    if not reason:
        return make
    if spec.asset:
        raise KirinConfigError(
            f"callback_asset needs a callback, and Kirin cannot call back: {reason}. See the page Callbacks. "
            "Nothing was submitted by this try."
        )
    log.info("Kirin will not call back, and the generation is polled: %s.", reason)
    return None


def _why_not(connection: KirinConnection, model: str, params: Mapping[str, Any]) -> str:
    if not AIRFLOW_V_3_1_PLUS:
        return "callbacks need Airflow 3.1"
    if not connection.callback_base_url:
        return "the connection has no extra callback_base_url"
    if PARAMETER in params:
        return "the payload has a callback_url of its own"
    if PARAMETER not in find_schema(model, allow_unknown=True)["properties"]:
        return f"the model {model} has no parameter callback_url"
    return ""
