"""Run commands as processes of their own that need not import Airflow again: each is forked from one that has."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: What the commands import, which takes seconds.
_IMPORTED = (
    "airflow.cli.cli_parser",
    "airflow.models",
    "airflow_provider_kirin.__main__",
    "airflow_provider_kirin.cli.commands",
    "airflow_provider_kirin.hooks.kirin",
)


class ForkServer:
    """A process that has imported what the commands need."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.fork_server"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stop(self) -> None:
        """End it."""
        self._process.communicate()

    def run(
        self, module: str, arguments: Sequence[str], *, cwd: Path, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module arguments`` in this process's environment.

        :param module: the module
        :param arguments: the rest of the command line
        :param cwd: the working directory
        :param stdin: what it can read
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = {name: str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")}
            Path(files["stdin"]).write_text(stdin)
            job = {"module": module, "arguments": list(arguments), "cwd": str(cwd), "env": dict(os.environ), **files}
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            stdout, stderr = (Path(files[name]).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([module, *arguments], code, stdout, stderr)


def _serve() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        sys.stderr.flush()
        if (pid := os.fork()) == 0:
            os._exit(_become(job))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _become(job: dict[str, Any]) -> int:
    for number, (name, flags) in enumerate(
        (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY | os.O_CREAT), ("stderr", os.O_WRONLY | os.O_CREAT))
    ):
        os.dup2(os.open(job[name], flags), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ |= job["env"]
    sys.argv = [job["module"], *job["arguments"]]
    sys.modules.pop(f"{job['module']}.__main__", None)
    try:
        runpy.run_module(job["module"], run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    _serve()
