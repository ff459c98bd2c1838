"""The table of a batch: rows in the DAG, another task's output, or a file in any storage that Airflow knows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_kirin.api.batch.row import Row, check_header, read_csv, read_jsonl, read_rows
from airflow_provider_kirin.api.images.sources import without_secrets
from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.download.storage import UnknownConnectionError, open_uri
from airflow_provider_kirin.exceptions import KirinTableError

_FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")
#: Rows of a Parquet file that are in memory at once.
_BATCH_ROWS = 1000
#: Bytes of each of its columns that are read at once.
_BUFFER = 1024 * 1024


class Table:
    """Rows that can be read again and again, one at a time.

    :param payloads: the operator's rendered argument: a sequence of mappings, a JSON list, or the path or URI of a file
    :param key: the column that names a row; None for its position
    :param model: the model's id
    :raises KirinTableError: it is none of these
    """

    #: The URI of the file, without secrets; None if there is none.
    uri: str | None
    #: What the rows are called in messages.
    source: str

    def __init__(self, payloads: Any, *, key: str | None, model: str) -> None:
        self._key = key
        self._model = model
        payloads = _with_json_parsed(payloads)
        self._records: Callable[[], Iterable[Any]]
        if isinstance(payloads, str):
            self._records = _file_reader(payloads)
            self.uri = without_secrets(payloads if "://" in payloads else Path(payloads).expanduser().as_uri())
            self.source = without_secrets(payloads) or payloads
        elif isinstance(payloads, Mapping) or not isinstance(payloads, Iterable) or isinstance(payloads, bytes):
            raise KirinTableError(
                f"payloads = {short_repr(payloads)} must be a list of rows, or the path or URI of a file that ends "
                f"with {', '.join(_FORMATS)}. No row is submitted."
            )
        else:
            self.source, self.uri = "the list", None
            # An iterator could be read only once.
            rows = payloads if isinstance(payloads, Sequence) else list(payloads)
            self._records = lambda: rows

    def __call__(self) -> Iterator[Row]:
        """Yield the rows, from the first one on."""
        return read_rows(self._records(), key=self._key, model=self._model)


def _with_json_parsed(payloads: Any) -> Any:
    """Return the rows that a template rendered as JSON; anything else unchanged."""
    if isinstance(payloads, str) and payloads.lstrip().startswith("["):
        try:
            return json.loads(payloads)
        except (ValueError, RecursionError):
            pass
    return payloads


def _shown(path: str) -> str:
    """Return a path as messages show it: a URI may hold a password or a signature."""
    return short_repr(without_secrets(path) or redact_url(path), 120)


def _file_reader(path: str) -> Callable[[], Iterator[Any]]:
    if "://" not in path and not path.startswith(("/", "~")):
        raise KirinTableError(
            f"payloads = {_shown(path)} is relative, and would depend on the worker's current folder. Give an "
            "absolute path or a URI. No row is submitted."
        )
    name = path.lower()
    if name.endswith(".parquet"):
        return lambda: _read_parquet(path)
    if name.endswith(".csv"):
        return lambda: _read_text(path, read_csv)
    if name.endswith((".jsonl", ".ndjson")):
        return lambda: _read_text(path, read_jsonl)
    raise KirinTableError(
        f"payloads = {_shown(path)} must be a list of rows, or the path or URI of a file that ends with "
        f"{', '.join(_FORMATS)}. No row is submitted."
    )


def _read_text(path: str, parse: Callable[[Iterable[str]], Iterator[Any]]) -> Iterator[Any]:
    with _opened(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        yield from parse(text)


def _read_parquet(path: str) -> Iterator[Any]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise KirinTableError(
            f"payloads = {_shown(path)} needs the pyarrow package, which is not installed here. Install it "
            "where tasks run, or give the table as .jsonl or .csv."
        ) from None
    with _opened(path) as file:
        # Otherwise a whole column of a row group is read at once: often of all rows.
        parquet = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
        check_header(parquet.schema_arrow.names, "Parquet file")
        for batch in parquet.iter_batches(_BATCH_ROWS):
            yield from map(_as_json, batch.to_pylist())


def _as_json(value: Any) -> Any:
    """Return a value of a Parquet file as a JSON file would have it."""
    if isinstance(value, dict):
        # As an empty cell of a CSV file: absent.
        return {name: _as_json(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_as_json(inner) for inner in value]
    if isinstance(value, Decimal):
        # A key may have more digits than a float.
        return int(value) if value == int(value) else float(value)
    # pandas keeps a column of integers as floats if one is missing.
    return int(value) if isinstance(value, float) and value.is_integer() else value


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open a file, and turn whatever reading it raises into one error that names it."""
    try:
        with open_uri(path) if "://" in path else Path(path).expanduser().open("rb") as file:
            yield file
    except KirinTableError:
        raise
    except Exception as error:
        # Another try cannot find a file that is not there, or read one that is broken; a storage may come back.
        is_final = isinstance(error, (ValueError, FileNotFoundError, PermissionError, IsADirectoryError))
        is_final = is_final or isinstance(error, UnknownConnectionError) or type(error).__module__.startswith("pyarrow")
        why = one_line(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
        remedy = "Check the path, its Airflow connection and the file."
        if isinstance(error, UnicodeDecodeError):
            why, remedy = "it is not UTF-8", 'Save it as UTF-8; in Excel that is "CSV UTF-8".'
        raise KirinTableError(
            f"payloads = {_shown(path)} cannot be read: {why}. No more rows are submitted. {remedy}",
            retryable=not is_final,
        ) from error
