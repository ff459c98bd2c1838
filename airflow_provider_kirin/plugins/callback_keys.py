"""Distinguish genuine tokens from forged ones, which anyone may send, without a connection lookup for each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from airflow_provider_kirin.api.callback_token import CallbackToken, verify
from airflow_provider_kirin.api.redaction import one_line, short_repr

log = logging.getLogger(__name__)

#: Seconds for which a key that does not fit a token proves that the token is forged. Later the connection may have a
#: new API key, and is looked up once more.
PROOF_SECONDS = 30.0
#: Seconds that the lookup of a connection may take.
LOOKUP_TIMEOUT = 10.0

LookUpKey = Callable[[str], Awaitable[bytes]]


class Verdict(Enum):
    """What is known about a token."""

    GENUINE = "genuine"
    FORGED = "forged"
    #: Its connection has to be looked up first.
    UNKNOWN = "unknown"


@dataclass
class _Key:
    key: bytes | None
    read_at: float
    #: Whether a genuine token has been signed with it: such a connection is really there.
    is_proven: bool = False


class SigningKeys:
    """The signing keys of the connections that tokens name.

    :param look_up: returns the signing key of a connection, or raises
    """

    def __init__(self, look_up: LookUpKey) -> None:
        self._look_up = look_up
        self._keys: dict[str, _Key] = {}

    def verify(self, token: str, claims: CallbackToken) -> Verdict:
        """Return what is known about a token, without I/O.

        :param token: the token
        :param claims: what :func:`.parse_unverified` returned for it
        """
        if time.time() >= claims.expires_at:
            return Verdict.FORGED
        known = self._keys.get(claims.kirin_conn_id)
        if known is None:
            return Verdict.UNKNOWN
        if known.key is not None and verify(token, known.key, now=time.time()):
            known.is_proven = True
            return Verdict.GENUINE
        is_proof = time.monotonic() < known.read_at + PROOF_SECONDS
        return Verdict.FORGED if is_proof else Verdict.UNKNOWN

    async def refresh(self, kirin_conn_id: str) -> None:
        """Look up the key of a connection. Call it for one connection at a time.

        :param kirin_conn_id: what a token of unknown origin calls its connection
        """
        known = self._keys.get(kirin_conn_id)
        key = known.key if known else None
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT):
                key = await self._look_up(kirin_conn_id)
        except Exception as error:
            # A secrets backend may raise anything. It keeps the key that it had, if any.
            reason = one_line(error) or type(error).__name__
            log.info("No key for callbacks of the connection %s: %s", short_repr(kirin_conn_id), reason)
        now = time.monotonic()
        # Forged tokens may name any connection: what proved nothing is forgotten.
        self._keys = {
            conn_id: entry
            for conn_id, entry in self._keys.items()
            if entry.is_proven or now < entry.read_at + PROOF_SECONDS
        }
        self._keys[kirin_conn_id] = _Key(key, now, is_proven=bool(known and known.is_proven and known.key == key))
