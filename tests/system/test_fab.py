"""The Kirin pages with the FAB auth manager: a real API server, its real login, a user of each role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from benchmarks.gallery import Sample
from tests.support.browser import play
from tests.support.site import Site
from tests.support.waiting import HANG

pytestmark = pytest.mark.system
PASSWORD = "a password of a test"
#: One that may read one DAG, and one that may read all DAGs but no XComs.
ROLES = {
    "OneDag": [("can_read", "DAG:shown"), ("can_read", "XComs"), ("can_read", "Website")],
    "NoXComs": [("can_read", "DAGs"), ("can_read", "Website")],
}
USERS = ("Viewer", "User", "Op", "Admin", "Public", *ROLES)
ADD_USERS = f"""
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    manager = builder.sm
    for role, permissions in {ROLES!r}.items():
        manager.add_role(role)
        for action, resource in permissions:
            permission = manager.create_permission(action, resource)
            manager.add_permission_to_role(manager.find_role(role), permission)
    for name in {USERS!r}:
        assert manager.add_user(name, name, name, name + "@example.com", manager.find_role(name), {PASSWORD!r})
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    """Two DAGs with a generation each, of which one has a stored video."""
    manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    with ExitStack() as stack:
        site = Site(tmp_path_factory.mktemp("fab"), stack, AIRFLOW__CORE__AUTH_MANAGER=manager)
        kirin_task_id = site.submit(0)
        now = datetime.now(UTC)
        end: dict[str, Any] = {"usage": {"at": now.isoformat(), "cost": "0.5"}}
        site.store(
            Sample(kirin_task_id, "shown", "run", now, files=[site.save_video(kirin_task_id).as_uri()], **end),
            Sample("hidden", "hidden", "run", now, **end),
        )
        site.run(ADD_USERS)
        yield site


def get(site: Site, user: str, path: str, **headers: str) -> requests.Response:
    """Open a path as a user."""
    login = {"username": user, "password": PASSWORD}
    token = requests.post(f"{site.url}/auth/token", json=login, timeout=HANG).json()["access_token"]
    headers |= {"Authorization": f"Bearer {token}"}
    return requests.get(f"{site.url}/kirin/{path}", headers=headers, timeout=HANG, allow_redirects=False)


@pytest.mark.parametrize("user", ["Viewer", "User", "Op", "Admin"])
def test_login_leads_to_the_gallery_the_generation_and_its_video(site, page, user):
    page.goto(f"{site.url}/kirin/generation/shown/run/generate/-1")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    play(page)
    # Airflow's own frame is for those who may see plugins.
    is_framed = user in ("Op", "Admin")
    assert ("/plugin/kirin" in page.url) == is_framed
    page.goto(f"{site.url}/kirin/")
    page.locator(".k-tile").nth(1).wait_for()
    assert ("/plugin/kirin" in page.url) == is_framed
    page.get_by_text("$1.00").first.wait_for()


@pytest.mark.parametrize(("user", "readable"), [("OneDag", ["shown"]), ("NoXComs", []), ("Public", [])])
def test_nothing_is_shown_of_dags_that_a_role_may_not_read(site, user, readable):
    gallery, sums = (get(site, user, f"api/{name}").json() for name in ("generations", "summary"))
    assert gallery["dags"] == [card["dag_id"] for card in gallery["cards"]] == readable
    assert (sums["generations"], [*sums["days"].values()]) == (len(readable), [{"shown": "0.5"}] * len(readable))
    (kirin_task_id,) = [path.stem for path in site.videos.iterdir()]
    for dag_id, own in (("shown", kirin_task_id), ("hidden", "hidden")):
        statuses = {get(site, user, f"api/generation/{dag_id}/run/generate/-1").status_code}
        statuses |= {get(site, user, f"api/video/{dag_id}/run/generate/-1/{own}/0", Range="bytes=0-9").status_code}
        assert statuses == ({200, 206} if dag_id in readable else {403}), dag_id
