"""A connection is looked up for tokens that nothing is known about, and not once for each forgery."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_provider_kirin.api.callback_token import CallbackToken, signing_key
from airflow_provider_kirin.connection import KirinConnection
from airflow_provider_kirin.hooks import shared_session
from airflow_provider_kirin.plugins import callback_keys
from airflow_provider_kirin.plugins.callback_keys import SigningKeys, Verdict
from tests.support.waiting import HANG

KEYS = {"kirin_default": signing_key("the-key"), "other": signing_key("other-key")}


def said_by(kirin_conn_id: str = "kirin_default", *, seconds: float = HANG) -> CallbackToken:
    return CallbackToken("dag", "run", "task", -1, "airflow-x", kirin_conn_id, int(time.time() + seconds))


class Lookups:
    """Looks up keys, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, kirin_conn_id: str) -> bytes:
        self.asked.append(kirin_conn_id)
        if kirin_conn_id not in KEYS:
            raise LookupError("not found")
        return KEYS[kirin_conn_id]


@pytest.fixture(autouse=True)
def proof_that_outlasts_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_keys, "PROOF_SECONDS", HANG)


@pytest.fixture
def lookups() -> Lookups:
    return Lookups()


@pytest.fixture
def keys(lookups: Lookups) -> SigningKeys:
    return SigningKeys(lookups)


def verify(keys: SigningKeys, said: CallbackToken, key: bytes) -> Verdict:
    return keys.verify(said.sign(key), said)


def test_nothing_is_known_before_the_first_lookup(keys: SigningKeys, lookups: Lookups) -> None:
    said = said_by()
    assert verify(keys, said, KEYS["kirin_default"]) is Verdict.UNKNOWN
    asyncio.run(keys.refresh("kirin_default"))
    assert verify(keys, said, KEYS["kirin_default"]) is Verdict.GENUINE
    assert verify(keys, said, signing_key("wrong")) is Verdict.FORGED
    assert lookups.asked == ["kirin_default"]


def test_the_key_of_another_connection_does_not_fit(keys: SigningKeys) -> None:
    asyncio.run(keys.refresh("kirin_default"))
    assert verify(keys, said_by(), KEYS["other"]) is Verdict.FORGED


def test_an_expired_token_needs_no_lookup(keys: SigningKeys) -> None:
    assert verify(keys, said_by(seconds=-1), KEYS["kirin_default"]) is Verdict.FORGED


def test_a_connection_that_does_not_exist_looks_the_same_as_a_wrong_key(keys: SigningKeys) -> None:
    asyncio.run(keys.refresh("missing"))
    assert verify(keys, said_by("missing"), KEYS["other"]) is Verdict.FORGED


def test_a_new_key_is_noticed_after_a_while(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(keys.refresh("kirin_default"))
    monkeypatch.setitem(KEYS, "kirin_default", signing_key("rotated"))
    monkeypatch.setattr(callback_keys, "PROOF_SECONDS", 0.0)
    assert verify(keys, said_by(), KEYS["kirin_default"]) is Verdict.UNKNOWN
    asyncio.run(keys.refresh("kirin_default"))
    assert verify(keys, said_by(), KEYS["kirin_default"]) is Verdict.GENUINE
    assert verify(keys, said_by(), signing_key("the-key")) is not Verdict.GENUINE


def test_a_key_that_was_known_outlives_an_outage_of_the_secrets_backend(
    keys: SigningKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(keys.refresh("kirin_default"))
    said, key = said_by(), KEYS["kirin_default"]
    monkeypatch.delitem(KEYS, "kirin_default")
    asyncio.run(keys.refresh("kirin_default"))
    assert verify(keys, said, key) is Verdict.GENUINE


def test_forgotten_are_the_names_that_proved_nothing(keys: SigningKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    async def flood() -> Any:
        await keys.refresh("kirin_default")
        assert verify(keys, said_by(), KEYS["kirin_default"]) is Verdict.GENUINE
        monkeypatch.setattr(callback_keys, "PROOF_SECONDS", 0.0)
        for number in range(1000):
            await keys.refresh(f"conn_{number}")

    asyncio.run(flood())
    assert set(keys._keys) == {"kirin_default", "conn_999"}


def test_a_lookup_that_takes_too_long_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def hanging(_: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(callback_keys, "LOOKUP_TIMEOUT", 0.01)
    with caplog.at_level("INFO", logger=callback_keys.__name__):
        asyncio.run(SigningKeys(hanging).refresh("far"))
    assert "No key for callbacks of the connection 'far': TimeoutError" in caplog.text


async def test_the_first_import_is_not_within_the_time_of_a_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="the receiver is for Airflow 3.1 and later")
    from airflow_provider_kirin.plugins import callback

    claims, offered, loop = said_by(), asyncio.Event(), asyncio.get_running_loop()
    now = loop.time

    async def import_slowly() -> None:
        monkeypatch.setattr(loop, "time", lambda: now() + 1000)
        for _ in range(5):
            await asyncio.sleep(0)

    async def connection(_: str) -> KirinConnection:
        return KirinConnection("https://cloud.vtrix.ai/model", "the-key", callback_base_url="https://airflow.example")

    monkeypatch.setattr(callback, "load_hooks", import_slowly)
    monkeypatch.setattr(shared_session, "look_up_connection", connection)
    receiver = callback.Receiver()
    monkeypatch.setattr(receiver, "_offer", lambda _: offered.set())
    receiver._unverified.put_nowait((claims.sign(KEYS["kirin_default"]), claims))
    verifying = asyncio.create_task(receiver._verify_unknown())
    try:
        await offered.wait()
    finally:
        verifying.cancel()
