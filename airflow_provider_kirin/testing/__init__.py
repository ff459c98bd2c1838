"""For the tests of your DAGs: a pytest plugin with an emulator of the Kirin gateway. How: docs/how-to/testing.md.

pytest loads this module in each of its runs where the package is installed, so nothing is imported before a fixture
is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from airflow_provider_kirin.testing.dag_run import DagTestRun
    from airflow_provider_kirin.testing.emulator import EmulatorProcess, KirinEmulator


def fast_retries(longest: float = 0.05) -> AbstractContextManager[list[float]]:
    """Shorten every wait of this package between polls, lookups and retries, in this process, while the context lasts.

    Nothing else changes: not what is retried and how often, nor timeouts, ``requests_per_second`` and Airflow's
    ``retry_delay``.

    :param longest: the most seconds that a wait may last
    :return: a context manager; it gives a list to which each wait adds the seconds that it would have lasted
    """
    from airflow_provider_kirin.api.pauses import limited_pauses

    return limited_pauses(longest)


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
    """A Kirin gateway on 127.0.0.1 that has seen nothing yet, and to which the connection ``kirin_default`` leads.

    It is one process in a run of pytest, or in each worker of pytest-xdist. A generation ends at once, unless its
    prompt says ``[[seconds:N]]``.
    """
    from airflow_provider_kirin.testing.emulator import KirinEmulator

    emulator = KirinEmulator(_kirin_emulator_process, monkeypatch)
    emulator.reset()
    emulator.connect()
    return emulator


@pytest.fixture(name="run_dag")
def _run_dag(kirin_emulator: KirinEmulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DagTestRun]:
    """Run a DAG in this process: see :func:`airflow_provider_kirin.testing.dag_run.run_dag`.

    While the test lasts, a Kirin connection that leads anywhere but to this machine is refused: a test must not pay.
    """
    from airflow_provider_kirin.testing.dag_run import run_dag
    from airflow_provider_kirin.testing.emulator import refuse_other_hosts

    refuse_other_hosts(monkeypatch)
    return run_dag
