"""How commands run, print and fail: with one line on stderr and exit code 1, and without logs in between.

All output passes through :func:`printable`, because ids, models and messages come from a gateway, and a terminal
interprets control characters.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.exceptions import KirinError

Command = Callable[[Namespace], None]
_MAX_LINE = 4000
#: How messages name an operator's argument, and how a shell does.
_SHELL_WORDS = {
    "payloads = ": "the table ",
    "must be a list of rows, or the path": "must be the path",
    "set allow_unknown_model=True": "give --allow-unknown-model",
    'set on_bad_row="skip"': "give --on-bad-row skip",
    'on_bad_row="skip"': "--on-bad-row skip",
    "on_bad_row='skip'": "--on-bad-row skip",
    "max_cost_usd": "--max-cost-usd",
    "`key`": "--key",
    "overwrite=False": "--no-overwrite",
}


def command(function: Command) -> Command:
    """Turn a function into a command of Airflow's command line.

    :param function: prints its result to stdout, and raises an exception if it fails
    """

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        from airflow.utils.cli import suppress_logs_and_warning

        # Airflow's own commands do the same, so that connections in its metadata database are found.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            suppress_logs_and_warning(function)(args)
        except (Exception, KeyboardInterrupt) as error:
            if args.verbose:
                raise
            fail(error if isinstance(error, KirinError) else _describe(error))

    return run


def _describe(error: BaseException) -> str:
    described = f"{type(error).__name__}: {error}".rstrip(": ")
    if type(error).__module__ == "sqlalchemy.exc":
        return f"Airflow's metadata database cannot be read. Is it migrated (airflow db migrate)? {described}"
    return described


def fail(message: Any, *, in_shell_words: bool = True) -> NoReturn:
    """Print one line to stderr and exit with code 1.

    :param message: a string or an exception
    :param in_shell_words: see :func:`echo`
    """
    echo(one_line(message, _MAX_LINE), in_shell_words=in_shell_words)
    raise SystemExit(1)


def confirm(args: Namespace, question: str, *, is_stdin_free: bool = True) -> None:
    """Ask whether to spend money, unless ``--yes`` was given; exit with code 1 if the answer is not yes.

    :param args: yes
    :param question: without its question mark
    :param is_stdin_free: whether standard input can be asked
    """
    if args.yes:
        return
    if not is_stdin_free or not sys.stdin.isatty():
        fail("this costs money and cannot be confirmed without a terminal: give --yes. Nothing was submitted.")
    print(f"kirin: {printable(question)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        fail("nothing was submitted.")


def absolute(path: str) -> str:
    """Return a path or URI with a relative path resolved against the current folder.

    :param path: what was given on the command line
    """
    return str(Path(path).expanduser().absolute()) if "://" not in path and path.strip() else path


def echo(message: str, *, in_shell_words: bool = True) -> None:
    """Print a message to stderr; results go to stdout, through :func:`show`.

    :param in_shell_words: whether to name options instead of an operator's arguments
    """
    if in_shell_words:
        for argument, option in _SHELL_WORDS.items():
            message = message.replace(argument, option)
    print(f"kirin: {printable(message)}", file=sys.stderr)


def show(result: str) -> None:
    """Print a result to stdout.

    :param result: text or JSON, in which escaping a character does not change the value
    """
    # Flushed, so that what goes to stderr afterwards also stands after it in a log of both.
    print(printable(result), flush=True)


def show_rows(rows: list[dict[str, Any]], output: str) -> None:
    """Print a table to stdout, as Airflow's own commands do.

    :param rows: what was found
    :param output: table, json, yaml or plain
    """
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    def safe(value: Any) -> Any:
        if isinstance(value, list):
            return [safe(each) for each in value]
        if value is None and output in ("table", "plain"):
            return ""
        # Airflow's console takes what is in square brackets for its own markup.
        text = printable(value) if isinstance(value, str) else value
        return escape(text) if isinstance(text, str) and output == "table" else text

    AirflowConsole().print_as(data=[{name: safe(value) for name, value in row.items()} for row in rows], output=output)


def printable(text: str) -> str:
    """Return a string with everything but printable characters and line breaks escaped, as in JSON.

    :param text: may contain anything that a gateway sent
    """
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


class ConsoleLog:
    """The logger of a command's hook: it prints warnings, such as why a call waits, to the console."""

    def warning(self, message: object, *args: object) -> None:
        """Print a warning.

        :param message: a format string, as for :mod:`logging`
        """
        echo(one_line(str(message) % args if args else message, _MAX_LINE))

    def info(self, message: object, *args: object) -> None:
        """Print nothing: the command prints its own result."""

    debug = info
