"""The fixtures of the pytest plugin. Each imports what it needs when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_kirin.testing import fast_retries

if TYPE_CHECKING:
    from airflow_provider_kirin.testing.dag_run import DagTestRun
    from airflow_provider_kirin.testing.emulator import EmulatorProcess, KirinEmulator


@pytest.fixture
def kirin_fast_retries() -> Iterator[list[float]]:
    """:func:`fast_retries` for one test."""
    with fast_retries() as wanted:
        yield wanted


@pytest.fixture(scope="session", name="_kirin_emulator_process")
def _emulator_process() -> Iterator[EmulatorProcess]:
    from airflow_provider_kirin.testing.emulator import EmulatorProcess

    process = EmulatorProcess("--seconds", "0")
    yield process
    process.stop()


@pytest.fixture
def kirin_emulator(_kirin_emulator_process: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> KirinEmulator:
    """A Kirin gateway on 127.0.0.1 without any generations; the connection ``kirin_default`` points to it.

    It is one process in a run of pytest, or in each worker of pytest-xdist. A generation ends at once, unless its
    prompt contains ``[[seconds:N]]``.
    """
    from airflow_provider_kirin.testing.emulator import KirinEmulator

    emulator = KirinEmulator(_kirin_emulator_process, monkeypatch)
    emulator.reset()
    emulator.connect()
    return emulator


@pytest.fixture(name="run_dag")
def _run_dag(kirin_emulator: KirinEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DagTestRun]:
    """Run a DAG in this process: see :func:`airflow_provider_kirin.testing.dag_run.run_dag`.

    While the test lasts, a Kirin connection to any other machine is refused: a test must not pay.
    """
    from airflow_provider_kirin.testing.dag_run import run_dag
    from airflow_provider_kirin.testing.emulator import refuse_other_hosts

    refuse_other_hosts(monkeypatch)
    return run_dag
