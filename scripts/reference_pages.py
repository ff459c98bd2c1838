"""Write the parts of docs/reference/ that come from the code: docs/conf.py does it before each build."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import model_page

from airflow_provider_kirin.api import errors
from airflow_provider_kirin.cli.definition import get_kirin_cli_commands
from airflow_provider_kirin.get_provider_info import get_provider_info


def write(folder: Path) -> None:
    """Write what has changed.

    :param folder: docs/reference
    """
    (folder / "generated").mkdir(exist_ok=True)
    for name, page in PAGES.items():
        path, text = folder / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def commands() -> str:
    """Return what ``--help`` says of each command."""
    (group,) = get_kirin_cli_commands()
    return "\n".join(_help(command) for command in group.subcommands)


def _help(command: Any) -> str:
    # As wide as the page: by default it would depend on the terminal in which they are built.
    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.HelpFormatter(prog, max_help_position=28, width=100)

    parser = argparse.ArgumentParser(
        f"airflow kirin {command.name}", description=command.description or command.help, formatter_class=formatter
    )
    for arg in command.args:
        arg.add_to_parser(parser)
    return f"### {command.name}\n\n```text\n{parser.format_help()}```\n"


def connection_extras() -> str:
    """Return the extras of a connection, as its form explains them."""
    (connection_type,) = get_provider_info()["connection-types"]
    return _definitions(
        (f"`{name}` ({_types(field['schema']['type'])})", field["description"])
        for name, field in connection_type["conn-fields"].items()
    )


def _types(types: list[str]) -> str:
    return " or ".join(name for name in types if name != "null")


def configuration() -> str:
    """Return the options of Airflow's configuration."""
    return _definitions(
        (f"`[{section}] {name}`, default `{option['default'] or '(empty)'}`", option["description"])
        for section, about in get_provider_info()["config"].items()
        for name, option in about["options"].items()
    )


def _definitions(entries: Iterator[tuple[str, str]]) -> str:
    return "\n".join(f"{term}\n: {text}\n" for term, text in entries)


def error_codes() -> str:
    """Return the table of the gateway's codes."""
    return _meanings("Code", errors.CODES)


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


PAGES: Mapping[str, Callable[[], str]] = {
    "models.md": model_page.page,
    "generated/commands.md": commands,
    "generated/extras.md": connection_extras,
    "generated/configuration.md": configuration,
    "generated/codes.md": error_codes,
    "generated/statuses.md": http_statuses,
}

if __name__ == "__main__":
    write(Path(__file__).resolve().parent.parent / "docs" / "reference")
