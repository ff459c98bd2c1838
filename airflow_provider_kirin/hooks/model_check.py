"""Compare a gateway's description of a model with this provider's schema, to find out where that is out of date."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_kirin.api.contracts import (
    Difference,
    description_requests,
    differences,
    models_host,
    read_description,
)
from airflow_provider_kirin.api.models import load_schema
from airflow_provider_kirin.api.redaction import redact_url
from airflow_provider_kirin.exceptions import KirinNotFoundError
from airflow_provider_kirin.hooks.transport import call_sync

if TYPE_CHECKING:
    from airflow_provider_kirin.hooks.kirin import KirinHook


def check_model(hook: KirinHook, model: str, models_url: str | None) -> list[Difference]:
    """Implement :meth:`.KirinHook.check_model`."""
    schema, connection = load_schema(model), hook.connection
    host = models_url or models_host(connection.base_url)
    if urlsplit(host)[:2] != urlsplit(connection.base_url)[:2]:
        # The key is only for the connection's host.
        connection = replace(connection, api_key="")
    failures = []
    for request in description_requests(host, model):
        response = call_sync(hook.get_conn(), request, connection)
        try:
            return differences(schema, read_description(*response, doing=f"asking for the description of {model}"))
        except KirinNotFoundError as error:
            failures.append(f"{redact_url(request.url)}: {error}")
    raise KirinNotFoundError(
        f"This gateway does not describe {model}: {'; '.join(failures)}. Nothing else needs that description. "
        "Some gateways have it on another host: give models_url.",
        http_status=404,
    )
