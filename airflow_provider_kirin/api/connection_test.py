"""What the Test button may conclude from one free question: does a task exist that cannot exist?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kirin.api.errors import error_from_response, is_about_a_path, parse_error

#: An id that no gateway gives out: real ones are short and hold no hyphens.
PROBE_ID = "airflow-provider-kirin-connection-test"

_ABOUT_A_TASK = ("task", "generation", "request not found", "record", PROBE_ID)


def interpret(status: int, headers: Mapping[str, str], body: Any, *, base: str) -> tuple[bool, str]:
    """Tell a usable connection from a wrong key, a wrong path and a gateway in trouble.

    :param status: the HTTP status of the reply to a look-up of :data:`PROBE_ID`
    :param headers: the reply's headers
    :param body: its body, decoded
    :param base: the base URL that was asked, for the message
    :return: whether the connection works, and a sentence for the user
    """
    code, message = parse_error(body)
    is_fine = 200 <= status < 300
    # 400 and 422 refuse the odd id, that is: behind the check of the key.
    is_about_a_task = (is_fine or status in (400, 404, 422)) and _names_a_task(f"{code} {message}".lower())
    if isinstance(body, Mapping) and (is_about_a_task or (is_fine and "id" in body)):
        return True, f"Connected to {base}: the API key is accepted."
    if status in (401, 403):
        return False, str(error_from_response(status, body, headers=headers, doing="checking the API key"))
    if is_fine or status in (404, 405):
        return False, (
            f"{base} answers, but not as the Kirin API does (HTTP {status}: {message or 'no message'}). "
            "Check the connection's Host and its path."
        )
    return False, str(error_from_response(status, body, headers=headers, doing="testing the connection"))


def _names_a_task(said: str) -> bool:
    return any(word in said for word in _ABOUT_A_TASK) and not is_about_a_path(said)
