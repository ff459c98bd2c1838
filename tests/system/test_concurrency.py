"""Fifty attempts of one step at the same moment, over real sockets. What keeps them apart is the gateway's word.

They know nothing of each other (:class:`.NoRecord`): the worst case, without a task state store.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_provider_kirin.api.idempotency import StepIdentity, payload_fingerprint
from airflow_provider_kirin.api.record import NoRecord
from airflow_provider_kirin.api.submission import Submission, Submitted
from airflow_provider_kirin.hooks.kirin import KirinHook
from airflow_provider_kirin.operators.generation_client import HookClient
from tests.support.emulator import KEY, Emulator, picture
from tests.support.waiting import HANG

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]
ATTEMPTS = 50


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Emulator]]:
    started: list[Emulator] = []

    def start(duplicates: str) -> Emulator:
        started.append(Emulator("--duplicates", duplicates))
        connection = {"conn_type": "kirin", "host": started[-1].url, "password": KEY}
        monkeypatch.setenv("AIRFLOW_CONN_KIRIN_DEFAULT", json.dumps(connection))
        return started[-1]

    yield start
    for emulator in started:
        emulator.stop()


def attempt_all(image: Path, barrier: threading.Barrier | None, attempts: int = ATTEMPTS) -> list[Submitted]:
    """Run the attempts, each in a thread of its own.

    :param image: what the video is made from
    :param barrier: where all of them wait after the lookup that found nothing: then all of them submit
    """
    prepared = KirinHook().prepare({"image": str(image), "prompt": "The cup turns."})
    step = StepIdentity(conn_id="kirin_default", dag_id="d", run_id="r", task_id="t", map_index=-1, take=1)
    name = step.external_task_id(payload_fingerprint(prepared))

    class Together(HookClient):
        def submit_as(self, external_task_id: str):
            if barrier is not None:
                barrier.wait(HANG)
            return super().submit_as(external_task_id)

    def attempt(_: int) -> Submitted:
        hook = KirinHook()
        try:
            return Submission(
                Together(hook, prepared), NoRecord(), external_task_id=name, lookup_verified={}
            ).submit_or_adopt()
        finally:
            hook.close()

    with ThreadPoolExecutor(attempts) as pool:
        return list(pool.map(attempt, range(attempts)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(picture(320, 320))
    return path


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("duplicates", ["reject", "return"])
def test_fifty_submissions_at_once_submit_one_generation(duplicates, gateway, image):
    emulator = gateway(duplicates)
    got = attempt_all(image, threading.Barrier(ATTEMPTS))
    (paid,) = emulator.ledger()["paid"]
    assert {one.kirin_task.id for one in got} == {paid["id"]}
    assert emulator.ledger()["submits"] == ATTEMPTS
    if duplicates == "reject":
        assert sum(not one.adopted for one in got) == 1


def test_a_gateway_that_bills_duplicates_bills_what_is_sent_at_once(gateway, image):
    # Nothing but the gateway's uniqueness rule keeps apart submissions that are all sent before any is accepted.
    emulator = gateway("bill")
    attempt_all(image, threading.Barrier(ATTEMPTS))
    assert len(emulator.ledger()["paid"]) == ATTEMPTS


def test_an_existing_generation_is_adopted_even_there(gateway, image):
    emulator = gateway("bill")
    (first,) = attempt_all(image, None, attempts=1)
    later = attempt_all(image, None)
    assert {one.kirin_task.id for one in later} == {first.kirin_task.id}
    assert all(one.adopted for one in later)
    assert emulator.ledger()["submits"] == 1
