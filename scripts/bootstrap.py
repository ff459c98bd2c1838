"""Install this project into a virtualenv, with the pins of constraints/; the Makefile calls it.

Needs only the Python that runs it. It installs with uv, which it gets with pip; if uv is not available or fails, it
installs with pip. Both use the package index that pip is configured with.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(command: list[str | Path], *, env: dict[str, str] | None = None, quiet: bool = False) -> bool:
    """Run a command; return whether it succeeded. The output of a quiet one is shown only if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=quiet, text=True, check=False)
    if quiet and done.returncode:
        print(done.stdout, done.stderr, sep="", file=sys.stderr, end="", flush=True)
    return done.returncode == 0


def create(venv: Path) -> None:
    """Create the virtualenv with the running Python, unless a usable one already exists."""
    python = venv / "bin" / "python"
    probe = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
    if python.exists() and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0:
        return
    print(f"Creating {venv.name} with Python {sys.version.split()[0]}", flush=True)
    if not run([sys.executable, "-m", "venv", "--clear", venv]):
        sys.exit(f"error: {sys.executable} cannot create a virtualenv; on Debian and Ubuntu: apt install python3-venv")


def pip_settings(python: Path) -> dict[str, str]:
    """Return pip's settings as `pip config list` reports them; later sources take precedence."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in listed.stdout.splitlines():
            match = re.fullmatch(rf"{section}\.([a-z-]+)=(.*)", line)
            if match:
                settings[match[1]] = " ".join(shlex.split(match[2]))
    return settings


def uv_environment(python: Path) -> dict[str, str]:
    """Return the environment in which uv uses the index that pip is configured with."""
    pip = pip_settings(python)
    env = dict(os.environ)
    if pip.get("index-url"):
        env.setdefault("UV_DEFAULT_INDEX", pip["index-url"])
    extra = " ".join(url for url in pip.get("extra-index-url", "").split() if not url.startswith("file:"))
    if extra:
        env.setdefault("UV_INDEX", extra)
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # like pip: the best version from all indexes
    if pip.get("trusted-host"):
        env.setdefault("UV_INSECURE_HOST", pip["trusted-host"])
    if pip.get("cert"):
        env.setdefault("SSL_CERT_FILE", pip["cert"])
    return env


def have_uv(venv: Path) -> bool:
    """Return whether the virtualenv has uv, after trying to install it."""
    uv = venv / "bin" / "uv"
    return uv.exists() or run([venv / "bin" / "python", "-m", "pip", "install", "--quiet", "uv>=0.8"], quiet=True)


def install(venv: Path, requirements: list[str | Path], constraints: Path) -> None:
    """Install with uv, or else with pip."""
    python = venv / "bin" / "python"
    arguments: list[str | Path] = ["--quiet", "--constraint", constraints, *requirements]
    if have_uv(venv):
        uv: list[str | Path] = [venv / "bin" / "uv", "pip", "install", "--python", python, "--compile-bytecode"]
        if run([*uv, *arguments], env=uv_environment(python)):
            return
        print("uv failed; trying pip", flush=True)
    pip: list[str | Path] = [python, "-m", "pip", "install"]
    # --group, for PEP 735, came with pip 25.1.
    if not (run([*pip, "--quiet", "pip>=25.1"]) and run([*pip, *arguments])):
        sys.exit("error: the installation failed; is the package index reachable? Try: pip download apache-airflow")


def main() -> None:
    """Read the command line and install."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("--constraints", type=Path, required=True)
    parser.add_argument("--wheel", type=Path, help="what to install in place of the checkout")
    parser.add_argument("--extra", default="emulator")
    parser.add_argument("--group", action="append", default=[], help="a dependency group of pyproject.toml")
    options = parser.parse_args()
    started = time.monotonic()
    venv = options.venv.absolute()
    create(venv)
    print(f"Installing into {venv.name} with the pins of {options.constraints}", flush=True)
    groups = [word for group in options.group for word in ("--group", f"pyproject.toml:{group}")]
    project = [f"{options.wheel}[{options.extra}]"] if options.wheel else ["--editable", f".[{options.extra}]"]
    install(venv, [*project, *groups], options.constraints)
    print(f"Installed in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
