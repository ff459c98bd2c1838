"""In CI, Hypothesis plays the same examples whichever tests a process has run before."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def played() -> list[tuple[int, str]]:
    examples = []

    @given(st.integers(), st.text())
    @settings(max_examples=200)
    def play(number: int, text: str) -> None:
        examples.append((number, text))

    play()
    return examples


@pytest.mark.skipif(not settings().derandomize, reason="only CI=true derandomizes")
def test_a_module_that_is_loaded_meanwhile_changes_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = played()
    module = ModuleType("loaded_meanwhile")
    module.__file__ = str(tmp_path / "loaded_meanwhile.py")
    Path(module.__file__).write_text("\n".join(f"A{n}, B{n} = {n}000, 'word {n}'" for n in range(1, 200)))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert played() == before
