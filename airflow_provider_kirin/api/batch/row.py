"""The rows of a batch's table: their keys, their payloads, and one error for all that cannot be used.

A row is data. It is a mapping of the model's parameters, plus the column that names it; no template in it is rendered.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from airflow_provider_kirin.api.idempotency import arguments_fingerprint
from airflow_provider_kirin.api.models import find_schema
from airflow_provider_kirin.api.payload import check_static
from airflow_provider_kirin.api.payload.normalize import normal_id
from airflow_provider_kirin.api.payload.validation import DID_YOU_MEAN, NOT_A_KNOWN_PARAMETER, NOT_A_PARAMETER
from airflow_provider_kirin.api.presigned import without_signature
from airflow_provider_kirin.api.redaction import one_line, redact_url, short_repr
from airflow_provider_kirin.exceptions import KirinPayloadError, KirinTableError, Problem

#: What a formula of a spreadsheet leaves in a cell if it fails, in English and German.
_EXCEL_ERROR = re.compile(r"#(N/A|NV|DIV/0!|(REF|NAME|VALUE|NUM|NULL|SPILL|CALC|BEZUG|WERT|ZAHL|ÜBERLAUF)[!?])")
#: What is wrong with a column, and the same in each row that has a value in it.
_ABOUT_COLUMN = (NOT_A_PARAMETER, NOT_A_KNOWN_PARAMETER)
#: How many bad rows an error names.
MAX_NAMED = 50
#: A longer key is a mistake: it has to fit a file name.
MAX_KEY = 200


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    :param key: names the row in files, in the manifest and in errors
    :param position: 1 for the first row
    :param payload: the model's parameters
    :param problems: why it cannot be used; empty for a good one
    """

    key: str
    position: int
    payload: dict[str, Any] = field(repr=False, default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def digest(self, model: str) -> str:
        """Return what changes when the row does: a hash of its values, not of the images that they name.

        :param model: the model's id
        """
        return arguments_fingerprint(model, (), self.payload)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line of a file that holds no row.

    :param text: the line, shortened
    :param rule: what a line must be
    """

    text: str
    rule: str


def read_jsonl(lines: Iterable[str]) -> Iterator[Any]:
    """Yield the records of a JSONL file: an object in each line. Empty lines do not count.

    :param lines: the file's lines
    """
    for number, line in enumerate(lines):
        # A byte order mark is what some editors and Excel start a file with.
        text = line.lstrip("\ufeff").strip() if number == 0 else line.strip()
        if not text:
            continue
        try:
            yield json.loads(text, object_pairs_hook=_with_each_name_once)
        except _RepeatedNameError:
            yield Unreadable(short_repr(text), "a name must occur only once in an object")
        except (ValueError, RecursionError):
            yield Unreadable(short_repr(text), "each line must be a JSON object")


class _RepeatedNameError(ValueError):
    """An object has a name twice."""


def _with_each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _RepeatedNameError
    return made


def check_header(names: Sequence[str], file: str) -> None:
    """Check the names of a file's columns: otherwise a column would be lost, or sent under an unintended name.

    :param names: of all columns
    :param file: what the file is called in the message
    :raises KirinTableError: a name is missing, has null characters (UTF-16), or is there twice
    """
    for number, name in enumerate(names, 1):
        if not name:
            why, remedy = f"column {number} has no name", "Name it, or remove it"
        elif "\0" in name:
            why, remedy = f"the name {name!a:.80} of column {number} has null characters", "Save the file as UTF-8"
        elif name in names[: number - 1]:
            why, remedy = f"{short_repr(name)} is the name of two columns", "Rename or remove one of them"
        else:
            continue
        raise KirinTableError(
            f"The columns of a {file} must each have a name of their own; {why} ({short_repr(', '.join(names), 200)}). "
            f"No row is submitted. {remedy}."
        )


def read_csv(lines: Iterable[str]) -> Iterator[Any]:
    """Yield the records of a CSV file with a header. A cell that is empty or blank is absent, not an empty string.

    Where a comma is a decimal point, Excel puts semicolons between the cells.

    :param lines: the file's lines, with their line breaks
    :raises KirinTableError: it has no header, or :func:`check_header` refuses it
    """
    ahead = iter(lines)
    # Before quotes are looked for: the first name may have some.
    first = next(ahead, "").lstrip("\ufeff")
    delimiter = next((character for character in ",;\t" if character in first), ",")
    reader = csv.reader(chain([first], ahead), delimiter=delimiter, strict=True)
    begins = 1
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise KirinTableError(
                "The first line of a CSV file must name its columns; it is empty. No row is submitted. Add it."
            )
        check_header(header, "CSV file")
        begins = reader.line_num + 1
        for cells in reader:
            begins = reader.line_num + 1
            if len(cells) > len(header):
                rule = f"has {len(cells)} cells, but only {len(header)} columns are named"
                yield Unreadable(short_repr(delimiter.join(cells)), f"{rule}; a cell with {delimiter!r} needs quotes")
            elif broken := [number for number, cell in enumerate(cells) if _EXCEL_ERROR.fullmatch(cell.strip())]:
                rule = f"is the error of a spreadsheet's formula, in column {header[broken[0]]}"
                yield Unreadable(short_repr(cells[broken[0]].strip()), rule)
            elif record := {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}:
                yield record
    except csv.Error as error:
        # A quote that is not closed takes all lines after it into its cell.
        ends = f", and ends in line {reader.line_num}," if reader.line_num > begins else ""
        raise KirinTableError(
            f"The row that begins in line {begins} of the CSV file{ends} cannot be read: {one_line(error)}. No more "
            "rows are submitted. Correct it (are all its quotes closed?), or give the table as .jsonl, which has no "
            "limit of a cell's length."
        ) from None


def read_rows(records: Iterable[Any], *, key: str | None, model: str) -> Iterator[Row]:
    """Yield a row for each record, with its key and, if it has none or it was used before, the problem.

    :param records: mappings, or :class:`Unreadable`
    :param key: the column that names a row; None to name it by its position
    :param model: the model's id: a key column that is one of its parameters stays in the payload
    """
    is_parameter = key is not None and key in find_schema(model, allow_unknown=True)["properties"]
    seen, ids = set[str](), set[str]()
    for position, record in enumerate(records, 1):
        if isinstance(record, Unreadable):
            problem = Problem("row", record.text, record.rule, "Correct the line")
            yield Row(_unnamed(position, seen), position, problems=(problem,))
        elif not isinstance(record, Mapping) or not all(isinstance(name, str) for name in record):
            rule = "must be a mapping of the model's parameters"
            problem = Problem("row", short_repr(record), rule, 'Such as {"image": ..., "prompt": ...}')
            yield Row(_unnamed(position, seen), position, problems=(problem,))
        else:
            payload = dict(record)
            given = position if key is None else payload.get(key) if is_parameter else payload.pop(key, None)
            name = _as_key(given) if key in (None, *record) else _no_key(record)
            if isinstance(name, Problem):
                named = Problem(key or "key", name.value, name.rule, name.remedy)
                yield Row(_unnamed(position, seen), position, payload, (named,))
            elif name in seen:
                rule = "is the key of an earlier row"
                problem = Problem(key or "key", short_repr(name), rule, "Give each row a key of its own")
                yield Row(_unnamed(position, seen, name), position, payload, (problem,))
            else:
                seen.add(name)
                yield Row(name, position, payload, _id_problems(payload, ids))


def _unnamed(position: int, seen: set[str], name: str = "") -> str:
    """Return what a row is called that has no key of its own, and add it to the names that are used."""
    label = f"{name} (row {position})" if name else f"row {position}"
    while label in seen:
        label += " (no key)"
    seen.add(label)
    return label


def _id_problems(payload: Mapping[str, Any], ids: set[str]) -> tuple[Problem, ...]:
    """Return what is wrong with a row's own external task id: two rows with the same one would share a video."""
    own_id = normal_id(payload.get("external_task_id"))
    if not isinstance(own_id, str) or not own_id:
        return ()
    if own_id not in ids:
        ids.add(own_id)
        return ()
    rule = "is the id of an earlier row"
    return (Problem("external_task_id", short_repr(own_id), rule, "Give each row an id of its own, or none"),)


def _no_key(record: Mapping[str, Any]) -> Problem:
    """Return the problem of a row without a value in the key column, which may have another name."""
    rule = f"the row has no such value; it has {short_repr(', '.join(record), 200)}"
    return Problem("key", "None", rule, "Fill in the key column, or correct `key`; without it, rows go by position")


def _as_key(given: Any) -> str | Problem:
    """Return a row's key as a string."""
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    text = str(given).strip() if isinstance(given, (str, int)) and not isinstance(given, bool) else ""
    if without_signature(text) != text:
        rule = "must not be a presigned URL: its signature changes, and the row would be paid again after a clear"
        return Problem("key", redact_url(text), rule, "Take another column, or leave `key` out")
    if text and text.isprintable() and len(text) <= MAX_KEY:
        return text
    rule = f"must name the row: a string or an integer, printable, of 1 to {MAX_KEY} characters"
    return Problem(
        "key", short_repr(given), rule, "Fill in the key column, or leave `key` out to name rows by position"
    )


def check_row(row: Row, model: str, *, allow_unknown_model: bool = False) -> Row:
    """Return a row with all its problems, as far as they show without reading an image or calling the gateway.

    :param row: what :func:`read_rows` yielded
    :param model: the model's id
    :param allow_unknown_model: whether to accept a model without a schema, and names that resemble a parameter
    """
    if row.problems:
        return row
    try:
        check_static(row.payload, model, is_dynamic=_is_never_dynamic, allow_unknown_model=allow_unknown_model)
    except KirinPayloadError as error:
        return Row(row.key, row.position, row.payload, error.problems)
    return row


def _is_never_dynamic(value: Any) -> bool:
    # Rows are data: what looks like a template is a string.
    return False


class BadRows:
    """Collects the rows that cannot be used, and makes one error of them.

    :param by_position: whether rows have no key of their own
    """

    def __init__(self, *, by_position: bool) -> None:
        self.count = 0
        self._by_position = by_position
        self._named: list[str] = []
        self._unnamed = 0
        #: What is wrong with a column -> the first row that has a value in it, and how many have.
        self._columns: dict[Problem, tuple[str, int]] = {}

    def add(self, row: Row) -> None:
        """Add a row that has problems."""
        self.count += 1
        name = f"row {row.key}" if row.key == str(row.position) else row.key
        own = []
        for problem in row.problems:
            if problem.rule in _ABOUT_COLUMN and (problem in self._columns or len(self._columns) < MAX_NAMED):
                first, count = self._columns.get(problem, (name, 0))
                self._columns[problem] = first, count + 1
            else:
                own.append(f"{name}: {problem}")
        left = MAX_NAMED - len(self._named)
        self._named += own[:left]
        self._unnamed += len(own) > left

    def lines(self) -> list[str]:
        """Return what is wrong with columns, and with the first rows, a line for each, and how many more there are."""
        columns = [
            f"{first}{f' and {count - 1:,} more' if count > 1 else ''}: {problem}"
            for problem, (first, count) in self._columns.items()
        ]
        return [*columns, *self._named, *([f"and {self._unnamed:,} more."] if self._unnamed else [])]

    @property
    def key_hint(self) -> str:
        """What to do if a column that is not a parameter is meant to name the rows; empty if none can be."""
        unknown = (each for each in self._columns if each.rule == NOT_A_PARAMETER and "." not in each.field)
        columns = sorted({each.field for each in unknown if not each.remedy.startswith(DID_YOU_MEAN)})
        return f" If {' or '.join(columns)} names the rows, give it as `key`." if self._by_position and columns else ""

    def error(self, rows: int, *, source: str, model: str, has_submitted: bool) -> KirinTableError:
        """Return the error that names them.

        :param rows: the number of rows in the table
        :param source: where the rows come from, safe to show
        :param model: the model's id
        :param has_submitted: whether rows were submitted before
        """
        listed = "".join(f"\n  - {line}" for line in self.lines())
        nothing = "nothing more was submitted" if has_submitted else "nothing was sent, nothing was spent"
        return KirinTableError(
            f"{self.count:,} of the {rows:,} rows of {source} cannot be used for {model}; {nothing}.{self.key_hint} "
            f'Correct them, or set on_bad_row="skip" to continue without them:{listed}'
        )
