"""The emulator's front page."""

from __future__ import annotations

import re

import requests

from tests.support.waiting import HANG

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_gets_a_page_without_a_key(emulator):
    page = requests.get(f"{emulator.url}/", headers=BROWSER, timeout=HANG)
    assert page.status_code == 200 and page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_it_offers_faults_that_there_are(emulator):
    page = requests.get(f"{emulator.url}/", headers=BROWSER, timeout=HANG).text
    kinds = re.findall("<option>([a-z_]+)", page.partition('name="kind"')[2].partition("</select>")[0])
    assert "lose_response" in kinds
    for kind in kinds:
        emulator.fault(on="submit", kind=kind)


def test_everything_else_keeps_its_401(emulator):
    assert requests.get(f"{emulator.url}/", timeout=HANG).status_code == 401
    for path in (
        "/emulator/ledger",
        "/emulator/requests",
        "/emulator/faults",
        "/model/v1/generation/task/x",
        "/page.html",
    ):
        assert requests.get(f"{emulator.url}{path}", headers=BROWSER, timeout=HANG).status_code == 401, path
