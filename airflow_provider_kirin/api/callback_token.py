"""The signed, expiring token in a callback URL: which generation of which task instance has changed.

Workers sign it, Airflow's API server verifies it. Both know the connection, so the signing key is derived from its API
key; none of Airflow's own secrets is certain to be on workers. With a new API key, earlier tokens are worthless.

A token only lets its sender ask Airflow for a lookup: it opens nothing, and the gateway is asked with our own key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from urllib.parse import urlencode

#: The path of the receiver in Airflow's API server, and the name of the token in the query. Airflow 3.3 hides the value
#: of a parameter with this name in its access log.
CALLBACK_PATH = "/kirin-callback"
TOKEN_PARAMETER = "token"
#: Seconds for which a token is valid. Polling notices what ends later.
LIFETIME = 86400
#: Longer URLs are refused by some servers. Only a step with extreme ids needs more.
MAX_TOKEN = 4000

_VERSION = 1
_PURPOSE = b"airflow-provider-kirin callback token 1"
_SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class CallbackToken:
    """The content of a token.

    :param dag_id: the DAG of the task instance that submitted the generation
    :param run_id: its DAG run
    :param task_id: its task
    :param map_index: its map index, -1 if it is not mapped
    :param external_task_id: the external task id of the generation
    :param kirin_conn_id: the connection that submitted it, and whose key signs the token
    :param expires_at: seconds since the epoch
    :param asset: name and URI of the asset that gets an event when the generation has its video
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    external_task_id: str
    kirin_conn_id: str
    expires_at: int
    asset: tuple[str, str] | None = None

    def sign(self, key: bytes) -> str:
        """Return the token.

        :param key: the result of :func:`signing_key`
        """
        fields = [
            _VERSION,
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            self.external_task_id,
            self.kirin_conn_id,
            self.expires_at,
            *(self.asset or ()),
        ]
        body = _encode(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())
        return f"{body}.{_encode(_signature(body, key))}"


def signing_key(api_key: str) -> bytes:
    """Return the key that signs the tokens of a connection; it does not reveal the API key.

    :param api_key: the connection's API key
    """
    return hmac.digest(api_key.encode(), _PURPOSE, hashlib.sha256)


def callback_url(base_url: str, token: str) -> str:
    """Return the URL that the gateway calls.

    :param base_url: where the gateway reaches Airflow's API server, without a slash at the end
    :param token: the result of :meth:`CallbackToken.sign`
    """
    return f"{base_url}{CALLBACK_PATH}/generation?{urlencode({TOKEN_PARAMETER: token})}"


def parse_unverified(token: str) -> CallbackToken | None:
    """Return the content of a token that is not verified yet: only to find the key that verifies it.

    :param token: anything
    :return: None if it is not a token of this version
    """
    body, dot, signature = token.partition(".")
    if not dot or len(token) > MAX_TOKEN or len(_decode(signature)) != _SIGNATURE_BYTES:
        return None
    try:
        fields = json.loads(_decode(body))
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, list) or len(fields) not in (8, 10) or fields[0] != _VERSION:
        return None
    version, dag_id, run_id, task_id, map_index, external_task_id, kirin_conn_id, expires_at, *asset = fields
    integers, texts = (version, map_index, expires_at), (dag_id, run_id, task_id, external_task_id, kirin_conn_id)
    if {*map(type, integers)} != {int} or {*map(type, texts), *map(type, asset)} != {str}:
        return None
    return CallbackToken(*texts[:3], map_index, *texts[3:], expires_at, asset=tuple(asset) or None)


def verify(token: str, key: bytes, *, now: float) -> bool:
    """Return whether a token was signed with this key, and has not expired.

    :param token: one that :func:`parse_unverified` can read
    :param key: the result of :func:`signing_key`
    :param now: seconds since the epoch
    """
    body, _, signature = token.partition(".")
    # In constant time: how far a forgery is right must not show.
    if not hmac.compare_digest(_signature(body, key), _decode(signature)):
        return False
    said = parse_unverified(token)
    return said is not None and now < said.expires_at


def _signature(body: str, key: bytes) -> bytes:
    return hmac.digest(key, body.encode("utf-8", "surrogatepass"), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Return the bytes of unpadded Base64; empty for anything else."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
