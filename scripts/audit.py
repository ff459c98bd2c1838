"""Known vulnerabilities of what this package brings: ``make audit``.

pip-audit asks the package index. An index without that data, as a mirror may be, answers every question with "none", so
a version that is known to be vulnerable is asked for first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Vulnerable to CVE-2023-43804 and others.
CANARY = "urllib3==2.0.0"


def audit(pins: list[str]) -> dict[str, Any] | None:
    """Return pip-audit's report; None if it could not make one."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pins))
        requirements.flush()
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
        result = subprocess.run(
            [*command, "--format", "json", "--requirement", requirements.name],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        report: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        print(result.stderr.strip()[-2000:], file=sys.stderr)
        return None
    return report


def found(report: dict[str, Any]) -> list[str]:
    """Return a line for each vulnerability of a report."""
    return [
        f"{one['name']} {one['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'no version'}"
        for one in report["dependencies"]
        for hole in one.get("vulns", ())
    ]


def pins_of(constraints: Path) -> list[str]:
    """Return the pins of our own dependencies; those of Airflow are Airflow's to keep."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [*project["dependencies"], *project["optional-dependencies"]["emulator"]]
    names = {requirement.partition(">")[0].lower() for requirement in ours} - {"apache-airflow"}
    lines = (line.partition(" ")[0] for line in constraints.read_text().splitlines())
    return [line for line in lines if line.partition("==")[0] in names]


def main() -> None:
    """Read the command line and audit each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("constraints", type=Path, nargs="+")
    options = parser.parse_args()
    known = audit([CANARY])
    if known is None or not found(known):
        sys.exit(
            f"error: nothing was audited: this package index has no vulnerability data (none for {CANARY}, which has "
            "known ones). Use PyPI itself, or a mirror that serves its JSON API."
        )
    holes = []
    for constraints in options.constraints:
        pins = pins_of(constraints)
        report = audit(pins)
        if report is None:
            sys.exit("error: the audit failed")
        lines = found(report)
        print(f"{constraints}: {len(pins)} packages, {len(lines)} known vulnerabilities", *lines, sep="\n  ")
        holes += lines
    sys.exit(bool(holes))


if __name__ == "__main__":
    main()
