"""``python -m airflow_provider_kirin COMMAND``: the commands of ``airflow kirin``, on every Airflow."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; exit with 1 if it fails, with 2 for wrong arguments.

    :param argv: the arguments, by default those of this process
    """
    from airflow_provider_kirin import __version__
    from airflow_provider_kirin.cli.definition import get_kirin_cli_commands

    (group,) = get_kirin_cli_commands()
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_kirin", description=f"{group.help}.")
    parser.add_argument("--version", action="version", version=f"airflow-provider-kirin {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in group.subcommands:
        sub = subparsers.add_parser(command.name, help=command.help, description=command.description or command.help)
        for arg in command.args:
            arg.add_to_parser(sub)
        sub.set_defaults(func=command.func)
    args = parser.parse_args(argv)
    args.func(args)


if __name__ == "__main__":
    main(sys.argv[1:])
