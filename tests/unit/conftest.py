"""Unit tests: no database, no socket."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def unmeasured_subprocesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a unit test starts report what an import loads; coverage would load more modules there."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
