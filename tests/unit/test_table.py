"""Tables are read again and again, whatever they are, and what cannot be read is named."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from airflow_provider_kirin.api.batch.row import check_row
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


class TestParquet:
    """With pyarrow, which the environments of older Airflows do not have."""

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[dict[str, Any]], str]:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        def write(columns: dict[str, Any]) -> str:
            # One row group, as pandas writes up to a million rows.
            parquet.write_table(pyarrow.table(columns), tmp_path / "table.parquet", row_group_size=1 << 20)
            return str(tmp_path / "table.parquet")

        return write

    def test_a_file(self, write: Callable[[dict[str, Any]], str]) -> None:
        assert payloads(write({"sku": ["a", "b"], "prompt": ["p", "q"], "duration": [None, "5"]})) == EXPECTED

    def test_values_are_those_of_json(self, write: Callable[[dict[str, Any]], str]) -> None:
        path = write(
            {
                "sku": [1, 2],
                "prompt": ["a", None],
                "image_list": [["file:///a.jpg", "file:///b.jpg"], None],
                "camera": [{"type": "simple", "zoom": None}, {"type": "simple", "zoom": 0.5}],
                # What pandas makes of integers, one of which is missing.
                "duration": [5.0, None],
                "cfg_scale": [Decimal("0.5"), Decimal(1)],
            }
        )
        images = ["file:///a.jpg", "file:///b.jpg"]
        assert payloads(path) == [
            (
                "1",
                {"prompt": "a", "image_list": images, "camera": {"type": "simple"}, "duration": 5, "cfg_scale": 0.5},
            ),
            ("2", {"camera": {"type": "simple", "zoom": 0.5}, "cfg_scale": 1}),
        ]

    def test_a_key_of_a_warehouse_keeps_its_digits(self, write: Callable[[dict[str, Any]], str]) -> None:
        keys = [2**53, 2**53 + 1, 10**30 + 1]
        path = write({"sku": [Decimal(key) for key in keys], "prompt": ["a", "b", "c"]})
        assert [key for key, _ in payloads(path)] == [str(key) for key in keys]

    def test_what_a_model_cannot_use_is_named(self, write: Callable[[dict[str, Any]], str]) -> None:
        day = datetime(2026, 11, 28)
        path = write({"sku": ["a"], "prompt": [day], "duration": [5.0], "cfg_scale": [math.nan]})
        (row,) = (check_row(row, MODEL) for row in Table(path, key="sku", model=MODEL)())
        assert [str(problem) for problem in row.problems] == [
            "prompt = <datetime>: must be a string. Pass a string.",
            "cfg_scale = nan: must be a number. Pass a number.",
        ]
        (row,) = Table(write({"sku": [day], "prompt": ["p"]}), key="sku", model=MODEL)()
        assert "sku = <datetime>: must name the row" in str(row.problems[0])

    def test_two_columns_of_a_name_are_refused(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = [pyarrow.array([value]) for value in ("a", "p", "q")]
        table = pyarrow.Table.from_arrays(columns, names=["sku", "prompt", "prompt"])
        parquet.write_table(table, tmp_path / "table.parquet")
        with pytest.raises(KirinTableError, match="'prompt' is the name of two columns"):
            payloads(str(tmp_path / "table.parquet"))

    def test_a_file_that_is_none_is_named(self, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        (tmp_path / "table.parquet").write_bytes(b"sku,prompt")
        with pytest.raises(KirinTableError, match=r"table\.parquet' cannot be read") as caught:
            payloads(str(tmp_path / "table.parquet"))
        assert not caught.value.retryable

    def test_100_000_rows_are_read_in_constant_memory(self, write: Callable[[dict[str, Any]], str]) -> None:
        import pyarrow

        count, random = 100_000, Random(1)
        path = write({"prompt": [random.randbytes(100).hex() for _ in range(count)]})
        before = pyarrow.total_allocated_bytes()
        tracemalloc.start()
        try:
            read = sum(1 for _ in Table(path, key=None, model=MODEL)._records())
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read == count and peak < 4_000_000 and pyarrow.total_allocated_bytes() - before < 4_000_000


@pytest.mark.parametrize("name", ["missing.csv", "missing.jsonl", "binary.csv", "folder.csv"])
def test_what_cannot_be_read_is_named_and_not_retried(tmp_path: Path, name: str) -> None:
    (tmp_path / "binary.csv").write_bytes(b"sku\n\xff\xfe\x80")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(KirinTableError, match=name) as caught:
        payloads(str(tmp_path / name))
    assert not caught.value.retryable


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_of_another_encoding_says_how_to_save_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "products.csv").write_text("sku;prompt\na;Stühle\n", encoding=encoding)
    with pytest.raises(KirinTableError, match=r'not UTF-8\. .*"CSV UTF-8"'):
        payloads(str(tmp_path / "products.csv"))
