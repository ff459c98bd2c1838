"""The plots of docs/explanation/comparison.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import PEERS

if TYPE_CHECKING:
    from benchmarks.night.table import Grown
    from benchmarks.report import Results
    from benchmarks.waiting import Waiting

_OURS, _THEIRS = "#7b3fe4", ["#4f9d69", "#8a8f98", "#d98c2b", "#2b8ca8"]


def plot(results: Results, folder: Path) -> None:
    """Draw growth and frontier as SVG.

    :param results: what was measured
    :param folder: where to put them
    """
    _set_up(folder)
    _growth(results.waiting, folder / "growth.svg")
    _frontier(results.frontier, folder / "frontier.svg")


def plot_table(runs: Sequence[Grown], file: Path) -> None:
    """Draw what a batch costs a row, against the number of its rows, as SVG.

    :param runs: one of each size
    :param file: where to put it
    """
    _set_up(file.parent)
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(9, 3.2))
    rows = [one.rows for one in runs]
    for axis, label, values in (
        (axes[0], "CPU-seconds a row", [one.cpu / one.rows for one in runs]),
        (axes[1], "rows a second", [one.rows / one.makespan for one in runs]),
        (axes[2], "memory of the task, MB", [one.memory for one in runs]),
    ):
        axis.plot(rows, values, "o-", color=_OURS)
        axis.set(xscale="log", xlabel="rows of the table", ylabel=label)
        axis.set_ylim(bottom=0)
    _save(figure, file)


def _set_up(folder: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # The same figures make the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "kirin", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3})
    folder.mkdir(exist_ok=True)


def _growth(waiting: list[Waiting], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    colours = dict(zip(PEERS, [_OURS, *_THEIRS], strict=True))
    by_peer: dict[str, list[Waiting]] = defaultdict(list)
    for one in waiting:
        by_peer[one.peer].append(one)
    for axis, field, label in (
        (axes[0], "cpu_per_poll", "CPU a poll, ms"),
        (axes[1], "memory_per_wait", "memory a wait, kB"),
    ):
        for peer, runs in by_peer.items():
            values = [max(getattr(one, field), 0.1) for one in runs]
            axis.plot([one.waits for one in runs], values, "o-", color=colours[peer], label=PEERS[peer].title)
        axis.set(xscale="log", yscale="log", xlabel="waits in one process", ylabel=label)
    axes[0].legend(fontsize=8)
    _save(figure, file)


def _frontier(points: dict[str, dict[str, Any]], file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(points), figsize=(9, 4.2), sharey=True, squeeze=False)
    for axis, (title, table) in zip(axes[0], points.items(), strict=True):
        for name, at in table.items():
            ours = name.startswith("Kirin")
            axis.plot(at.requests, 100 * at.delay_share, "o" if ours else "s", color=_OURS if ours else _THEIRS[0])
            axis.annotate(
                name.removeprefix("Kirin, "),
                (at.requests, 100 * at.delay_share),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=7,
            )
        axis.set(xscale="log", yscale="log", xlabel="requests a generation", title=f"generations of {title}")
    axes[0][0].set_ylabel("mean delay of noticing, % of the generation")
    _save(figure, file)


def _save(figure: Any, file: Path) -> None:
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
