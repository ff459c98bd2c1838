"""Processes that the fault harness starts, looks for and kills: only its own, by their pids."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

HOST = "127.0.0.1"
#: Marks every process that descends from one harness: its value is that harness's folder.
MARK = "KIRIN_FAULTS_HOME"


def free_port() -> int:
    """Return a free port below those that Linux gives to connections: one of these may take it before it is used."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


class Part:
    """A program of the harness, in a session of its own, with a log.

    :param name: of the log
    :param command: what is run
    :param env: its whole environment
    :param folder: for the log
    """

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and add to its log."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def check(self) -> None:
        """Raise with the end of its log if it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"{self.name} has ended:\n{self.tail()}")

    def tail(self, characters: int = 3000) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-characters:]

    def kill(self, *, descendants: bool = True) -> None:
        """SIGKILL it, as a lost machine would be (or only this one process), and wait until it is gone."""
        if self._process is None:
            return
        family = _family(self._process.pid) if descendants else []
        self._process.kill()
        self._process.wait()
        kill_all(family)

    def stop(self, grace: float = 5) -> None:
        """End it politely, then not."""
        if self._process is None:
            return
        family = _family(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace)
        self._process.kill()
        self._process.wait()
        kill_all(family)


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return list(psutil.Process(pid).children(recursive=True))
    return []


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL them; psutil checks that a pid was not given to another process."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def send(pid: int, signum: signal.Signals) -> None:
    """Signal a process; it must be there."""
    os.kill(pid, signum)


def parent_of(pid: int) -> int:
    """Return a process's parent: of a task's process the LocalExecutor worker that supervises it."""
    parent = psutil.Process(pid).parent()
    assert parent is not None
    return parent.pid


def gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_ours(pid: int, home: Path) -> bool:
    """Return whether a process descends from the harness with this folder."""
    try:
        return psutil.Process(pid).environ().get(MARK) == str(home)
    except psutil.Error:
        return False


def settled(pid: int) -> Callable[[], bool]:
    """Return a function that returns True once a process uses no more CPU, as it waits for another."""
    seen: list[float] = []

    def look() -> bool:
        times = psutil.Process(pid).cpu_times()
        seen.append(times.user + times.system)
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    return look


def leftovers(home: Path) -> list[psutil.Process]:
    """Return what still runs of a harness: orphans of parts that were killed."""
    return [process for process in psutil.process_iter() if is_ours(process.pid, home)]
