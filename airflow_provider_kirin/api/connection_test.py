"""Interpret the connection test: a free lookup of a generation that cannot exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, is_about_a_path, parse_error

#: An id that no gateway assigns: real ids are short and contain no hyphens.
PROBE_ID = "airflow-provider-kirin-connection-test"

_ABOUT_A_TASK = ("task", "generation", "request not found", "record", PROBE_ID)


def interpret(status: int, headers: Mapping[str, str], body: Any, *, base: str) -> tuple[bool, str]:
    """Distinguish a working connection from a wrong key, a wrong path and a failing gateway.

    :param status: the HTTP status of the response to a lookup of :data:`PROBE_ID`
    :param headers: the response headers
    :param body: the decoded response body
    :param base: the base URL of the request, for the message
    :return: whether the connection works, and a message for the user
    """
    code, message = parse_error(body)
    is_fine = 200 <= status < 300
    # 400 and 422 reject the odd id, which happens after the key was checked.
    is_about_a_task = (is_fine or status in (400, 404, 422)) and _names_a_task(f"{code} {message}".lower())
    if isinstance(body, Mapping) and (is_about_a_task or (is_fine and "id" in body)):
        return True, f"Connected to {base}: the API key is accepted."
    if status in (401, 403):
        return False, str(error_from_response(status, body, headers=headers, doing="checking the API key"))
    if is_fine or status in (404, 405):
        return False, (
            f"{base} responds, but not like the Kirin API (HTTP {status}: {message or 'no message'}). "
            "Check the connection's Host and its path."
        )
    return False, str(error_from_response(status, body, headers=headers, doing="testing the connection"))


def _names_a_task(said: str) -> bool:
    return any(word in said for word in _ABOUT_A_TASK) and not is_about_a_path(said)
