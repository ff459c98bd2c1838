"""How a command runs, prints and ends: one line on stderr and exit code 1 if something fails, and no logs in between.

All output passes :func:`printable`: ids, models and messages come from a gateway, and a terminal obeys control
characters.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NoReturn

from airflow_provider_kirin.api.redaction import one_line
from airflow_provider_kirin.exceptions import KirinError

Command = Callable[[Namespace], None]
_LONGEST_LINE = 4000


def command(function: Command) -> Command:
    """Make a function a command of Airflow's command line.

    :param function: prints its result on stdout, raises what is wrong
    """

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        from airflow.utils.cli import suppress_logs_and_warning

        # As Airflow's own commands do, so that connections in its metadata database are found.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        try:
            suppress_logs_and_warning(function)(args)
        except (Exception, KeyboardInterrupt) as error:
            if args.verbose:
                raise
            fail(error if isinstance(error, KirinError) else f"{type(error).__name__}: {error}".rstrip(": "))

    return run


def fail(message: Any) -> NoReturn:
    """End with one line on stderr and exit code 1.

    :param message: a text or an exception
    """
    echo(one_line(message, _LONGEST_LINE))
    raise SystemExit(1)


def echo(message: str) -> None:
    """Print what is not a result to stderr.

    :param message: a line
    """
    print(f"kirin: {printable(message)}", file=sys.stderr)


def show(result: str) -> None:
    """Print a result to stdout.

    :param result: text, or JSON: an escaped character is the same JSON as before
    """
    print(printable(result))


def printable(text: str) -> str:
    """Return text with all but printable characters and line breaks escaped, as JSON escapes them.

    :param text: may hold anything that a gateway sent
    """
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


class ConsoleLog:
    """The logger of a command's hook: warnings, such as what a call waits for, go to the person at the console."""

    def warning(self, message: object, *args: object) -> None:
        """Print a warning.

        :param message: as :mod:`logging` takes it
        """
        echo(one_line(str(message) % args if args else message, _LONGEST_LINE))

    def info(self, message: object, *args: object) -> None:
        """Print nothing: the command prints its result."""

    debug = info
