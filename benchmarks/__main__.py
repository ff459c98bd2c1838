"""Measure everything, side by side on this machine; print the tables, and renew the page Comparison and its plots.

`make bench` runs this, and fails where a goal is missed. `--quick` measures little, judges nothing and writes nothing
into docs/: it shows that everything still runs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks import downloading, frontier, importing, submitting, waiting
from benchmarks.gateway import RunningGateway, gateway
from benchmarks.goals import goals
from benchmarks.machine import describe_machine
from benchmarks.peers import PEERS
from benchmarks.pictures import draw
from benchmarks.report import Results, figures, renew

ROOT = Path(__file__).resolve().parent.parent
#: Waits at a time, and seconds between two polls of one: 500 polls a second each time, so that CPU for each compares.
LOADS = ((100, 0.2), (1000, 2.0), (10_000, 20.0))
QUICK_LOADS = ((20, 0.2),)


def measure(*, quick: bool) -> Results:
    """Measure everything.

    :param quick: little, in half a minute
    """
    repeats, video = (1, 1 << 20) if quick else (5, 1 << 30)
    with gateway() as at, tempfile.TemporaryDirectory() as folder:
        machine = describe_machine()
        waits, unable = _waiting(at, quick=quick)
        return Results(
            machine=machine,
            importing={name: importing.measured(code, repeats=repeats) for name, code in importing.CODE.items()},
            submitting=_submitting(at, Path(folder), repeats, scale=0.2 if quick else 1.0),
            waiting=waits,
            hostile=waiting.measured("hostile", 20, 0.5, at, seconds=1 if quick else 10),
            unable=unable,
            downloading=downloading.measured(f"{at.url}/video/{video}", Path(folder), repeats=repeats),
            video_size=video,
            frontier={
                title: frontier.table(draw_durations(100 if quick else 3000))
                for title, draw_durations in frontier.DURATIONS.items()
            },
        )


def _submitting(
    at: RunningGateway, folder: Path, repeats: int, *, scale: float
) -> dict[str, dict[str, submitting.Submitting]]:
    pictures = {kind: draw(folder, kind, scale=scale) for kind in ("JPEG", "PNG")}
    return {
        f"{kind}, {file.stat().st_size / 1e6:.1f} MB": submitting.measured(file, at.url, repeats=repeats)
        for kind, file in pictures.items()
    }


def _waiting(at: RunningGateway, *, quick: bool) -> tuple[list[waiting.Waiting], list[str]]:
    """Return what was measured, and who was not, with the reason."""
    results, unable = [], []
    for waits, interval in QUICK_LOADS if quick else LOADS:
        for name, peer in PEERS.items():
            case = f"{peer.title}, {waits:,} waits"
            print(f"{case} ...", flush=True)
            try:
                if peer.most_waits is not None and waits > peer.most_waits:
                    raise waiting.Unable(peer.why_not_more)
                results.append(waiting.measured(name, waits, interval, at, seconds=1 if quick else 6))
            except waiting.Unable as reason:
                unable.append(f"{case}: {reason}")
    return results, unable


def main() -> None:
    """Measure, print, and renew the docs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--into", type=Path, help="a folder with explanation/comparison.md and images/, as docs/ is")
    given = parser.parse_args()
    # A proxy of this machine has no business on the loopback address.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    started = time.monotonic()
    results = measure(quick=given.quick)
    print(text := figures(results))
    kept = ROOT / "build" / "benchmarks.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(dataclasses.asdict(results), indent=1))
    if into := given.into or (None if given.quick else ROOT / "docs"):
        from benchmarks.plots import plot

        renew(into / "explanation" / "comparison.md", text)
        plot(results, into / "images")
    print(f"All of it took {time.monotonic() - started:.0f} s; every figure is in {kept.relative_to(ROOT)}")
    missed = [goal.title for goal in goals(results) if not goal.is_met]
    if missed and not given.quick:
        raise SystemExit(f"Missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
