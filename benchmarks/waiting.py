"""What waiting costs: many waits in one process, as in a triggerer; CPU for each poll, lag of the loop, memory.

One process measures one peer: `python -m benchmarks.waiting kirin 1000 2 --gateway URL` prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import psutil

from benchmarks.gateway import RunningGateway, gateway, running_ids
from benchmarks.peers import HOSTILE, PEERS

#: What can be measured.
_PEERS = PEERS | {"hostile": HOSTILE}
#: Seconds between samples of the loop's lag.
_SAMPLE = 0.02
#: Seconds for imports, and for a slow peer, before a peer counts as unable.
_PATIENCE = 120.0
#: Longer than any measurement.
_GENERATION_SECONDS = 1800.0


class Unable(Exception):
    """A peer cannot keep up with this many waits on this machine."""


@dataclass(frozen=True)
class Waiting:
    """What one peer's waits cost.

    :param peer: key of :data:`benchmarks.peers.PEERS`
    :param waits: how many there were at the same time
    :param interval: seconds between polls of one wait, as asked for
    :param polls_per_second: as counted at the gateway
    :param cpu_per_poll: milliseconds of this process
    :param lag_p99: milliseconds by which the event loop was late, in 99 of 100 samples at most
    :param lag_max: the same, of all samples
    :param memory_per_wait: kB
    :param broken: waits that their trigger gave up, because the process could not keep up
    :param gateway_load: the share of a core that the gateway used: below 1, or it was the bottleneck
    """

    peer: str
    waits: int
    interval: float
    polls_per_second: float
    cpu_per_poll: float
    lag_p99: float
    lag_max: float
    memory_per_wait: float
    broken: int
    gateway_load: float


async def measure(peer: str, waits: int, interval: float, at: RunningGateway, *, seconds: float) -> Waiting:
    """Start the waits, spread over one interval; measure when all are running, until each was polled again.

    :param peer: key of :data:`benchmarks.peers.PEERS`
    :param waits: how many at the same time
    :param interval: seconds between polls of one wait
    :param at: the gateway
    :param seconds: how long to measure at least
    """
    start = _PEERS[peer].prepare(at.url, interval)
    counted = _PEERS[peer].counted
    gc.collect()
    before = _memory()
    began = time.monotonic()
    running = []
    for number, kirin_task_id in enumerate(running_ids(waits, _GENERATION_SECONDS)):
        await asyncio.sleep(max(0.0, began + interval * number / waits - time.monotonic()))
        running.append(asyncio.ensure_future(start(kirin_task_id)))
    await asyncio.sleep(min(interval, 2.0))
    lags: list[float] = []
    sampler = asyncio.create_task(_sample(lags))
    window = await _window(at, counted, max(seconds, interval))
    grown = _memory() - before
    sampler.cancel()
    broken = sum(one.done() for one in running)
    for one in running:
        one.cancel()
    if broken == waits:
        raise RuntimeError(f"All waits of {peer} broke")
    lags.sort()
    return Waiting(
        peer=peer,
        waits=waits,
        interval=interval,
        polls_per_second=window.polls / window.seconds,
        cpu_per_poll=1000 * window.cpu / max(window.polls, 1),
        lag_p99=1000 * lags[int(0.99 * len(lags))],
        lag_max=1000 * lags[-1],
        memory_per_wait=grown / 1024 / waits,
        broken=broken,
        gateway_load=window.gateway_cpu / window.seconds,
    )


@dataclass(frozen=True)
class _Window:
    polls: int
    cpu: float
    seconds: float
    gateway_cpu: float


async def _window(at: RunningGateway, counted: str, seconds: float) -> _Window:
    polls, gateway_cpu = await asyncio.to_thread(at.counts, counted)
    cpu, clock = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, clock = time.process_time() - cpu, time.monotonic() - clock
    now = await asyncio.to_thread(at.counts, counted)
    return _Window(now[0] - polls, cpu, clock, now[1] - gateway_cpu)


async def _sample(lags: list[float]) -> None:
    while True:
        due = time.monotonic() + _SAMPLE
        await asyncio.sleep(_SAMPLE)
        lags.append(time.monotonic() - due)


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def measured(peer: str, waits: int, interval: float, at: RunningGateway, *, seconds: float) -> Waiting:
    """Measure one peer in a fresh process; the arguments are those of :func:`measure`.

    :raises Unable: it could not keep up
    """
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.waiting", peer, str(waits), str(interval)]
    command += ["--gateway", at.url, "--seconds", str(seconds)]
    # Into a file: what Airflow logs at INFO of each wait is written, as in a triggerer, and is part of the cost.
    with tempfile.TemporaryFile("w+") as log:
        try:
            subprocess.run(command, stdout=log, check=True, timeout=2 * interval + seconds + _PATIENCE)
        except subprocess.TimeoutExpired as late:
            raise Unable(f"not measured within {late.timeout:.0f} s") from None
        except subprocess.CalledProcessError:
            raise Unable("its waits broke") from None
        log.seek(0)
        return Waiting(**json.loads(log.readlines()[-1]))


def main() -> None:
    """Measure one peer, here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=_PEERS)
    parser.add_argument("waits", type=int)
    parser.add_argument("interval", type=float)
    parser.add_argument("--seconds", type=float, default=9.0)
    parser.add_argument("--gateway", help="its URL; without one, one is started")
    given = parser.parse_args()
    # Ten thousand waits of some peers need as many sockets.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    if given.gateway is None:
        with gateway() as started:
            print(measured(given.peer, given.waits, given.interval, started, seconds=given.seconds))
        return
    at = RunningGateway(given.gateway)
    result = asyncio.run(measure(given.peer, given.waits, given.interval, at, seconds=given.seconds))
    print(json.dumps(dataclasses.asdict(result)), flush=True)
    os._exit(0)  # threads of the SDK wait on


if __name__ == "__main__":
    main()
