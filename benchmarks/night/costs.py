"""What a run cost: worker-seconds by Airflow's own word, CPU-seconds by the kernel's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

#: CPU-seconds so far, by part.
Cpu = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """What one way's run was like.

    :param way: key of :data:`benchmarks.night.ways.WAYS`
    :param generations: how many
    :param seconds: that each takes
    :param makespan: seconds from the run's start to its end
    :param worker_runs: processes that ran for its tasks
    :param worker_seconds: for which they held a worker
    :param cpu: CPU-seconds by part, less the idle share
    :param posts: requests to the gateway that submit
    :param gets: requests to the gateway that poll
    :param lost: tries of tasks that were lost
    :param blocked: seconds for which the triggerer's event loop stood still, each time that it complained
    :param others: the share of the machine that others used
    :param load: the machine's, at the beginning and at the end
    :param ended_at: when
    """

    way: str
    generations: int
    seconds: float
    makespan: float
    worker_runs: int
    worker_seconds: float
    cpu: Cpu
    posts: int
    gets: int
    lost: int
    blocked: list[float]
    others: float
    load: tuple[float, float]
    ended_at: str


@dataclass(frozen=True)
class WorkerRuns:
    """Runs of task processes.

    :param count: how many; a task that defers and resumes on a worker has two
    :param seconds: for which they held a worker's slot, in sum
    """

    count: int
    seconds: float


def worker_runs(lines: Iterable[str]) -> WorkerRuns:
    """Read the scheduler's log, in which each worker of a LocalExecutor says how long it was busy with a task.

    A worker begins to count before it starts the task's process, and stops after that process has ended.

    :param lines: of JSON, and others, which are passed over
    """
    durations = []
    for line in lines:
        if "Workload finished" not in line:
            continue
        try:
            said = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"Airflow's log is not the JSON that was asked for: {line[:200]!r}") from error
        if said["event"] == "Workload finished" and said["workload_type"] == "ExecuteTask":
            durations.append(float(said["duration"]))
    return WorkerRuns(len(durations), sum(durations))


def taken_for_dead(lines: Iterable[str]) -> list[str]:
    """Read a scheduler's log: the states of tasks that it took for dead, because it read the end of a run too late.

    :param lines: of the log
    """
    found = (re.search(r"state attribute is (\w+)", line) for line in lines)
    return [match[1] for match in found if match]


def blocked(lines: Iterable[str]) -> list[float]:
    """Read a triggerer's log: the seconds of each complaint that its event loop stood still (0.2 or more).

    :param lines: of the log
    """
    found = (re.search(r"async thread was blocked for ([0-9.]+) seconds", line) for line in lines)
    return [float(match[1]) for match in found if match]


def cpu_of(pids: Mapping[str, int]) -> Cpu:
    """Return the CPU-seconds that parts have used so far, with those of their children, ended ones included.

    A parent inherits what its children used when it has waited for them, as Airflow's and PostgreSQL's do. Of the
    scheduler its workers are set apart: they are its children, and the tasks' processes theirs.

    :param pids: by part
    """
    used: Cpu = {}
    for part, pid in pids.items():
        process = psutil.Process(pid)
        own = process.cpu_times()
        rest = own.children_user + own.children_system
        for child in process.children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            rest += times.user + times.system + times.children_user + times.children_system
        if part == "scheduler":
            used["workers and tasks"] = rest
            rest = 0.0
        used[part] = own.user + own.system + rest
    return used


def busy_seconds() -> float:
    """Return the CPU-seconds that this machine has spent on anything so far."""
    times = psutil.cpu_times()
    # What a guest used is in user and nice already.
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


def above_idle(before: Cpu, after: Cpu, idle: Cpu, seconds: float) -> Cpu:
    """Return what was used between two samples, less what would have been used in any case.

    :param before: the first sample
    :param after: the second
    :param idle: CPU-seconds a second of each part when there is nothing to do
    :param seconds: between the samples
    """
    return {part: after[part] - before[part] - idle.get(part, 0.0) * seconds for part in after}
