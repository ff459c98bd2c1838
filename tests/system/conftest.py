"""One Airflow for all scenarios of a session, and their results as a table."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.browser import chromium, find_chromium, new_page
from tests.support.system.campaign import Campaign, chosen


def _own_airflow_home() -> None:
    """Leave the user's own Airflow alone: what is imported in this process makes its files in a folder of its own."""
    for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "_AIRFLOW_"))]:
        del os.environ[name]
    os.environ["AIRFLOW_HOME"] = home = tempfile.mkdtemp(prefix="kirin-system-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)


_own_airflow_home()


@pytest.fixture(scope="module")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    """All chosen scenarios of a test module, under way: on Celery's workers, if the module names some."""
    # SIGTERM ends it as Ctrl-C does: nothing that it started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    campaign = Campaign(chosen(request, "scenario"), getattr(request.module, "WORKERS", ()))
    try:
        campaign.start()
        yield campaign
    finally:
        campaign.stop()
        campaign.write_table()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if find_chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no Chromium: apt-get install chromium")
        pytest.skip("no Chromium here: apt-get install chromium")
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser) -> Iterator[Any]:
    page = new_page(browser)
    yield page
    page.context.close()
