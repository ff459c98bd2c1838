"""Print the changelog's section of this version: ``make release-notes``. An error if it is not ready for a tag."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import requests

from airflow_provider_kirin import __version__

ROOT = Path(__file__).resolve().parent.parent


def notes(changelog: str, version: str) -> str:
    """Return the section of a version.

    :param changelog: the whole file
    :param version: such as 1.2.3
    """
    heading = re.search(rf"^## {re.escape(version)} \((.+)\)$", changelog, flags=re.MULTILINE)
    if heading is None:
        sys.exit(f"error: CHANGELOG.md has no section '## {version} (date)'")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", heading[1]):
        sys.exit(
            f"error: CHANGELOG.md says '{heading[1]}' for {version}: give it the date of the release, as 2026-01-31"
        )
    return changelog[heading.end() :].partition("\n## ")[0].strip()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=30).ok
    except requests.RequestException:
        return False


def main() -> None:
    """Read the command line, check, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", action="store_true", help="print the version only")
    parser.add_argument("--tag", help="the tag that is to be released")
    parser.add_argument("--check-urls", action="store_true", help="ask whether the project's addresses answer")
    options = parser.parse_args()
    if options.version:
        print(__version__)
        return
    if options.tag not in (None, f"v{__version__}"):
        sys.exit(
            f"error: the tag {options.tag} does not fit version {__version__} of airflow_provider_kirin/__init__.py"
        )
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    if changed.stdout:
        sys.exit(f"error: not everything is committed:\n{changed.stdout}")
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    for name, url in urls.items():
        if options.check_urls and not _answers(url):
            sys.exit(f"error: {name} of [project.urls] in pyproject.toml, {url}, does not answer: PyPI's page shows it")
    print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__))


if __name__ == "__main__":
    main()
