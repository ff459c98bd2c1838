"""The hook of a command."""

from __future__ import annotations

from argparse import Namespace
from contextlib import closing

from airflow_provider_kirin.cli._runner import ConsoleLog
from airflow_provider_kirin.hooks.kirin import KirinHook


def open_hook(args: Namespace) -> closing[KirinHook]:
    """Return the connection's hook. With ``-v`` its full log is shown, otherwise only warnings.

    :param args: conn_id, verbose
    """
    hook = (KirinHook if args.verbose else _ConsoleHook)(args.conn_id)
    # Looked up now, so that a missing connection fails at once instead of being retried.
    _ = hook.connection
    return closing(hook)


class _ConsoleHook(KirinHook):
    log = ConsoleLog()  # type: ignore[assignment]
