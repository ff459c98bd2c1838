"""Shared by `make demo` and `make ui`: an isolated Airflow and the emulator, on this machine only."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import IO

import airflow_provider_kirin

ROOT = Path(__file__).resolve().parent.parent
_IN_WHEEL = Path(airflow_provider_kirin.__file__).parent / "example_dags"
#: Those of the wheel, if the package is installed from one.
EXAMPLES = _IN_WHEEL if (_IN_WHEEL / "__init__.py").exists() else ROOT / "example_dags"
BIN = Path(sys.executable).parent
API_KEY = "demo-key-of-the-emulator"
READY_LINE = re.compile(r"Kirin emulator ready at (http://\S+)")
READY_TIMEOUT = 30.0
END_TIMEOUT = 10.0


def stop_like_ctrl_c() -> None:
    """Let SIGTERM end this process like Ctrl-C, so that everything it started ends too."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def environment(home: Path, emulator_url: str) -> dict[str, str]:
    """Return the environment of an Airflow that shares nothing with the user's.

    :param home: AIRFLOW_HOME: database, logs, configuration and videos
    :param emulator_url: the host of the connection ``kirin_default``
    """
    users_own = ("AIRFLOW_", "_AIRFLOW_", "KIRIN_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(users_own)}
    connection = {"conn_type": "kirin", "host": emulator_url, "password": API_KEY}
    env.update(
        PATH=f"{BIN}{os.pathsep}{env.get('PATH', '')}",
        PYTHONUNBUFFERED="1",
        AIRFLOW_HOME=str(home),
        AIRFLOW__CORE__DAGS_FOLDER=str(EXAMPLES),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{home}/airflow.db",
        AIRFLOW__LOGGING__COLORED_CONSOLE_LOG="False",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        AIRFLOW_CONN_KIRIN_DEFAULT=json.dumps(connection),
        KIRIN_EXAMPLE_OUTPUT=str(home / "videos"),
    )
    return env


def migrate(home: Path, env: dict[str, str]) -> bool:
    """Migrate the database to the installed Airflow; return False if it is already up to date.

    Asking Airflow takes as long as migrating, so a file records the version of the last migration.
    """
    record = home / "migrated-by.txt"
    airflow = version("apache-airflow")
    if (home / "airflow.db").exists() and record.exists() and record.read_text() == airflow:
        return False
    record.unlink(missing_ok=True)
    commands = [["airflow", "db", "migrate"]]
    if airflow.startswith("3.0."):
        # `airflow dags test` registers the assets of a DAG from 3.1 on; 3.0 fails a task whose asset is unknown.
        commands.append(["airflow", "dags", "reserialize"])
    log = home / "migrate.log"
    with log.open("w") as output:
        for command in commands:
            with running(command, env, output) as process:
                status = process.wait()
            if status:
                sys.exit(f"error: `{' '.join(command)}` failed; see {shown(log)}\n{tail(log)}")
    record.write_text(airflow)
    return True


@contextlib.contextmanager
def running(
    command: list[str], env: dict[str, str], output: IO[str] | int, *, grace: float = END_TIMEOUT
) -> Iterator[subprocess.Popen[str]]:
    """Run a command in its own process group, which is ended at the end of the block.

    :param grace: seconds that it has to end by itself
    """
    process = subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        env=env,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end(process, grace)


def end(process: subprocess.Popen[str], grace: float = END_TIMEOUT) -> None:
    """End a process and its children: with SIGTERM, then with SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # children that outlived it


@contextlib.contextmanager
def emulator(home: Path, *, port: int, seconds: float) -> Iterator[str]:
    """Run the emulator on 127.0.0.1 during the block, which gets its base URL.

    :param port: 0 for any free port
    :param seconds: how long a generation takes
    """
    log = home / "emulator.log"
    options = {"--port": port, "--api-key": API_KEY, "--seconds": seconds, "--state-dir": home / "emulator"}
    command = ["python", "-m", "airflow_provider_kirin.emulator"]
    command += [str(word) for option in options.items() for word in option]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("w") as output, running(command, env, output) as process:
        yield _ready_url(process, log)


def _ready_url(process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + READY_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        if found := READY_LINE.search(log.read_text()):
            return found[1]
        time.sleep(0.05)
    sys.exit(f"error: the emulator did not start; see {shown(log)}\n{tail(log)}")


def tail(log: Path, lines: int = 40) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-lines:])


def shown(path: Path) -> str:
    """Return a path for a message: relative if it is below the current directory."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
