"""The output of a command cannot control the terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kirin.cli._runner import ConsoleLog, echo, printable, show

ANY = st.text(st.characters())


@given(ANY)
def test_printable_text_stays_and_the_rest_is_escaped(text: str) -> None:
    shown = printable(text)
    assert all(char.isprintable() or char == "\n" for char in shown)
    if all(char.isprintable() for char in text):
        assert shown == text


@given(st.dictionaries(ANY, ANY))
def test_json_stays_the_same_json(value: dict[str, str]) -> None:
    assert json.loads(printable(json.dumps(value, indent=2, ensure_ascii=False))) == value


def test_everything_printed_to_the_console_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "one\x1b]0;owned\x07\x9b31m\u202e\r"
    echo(evil)
    show(evil)
    ConsoleLog().warning("%s in %.0f s: %s", "Asking again", 2.0, evil)
    ConsoleLog().info("%s", evil)
    out, err = capsys.readouterr()
    assert all(char.isprintable() or char == "\n" for char in out + err)
    assert out == "one\\u001b]0;owned\\u0007\\u009b31m\\u202e\\r\n"
    assert "Asking again in 2 s" in err and len(err.splitlines()) == 2
