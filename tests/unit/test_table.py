"""Tables are read again and again, whatever they are, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kirin.exceptions import KirinTableError
from airflow_provider_kirin.operators.table import Table

MODEL = "kirin_v1_6_t2v"
RECORDS = [{"sku": "a", "prompt": "p"}, {"sku": "b", "prompt": "q", "duration": "5"}]
FILES = {
    "table.jsonl": '{"sku": "a", "prompt": "p"}\n{"sku": "b", "prompt": "q", "duration": "5"}\n',
    "table.NDJSON": '{"sku": "a", "prompt": "p"}\n{"sku": "b", "prompt": "q", "duration": "5"}\n',
    "table.csv": "sku,prompt,duration\r\na,p,\r\nb,q,5\r\n",
}


def payloads(given: Any) -> list[tuple[str, Any]]:
    table = Table(given, key="sku", model=MODEL)
    first = [(row.key, row.payload) for row in table()]
    assert [(row.key, row.payload) for row in table()] == first
    return first


EXPECTED = [("a", {"prompt": "p"}), ("b", {"prompt": "q", "duration": "5"})]


@pytest.mark.parametrize(
    "given", [RECORDS, tuple(RECORDS), '[{"sku":"a","prompt":"p"}, {"sku":"b","prompt":"q","duration":"5"}]']
)
def test_rows_in_the_dag(given: Any) -> None:
    assert payloads(given) == EXPECTED


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_uri", [False, True])
def test_a_file(tmp_path: Path, name: str, as_uri: bool) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name].encode())
    assert payloads(path.as_uri() if as_uri else str(path)) == EXPECTED


def test_a_parquet_file(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"sku": ["a", "b"], "prompt": ["p", "q"], "duration": [None, "5"]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    assert payloads(str(tmp_path / "table.parquet")) == EXPECTED


@pytest.mark.parametrize("name", ["missing.csv", "missing.jsonl", "binary.csv", "folder.csv"])
def test_what_cannot_be_read_is_named_and_not_retried(tmp_path: Path, name: str) -> None:
    (tmp_path / "binary.csv").write_bytes(b"sku\n\xff\xfe\x80")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(KirinTableError, match=name) as caught:
        payloads(str(tmp_path / name))
    assert not caught.value.retryable
