"""The Kirin pages in Chromium, in Airflow's own frame: a real API server, the emulator, and a gateway that hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.browser import new_page, play
from tests.support.emulator import KEY
from tests.support.site import Site
from tests.support.waiting import until

pytestmark = pytest.mark.system
EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("pages"), stack)


@pytest.fixture
def sample(site, request) -> Callable[..., Any]:
    """Store a generation of this test's own, and return the path of its page."""
    from benchmarks.gallery import Sample

    def sample(kirin_task_id: str, **fields: Any) -> str:
        one = Sample(kirin_task_id, f"dag_{request.node.name}", "run", NOW - timedelta(seconds=5), **fields)
        site.store(one)
        return f"{site.url}/plugin/kirin?ti={quote(f'{one.dag_id}/{one.run_id}/{one.task_id}/-1', safe='')}"

    return sample


def number(page: Any) -> int:
    return int(page.locator(".k-number").inner_text().rstrip(" %…") or -1)


def test_progress_moves_and_then_the_video_plays_from_the_gateway(site, page, sample):
    page.goto(sample(site.submit(30), state="deferred"))
    page.wait_for_function("/[0-9]/.test(document.querySelector('.k-number')?.textContent)")
    first = number(page)
    page.wait_for_function(f"parseInt(document.querySelector('.k-number')?.textContent ?? 100) > {first}")
    play(page)
    assert page.locator(".k-badge").inner_text() == "Completed"
    assert page.locator(".k-cost").inner_text() == "$0.28"
    assert "Signature" not in page.content() and KEY not in page.content()


def test_a_stored_file_is_played_and_seeks_without_the_gateway(site, page, sample):
    path = site.save_video(kirin_task_id := site.submit(0))
    asked = len(site.emulator.requests())
    parts: list[int] = []
    page.on("response", lambda response: "/api/video/" in response.url and parts.append(response.status))
    page.goto(sample(kirin_task_id, usage={"at": NOW.isoformat()}, files=[path.as_uri()]))
    play(page)
    page.evaluate("document.querySelector('video').currentTime = 4")
    page.wait_for_function(
        "!document.querySelector('video').seeking && document.querySelector('video').currentTime >= 4"
    )
    assert set(parts) == {206}
    assert len(site.emulator.requests()) == asked


def test_a_prompt_is_text_whatever_is_in_it(site, page, sample):
    usage = {"status": "failed", "error": {"code": EVIL, "message": EVIL}}
    url = sample(
        "evil", order={"prompt": EVIL, "settings": {EVIL: EVIL}, "images": {EVIL: f"file:///{EVIL}"}}, usage=usage
    )
    for address in (url, f"{site.url}/plugin/kirin"):
        page.goto(address)
        page.get_by_text(EVIL).first.wait_for()
        assert page.evaluate("window.hacked") is None


def test_a_prompt_is_shown_in_its_own_direction(site, page, sample):
    prompt = "فنجان قهوة (espresso) على الطاولة، 4K!"
    url = sample("arabic", order={"prompt": prompt, "negative_prompt": prompt}, usage={})
    page.goto(url)
    page.locator("blockquote").wait_for()
    direction = "(each) => getComputedStyle(each).direction"
    assert page.locator("blockquote").evaluate(direction) == "rtl"
    assert page.locator(".k-negative bdi").evaluate(direction) == "rtl"
    page.goto(f"{site.url}/plugin/kirin")
    assert page.locator(".k-tile[data-id=arabic] .k-prompt").evaluate(direction) == "rtl"


def test_a_video_that_is_gone_cannot_be_downloaded(site, page, sample):
    page.goto(sample("gone", usage={}, files=["s3://elsewhere/gone.mp4"]))
    page.get_by_text("its file is not below [kirin] media_roots").wait_for()
    assert page.get_by_text("Download", exact=True).count() == 0


def test_a_batch_is_one_card_and_its_page_follows_it(site, browser, sample):
    def batch(at: int, **counts: int) -> dict[str, Any]:
        rows = [{"key": f"{EVIL}-{n}", "status": "failed", "code": "77", "error": EVIL * 3} for n in range(3)]
        record = {"manifest": "s3://videos/" + "x" * 300 + "/manifest.jsonl", "rows": 1000, "counts": counts}
        record |= {"failed": 40, "cost": "115.36", "at": (NOW - timedelta(seconds=at)).isoformat()}
        return record | {"reasons": [["failed", EVIL, 40]], "without_video": rows, "seconds_left": 600}

    url = sample("batch", batch=batch(90, saved=412, sent=20, failed=40, todo=528), state="deferred")
    page = new_page(browser, width=360, height=740)
    page.goto(f"{site.url}/plugin/kirin")
    page.locator(".k-batch").click()
    page.get_by_text("412 of 1,000 videos").wait_for()
    page.get_by_text("and 37 more").wait_for()
    assert page.locator(".k-batch-bar").get_attribute("aria-label").startswith("412 with their video, 20 in flight, 40")
    assert page.evaluate("window.hacked") is None and page.url == url
    assert page.evaluate("document.querySelector('.kirin').scrollWidth <= innerWidth")
    page.context.close()


def test_a_gateway_that_hangs_leaves_what_airflow_knows(site, page, sample):
    page.goto(sample("hung", submission={"kirin_conn_id": "hanging"}, order={"prompt": "Waiting"}, state="deferred"))
    page.get_by_text("did not answer within").wait_for()
    assert page.locator("blockquote").inner_text() == "Waiting"


def test_gallery_filters_and_pages(site, page):
    from benchmarks.gallery import samples

    site.store(*(replace(one, dag_id="thousand", files=[]) for one in samples(1000)))
    page.goto(f"{site.url}/plugin/kirin")
    tiles = page.locator(".k-tile")
    tiles.first.wait_for()
    page.select_option("select[name=dag]", "thousand")
    page.locator(".k-tile >> text=thousand").first.wait_for()
    page.get_by_role("button", name="Show older ones").click()
    page.wait_for_function("document.querySelectorAll('.k-tile').length === 48")
    ids = tiles.evaluate_all("tiles => tiles.map((tile) => tile.dataset.id)")
    assert len(set(ids)) == 48
    page.fill("input[name=text]", "no. 998")
    page.wait_for_function("document.querySelectorAll('.k-tile').length === 1")
    page.fill("input[name=text]", "")
    page.select_option("select[name=state]", "failed")
    page.wait_for_function(
        "[...document.querySelectorAll('.k-badge')].every((badge) => badge.textContent === 'Failed')"
    )
    # A tile is a link, by keyboard too, and the way back is the browser's own.
    tiles.first.focus()
    page.keyboard.press("Enter")
    page.locator(".k-alert").first.wait_for()
    page.go_back()
    tiles.first.wait_for()


def test_follows_airflows_theme(site, browser, sample):
    url, inks = sample("themed", order={"prompt": "Dusk"}, usage={}), {}
    for theme in ("light", "dark"):
        page = new_page(browser, theme=theme)
        page.goto(url)
        page.locator("blockquote").wait_for()
        inks[theme] = page.evaluate("getComputedStyle(document.querySelector('blockquote')).color")
        page.context.close()
    assert inks == {"light": "rgb(29, 27, 38)", "dark": "rgb(236, 234, 243)"}


@pytest.mark.parametrize("address", ["plugin/kirin", "kirin/generation/a/b/c/-1", "plugin/kirin?ti=incomplete"])
def test_pages_are_no_wider_than_a_phone(site, browser, address):
    page = new_page(browser, width=360, height=740)
    page.goto(f"{site.url}/{address}")
    page.locator(".kirin h1").wait_for()
    too_wide = """() => [...document.querySelectorAll('.kirin, .kirin *')]
        .filter((each) => each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => each.outerHTML.slice(0, 200))"""
    assert page.evaluate("document.querySelector('.kirin').scrollWidth <= innerWidth"), page.evaluate(too_wide)
    if address == "plugin/kirin":
        page.locator(".k-fact").first.wait_for()
    # Each number and each label is on one line.
    lines = "(all) => all.map((each) => Math.round(each.offsetHeight / parseFloat(getComputedStyle(each).lineHeight)))"
    assert set(page.locator(".k-fact :is(strong, span)").evaluate_all(lines)) <= {1}
    page.context.close()


def test_front_page_of_the_emulator_shows_the_ledger_and_switches_faults_on(site, page):
    kirin_task_id = site.submit(0)
    page.goto(site.emulator.url)
    page.fill("#key", "wrong")
    page.keyboard.press("Enter")
    page.get_by_text("invalid token").wait_for()
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.get_by_text(kirin_task_id, exact=True).wait_for()
    page.get_by_role("button", name="Switch on").click()
    page.get_by_text("status 503 on submit, 1 more").wait_for()
    page.get_by_role("button", name="Clear all").click()
    page.get_by_text("None.").wait_for()
    page.get_by_role("button", name="Play").first.click()
    # Not wait_for_function: the page's content security policy forbids what that does.
    until(lambda: page.evaluate("document.querySelector('dialog video').currentTime > 0"), "the video plays")
