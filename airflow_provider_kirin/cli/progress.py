"""A progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_kirin.cli._runner import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Called with what is done, the total, and a line of text.
ShowProgress = Callable[[float, float, str], None]


@contextmanager
def progress_bar(*, is_shown: bool = True) -> Iterator[ShowProgress]:
    """Show a bar with a line of text below it, in a terminal; elsewhere nothing.

    :param is_shown: whether to show it in a terminal
    """
    if not (is_shown and sys.stderr.isatty()):
        yield lambda done, total, text: None
        return
    # Airflow itself depends on it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeElapsedColumn
    from rich.text import Text

    class Bar(Progress):
        line = ""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            yield Text(self.line, overflow="ellipsis", no_wrap=True)

    columns: list[Any] = [BarColumn(None), TaskProgressColumn(), TimeElapsedColumn()]
    with Bar(*columns, console=Console(stderr=True), expand=True) as bar:
        task = bar.add_task("", total=None)

        def show(done: float, total: float, text: str) -> None:
            bar.line = printable(text)
            bar.update(task, completed=done, total=total)

        yield show
