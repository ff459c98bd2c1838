"""What may stand in a payload's file, and what is refused at once."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_kirin.api.payload.paths import MAX_VALUES, is_larger_than
from airflow_provider_kirin.cli import payload_file
from airflow_provider_kirin.cli.payload_file import read_payload


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def of(content: bytes | str) -> Any:
        path = tmp_path / "payload"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_payload(str(path))

    return of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ['{"prompt": "Día 🎬"}', "prompt: Día 🎬\n"])
def test_unicode_encodings_are_detected(read: Any, text: str, encoding: str) -> None:
    assert read(text.encode(encoding)) == {"prompt": "Día 🎬"}


def test_payload_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("prompt: x".encode("utf-16"))))
    assert read_payload("-") == {"prompt": "x"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"prompt": "Día"}'.encode("latin-1"), "not text in UTF-8: byte 0xED at position 13 cannot be decoded"),
        (b"\xff\xfe{", "not text in UTF-16: byte 0x7B at position 2"),
        (b"\x00" * 5, "not text in UTF-32"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: &a [*a]", "more than 10,000 values, each alias counted in full"),
        ("a: !!python/object:os.system x", "neither JSON nor YAML"),
        ("a: 2026-99-99", "payload is not valid YAML: ValueError: month must be in 1..12"),
        ("a: !!bool perhaps", "payload is not valid YAML: KeyError: 'perhaps'"),
        ('{"a": ' + "9" * 5000 + "}", "payload cannot be read: Exceeds the limit (4300 digits)"),
    ],
)
def test_invalid_file_is_refused(
    read: Any, content: bytes | str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(content)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_of_aliases_are_refused(read: Any, merge: bool, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["k0: &k0 {x: 1}"]
    for level in range(1, 10):
        aliases = ",".join([f"*k{level - 1}"] * 9)
        lines.append(f"k{level}: &k{level} " + (f"{{<<: [{aliases}]}}" if merge else f"[{aliases}]"))
    with pytest.raises(SystemExit):
        read("\n".join(lines))
    assert "more than 10,000 values" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["prompt:\n" + "- x\n" * 200_000, "a: [" + "1," * 200_000 + "]"])
def test_no_more_of_a_yaml_file_is_composed_than_can_be_used(
    content: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    composed = 0
    compose = yaml.SafeLoader.compose_node

    def counting(self: Any, parent: Any, index: Any) -> Any:
        nonlocal composed
        composed += 1
        return compose(self, parent, index)

    monkeypatch.setattr(yaml.SafeLoader, "compose_node", counting)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    with pytest.raises(SystemExit):
        read_payload("-")
    assert "more than 10,000 values" in capsys.readouterr().err
    assert composed <= 2 * MAX_VALUES


def test_ordinary_aliases_are_accepted(read: Any) -> None:
    text = "common: &common {mode: pro}\nfirst: {<<: *common, duration: 5}\nsecond: *common\n"
    assert read(text) == {"common": {"mode": "pro"}, "first": {"mode": "pro", "duration": 5}, "second": {"mode": "pro"}}


def test_endless_file_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(payload_file, "_MAX_BYTES", 1000)
    with pytest.raises(SystemExit):
        read_payload("/dev/zero")
    assert "longer than 1,000 bytes" in capsys.readouterr().err


def test_empty_file_is_none(read: Any) -> None:
    assert read("") is None


def test_a_structure_counts_each_value_each_time() -> None:
    shared = [1, 2]
    assert not is_larger_than(7, [shared, shared])
    assert is_larger_than(6, [shared, shared])
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    assert is_larger_than(MAX_VALUES, holds_itself)
    assert is_larger_than(MAX_VALUES, {"a": {"b": list(range(MAX_VALUES))}})
