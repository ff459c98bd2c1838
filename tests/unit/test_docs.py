"""The pages that are read when something has failed say what the code says."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from airflow_provider_kirin import exceptions
from airflow_provider_kirin.api.payload import prepare_payload
from airflow_provider_kirin.api.submission_errors import unknown_submission
from airflow_provider_kirin.exceptions import KirinPayloadError
from tests.support.system.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "reference"
ERRORS = [name for name, value in vars(exceptions).items() if inspect.isclass(value) and name.endswith("Error")]


def rows(page: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    lines = (PAGES / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]


@pytest.mark.parametrize("name", sorted(set(ERRORS) - {"KirinError"}))
def test_each_error_has_a_row_that_says_what_to_do(name: str) -> None:
    assert any(f"`{name}`" in row[0] and row[-1] for row in rows("errors.md"))


def test_the_table_of_faults_has_each_fault_and_what_is_paid() -> None:
    expected = {
        (one.title, "billed" if one.duplicates == "bill" else "refused", str(one.expected.paid)) for one in SCENARIOS
    }
    assert {tuple(row[:3]) for row in rows("faults.md")[1:]} == expected


def test_each_message_that_the_page_of_log_messages_quotes_is_in_the_code() -> None:
    package = ROOT / "airflow_provider_kirin"
    strings = {
        node.value.replace("`", "")
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    quoted = [row[0].strip("`") for row in rows("log-messages.md")[1:]]
    pieces = [piece.strip() for message in quoted for piece in re.split("…", message) if piece.strip()]
    assert len(pieces) > 10
    assert [piece for piece in pieces if not any(piece in string for string in strings)] == []


def test_the_examples_of_errors_read_as_the_errors_do() -> None:
    shown = " ".join((PAGES / "errors.md").read_text(encoding="utf-8").split())
    with pytest.raises(KirinPayloadError) as missing:
        prepare_payload({"image": "/no/such/file.jpg", "prompt": "p"}, "kirin_v1_6_i2v")
    assert " ".join(str(missing.value).split()) in shown
    why = (
        "No response to POST http://127.0.0.1:41459/model/v1/generation: ('Connection aborted.', "
        "RemoteDisconnected('Remote end closed connection without response'))"
    )
    unknown = unknown_submission(
        "airflow-ducmkslcs6aa2sumbkpmv7lbqy", why, on_unknown_submit="stop", lookup_verified=False, retryable=False
    )
    assert str(unknown) in shown


@pytest.mark.parametrize("file", sorted((ROOT / "example_dags").glob("kirin_*.py")), ids=lambda file: file.stem)
def test_each_example_shows_its_retries(file: Path) -> None:
    assert re.search(r"\bretries\b", file.read_text(encoding="utf-8"))
