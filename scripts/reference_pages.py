"""Write the parts of docs/reference/ that come from the code: ``make reference``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import model_page

from airflow_provider_kirin.api import errors
from airflow_provider_kirin.cli.definition import get_kirin_cli_commands
from airflow_provider_kirin.get_provider_info import get_provider_info

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"


def pages() -> dict[Path, str]:
    """Return what each of the pages should say."""
    texts = {FOLDER / "models.md": model_page.page()}
    for name, part in PARTS.items():
        path = FOLDER / PAGE_OF[name]
        text = texts.get(path) or path.read_text(encoding="utf-8")
        begin, end = f"<!-- {name}, from the code: begin -->", f"<!-- {name}, from the code: end -->"
        before, _, rest = text.partition(begin)
        texts[path] = f"{before}{begin}\n\n{part().strip()}\n\n{end}{rest.partition(end)[2]}"
    return texts


def commands() -> str:
    """Return the arguments of each command. (What argparse prints differs from Python to Python.)"""
    (group,) = get_kirin_cli_commands()
    return "\n".join(_command(command) for command in group.subcommands)


def _command(command: Any) -> str:
    about = (command.description or command.help).rstrip(".")
    arguments = [_argument(arg) for arg in command.args if "--verbose" not in arg.flags]
    return f"### {command.name}\n\n{about}.\n\n" + "\n".join([*arguments, ""])


def _argument(arg: Any) -> str:
    given = " (required)" if arg.kwargs.get("required") else ""
    flags = ", ".join(f"`{flag}`" if flag.startswith("-") else f"`{flag.upper()}`" for flag in arg.flags)
    choices = arg.kwargs.get("choices", ())
    about = arg.kwargs["help"] % arg.kwargs if "%(" in arg.kwargs["help"] else arg.kwargs["help"]
    named = [choice for choice in choices if not re.search(rf"\b{choice}\b", about)]
    return f"- {flags}{given}: {about}" + (f"; {' or '.join(f'`{choice}`' for choice in choices)}" if named else "")


def connection_extras() -> str:
    """Return the extras of a connection, as its form explains them."""
    (connection_type,) = get_provider_info()["connection-types"]
    rows = (
        f"| `{name}` | {_types(field['schema']['type'])} | {_code(field['description'])} |"
        for name, field in connection_type["conn-fields"].items()
    )
    return "\n".join(["| Extra | Type | Meaning |", "|---|---|---|", *rows])


def _types(types: list[str]) -> str:
    return " or ".join(name for name in types if name != "null")


def _code(text: str) -> str:
    """Mark the JSON in a description as code."""
    return re.sub(r"\{.*\}", r"`\g<0>`", text)


def error_codes() -> str:
    """Return the table of the gateway's codes, and an index of them: Sphinx's search finds no number in a text."""
    index = "\n".join(["<!-- sphinx", "```{index} " + ", ".join(map(str, errors.CODES)), "```", "-->"])
    return f"{index}\n\n{_meanings('Code', errors.CODES)}"


def http_statuses() -> str:
    """Return the table of HTTP statuses without a known code."""
    return _meanings("HTTP status", errors.STATUSES)


def _meanings(title: str, table: Mapping[Any, Any]) -> str:
    """Return a table with one row for all keys that mean the same."""
    keys: dict[Any, list[str]] = {}
    for key, meaning in table.items():
        keys.setdefault(meaning, []).append(str(key))
    rows = []
    for meaning, of_it in keys.items():
        retryable = meaning.error.retryable if meaning.retryable is None else meaning.retryable
        rows.append(
            f"| {', '.join(_ranges(of_it))} | `{meaning.error.__name__}` | {'yes' if retryable else 'no'} | "
            f"{meaning.advice} |"
        )
    return "\n".join([f"| {title} | Class | Retried | What to do |", "|---|---|---|---|", *rows, ""])


def _ranges(keys: list[str]) -> Iterator[str]:
    """Yield keys, those in a row as one range."""
    start = last = keys[0]
    for key in [*keys[1:], ""]:
        if key and int(key) == int(last) + 1:
            last = key
            continue
        yield start if start == last else f"{start} to {last}"
        start = last = key


PAGE_OF = {"commands": "cli.md", "extras": "connection.md", "codes": "errors.md", "statuses": "errors.md"}
PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "extras": connection_extras,
    "codes": error_codes,
    "statuses": http_statuses,
}

if __name__ == "__main__":
    for page, page_text in pages().items():
        page.write_text(page_text, encoding="utf-8")
