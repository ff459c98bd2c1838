"""From results to the tables of docs/explanation/comparison.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import frontier, importing, submitting, waiting
from benchmarks.goals import goals
from benchmarks.peers import PEERS

_BEGIN, _END = "<!-- figures of `{}`: begin -->", "<!-- figures of `{}`: end -->"


@dataclass(frozen=True)
class Results:
    """All that was measured.

    :param machine: what it was measured on
    :param importing: by what was imported
    :param submitting: by format of the image, then by way
    :param hostile: waits for generations of a hostile gateway
    :param waiting: one for each peer and load
    :param unable: who was not measured with how many waits, and why
    :param downloading: seconds by way
    :param video_size: bytes
    :param frontier: by kind of durations, then by schedule
    """

    machine: str
    importing: dict[str, importing.Importing]
    submitting: dict[str, dict[str, submitting.Submitting]]
    hostile: waiting.Waiting
    waiting: list[waiting.Waiting]
    unable: list[str]
    downloading: dict[str, float]
    video_size: int
    frontier: dict[str, dict[str, frontier.Point]]


def figures(results: Results) -> str:
    """Return all tables, in Markdown.

    :param results: what was measured
    """
    parts = [
        f"Measured on {results.machine}.",
        "### Goals\n\n" + _goals(results),
        "### Waiting\n\n" + _waiting(results),
        "### Importing\n\n" + _importing(results),
        "### Submitting\n\n" + _submitting(results),
        "### Downloading\n\n" + _downloading(results),
        "### Requests against delay\n\n" + "\n\n".join(_frontier(*one) for one in results.frontier.items()),
    ]
    return "\n\n".join(parts)


def renew(page: Path, text: str, *, command: str = "make bench") -> None:
    """Put the tables into their place in a page.

    :param page: has the two marks
    :param text: what goes between them
    :param command: what measured them, as the marks say
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(_BEGIN.format(command))
    _, end, after = rest.partition(_END.format(command))
    if not (begin and end):
        raise ValueError(f"{page} lacks the marks between which the figures go")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table; all columns but the first are figures.

    :param head: the names of the columns
    :param rows: their cells
    """
    names = list(head)
    lines = [names, ["---", *["---:"] * (len(names) - 1)], *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(value: float, reference: float) -> str:
    """Say how a value compares; what cannot be divided by is not compared."""
    return f"{value / reference:.2f}" if reference > 0 else "-"


def _goals(results: Results) -> str:
    rows = [
        (goal.title, f"{goal.measured:.2f}", f"{goal.most:g}", "yes" if goal.is_met else "NO")
        for goal in goals(results)
    ]
    return table(("", "measured", "at most", "met"), rows)


def _waiting(results: Results) -> str:
    ours = {one.waits: one for one in results.waiting if one.peer == "kirin"}
    rows = [
        (
            PEERS[one.peer].title,
            f"{one.waits:,}",
            f"{one.polls_per_second:.0f} of {one.waits / one.interval:.0f}",
            f"{one.cpu_per_poll:.2f}",
            _times(ours[one.waits].cpu_per_poll, one.cpu_per_poll),
            f"{one.lag_p99:.0f}",
            f"{one.lag_max:.0f}",
            f"{one.memory_per_wait:.0f}",
            one.broken or "",
        )
        for one in results.waiting
    ]
    hostile = results.hostile
    head = (
        "",
        "waits",
        "polls/s",
        "CPU a poll, ms",
        "ours by this",
        "lag p99, ms",
        "lag max, ms",
        "kB a wait",
        "broke",
    )
    busiest = max(one.gateway_load for one in results.waiting)
    return (
        f"{table(head, rows)}\n\n*Broke* are waits whose trigger failed because its process could not keep up. The "
        f"gateway used {busiest:.0%} of a core at most. Not measured: {'; '.join(results.unable) or 'none'}.\n\n"
        f"{hostile.waits} waits of ours for a hostile gateway, {hostile.polls_per_second:.0f} polls a second: the "
        f"event loop was late by {hostile.lag_p99:.0f} ms (p99) and {hostile.lag_max:.0f} ms (max)."
    )


def _importing(results: Results) -> str:
    ours = next(iter(results.importing.values()))
    rows = [
        (name, f"{one.milliseconds:.1f}", one.modules, _times(ours.milliseconds, one.milliseconds))
        for name, one in results.importing.items()
    ]
    return table(("beyond `airflow.sdk`", "CPU, ms", "modules", "ours by this"), rows)


def _submitting(results: Results) -> str:
    rows = [
        (
            f"{picture}: {'KirinHook.submit' if way == 'kirin' else 'requests.post, no checks'}",
            f"{1000 * one.seconds:.0f}",
            f"{1000 * one.cpu_seconds:.0f}",
            f"{one.memory:.0f}",
            _times(one.seconds, ways["bare"].seconds),
            _times(one.memory, ways["bare"].memory),
        )
        for picture, ways in results.submitting.items()
        for way, one in ways.items()
    ]
    return table(("", "time, ms", "CPU, ms", "memory, MB", "time by bare", "memory by bare"), rows)


def _downloading(results: Results) -> str:
    size = results.video_size / 1e6
    rows = [
        (way, f"{seconds:.2f}", f"{size / seconds:,.0f}", _times(seconds, results.downloading["curl"]))
        for way, seconds in results.downloading.items()
    ]
    return table((f"{size:,.0f} MB over loopback", "seconds", "MB/s", "time by curl's"), rows)


def _frontier(title: str, points: dict[str, frontier.Point]) -> str:
    rows = [
        (name, f"{at.requests:.1f}", f"{at.delay:.1f}", f"{at.delay_share:.1%}", f"{at.worst_share:.1%}")
        for name, at in points.items()
    ]
    return table((f"generations of {title}", "requests", "delay, s", "delay, %", "delay, % (p95)"), rows)
