"""How a command runs and ends: one line on stderr and exit code 1 where something fails, and no logs in between."""

from __future__ import annotations

import functools
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NoReturn

from airflow_provider_kirin.api.text import one_line
from airflow_provider_kirin.exceptions import KirinError

Command = Callable[[Namespace], None]


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
    say(one_line(message, 4000))
    raise SystemExit(1)


def say(message: str) -> None:
    """Tell the person something that is no result.

    :param message: a line
    """
    print(f"kirin: {message}", file=sys.stderr)
