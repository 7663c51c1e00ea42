"""The console in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from monitoring.retraining.result import JobResult, Verdict
from tests.support.applications import served
from tests.support.monitoring.browser import NARROW, WIDE, Scheme, chromium, opened, tab_to
from tests.support.monitoring.console_worlds import World, busy, registered

HOSTILE = '<img src=x onerror="document.title=1">'
PATHS = ("/", "/console/models/air", "/console/models/clothes", "/console/models/mood", "/console/jobs/1", "/docs")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def world(tmp_path: Path) -> World:
    return registered(tmp_path)


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with served(world.app) as one:
        yield one


def confirm(page: Page, yes: bool = True) -> list[str]:
    """Answer what the page asks from now on; the questions."""
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        if yes:
            dialog.accept()
        else:
            dialog.dismiss()

    page.on("dialog", answer)
    return asked


@pytest.mark.parametrize(("scheme", "width"), [("light", NARROW), ("dark", WIDE)])
def test_each_page_loads_without_complaint_and_fits_its_window(
    browser: Browser, tmp_path: Path, scheme: Scheme, width: int
) -> None:
    world = busy(tmp_path)
    job = world.retraining.request("air", "hand", "a long reason " * 20)
    world.run(job.id, "a long line " * 50, HOSTILE)
    with served(world.app) as url:
        backs = set()
        for path in PATHS:
            with opened(browser, url, scheme, width) as page:
                page.goto(path)
                if "models/" in path:
                    expect(page.locator("#charts")).not_to_contain_text("Comparing")
                assert page.evaluate("() => document.documentElement.scrollWidth") == width, path
                backs.add(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
                if path.startswith("/console/jobs"):
                    expect(page.locator("#log")).to_contain_text(HOSTILE)
        assert backs == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)"}


def test_a_prediction_is_made_with_the_keyboard_alone(browser: Browser, world: World, url: str) -> None:
    with opened(browser, url) as page:
        page.goto("/")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        page.get_by_role("link", name="air").focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/models/air")
        tab_to(page, "input-distance")
        page.keyboard.type("2.5")
        page.keyboard.press("Tab")
        page.keyboard.type("U")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        answer = page.get_by_role("status", name="Answer")
        expect(answer).to_contain_text("12.5 minutes")
        expect(answer).to_contain_text(" ms.")
        expect(answer).to_contain_text(world.sent[0].headers["x-request-id"])
    assert world.sent[0].content == b'{"distance":2.5,"carrier":"UA"}'


def test_a_retraining_is_asked_for_confirmed_followed_and_seen_to_end(browser: Browser, world: World, url: str) -> None:
    with opened(browser, url) as page:
        asked = confirm(page)
        page.goto("/console/models/air")
        page.get_by_label("Reason, for the audit").fill("the winds have turned")
        page.get_by_role("button", name="Retrain").click()
        page.wait_for_url("**/console/jobs/1")
        assert asked == ["Retrain air on its labelled rows? A version that proves better is promoted."]
        job = page.locator("#job")
        expect(job).to_contain_text("queued")
        expect(job).to_contain_text("the winds have turned")
        world.run(1, "epoch 1", HOSTILE)
        expect(job).to_contain_text("running")
        world.run(1, "epoch 2")
        expect(page.locator("#log")).to_have_text(f"epoch 1\n{HOSTILE}\nepoch 2\n", use_inner_text=False)
        verdict = Verdict(True, "clearly better", (), "rmse", 2.0, 1.0, 0.4, 0.6, 200)
        world.store.journal.extend_job(1, JobResult(verdict=verdict))
        world.end(1)
        expect(job).to_contain_text("clearly better")
        expect(page.locator("#tail")).to_have_text("The job has ended.")
        assert page.locator("[hx-trigger]").count() == 0
        assert page.title() == "Job 1 · Marloop"


def test_live_traffic_is_charted_as_it_comes_and_a_gap_is_told(browser: Browser, world: World, url: str) -> None:
    world.count(5, air={"200": 0, "0.05": 0, "+Inf": 0})
    world.count(5, air={"200": 20, "0.05": 20, "+Inf": 20})
    strokes = set()
    for scheme in ("light", "dark"):
        with opened(browser, url, scheme) as page:
            page.goto("/console/models/air")
            page.get_by_role("link", name="Live traffic").focus()
            page.keyboard.press("Enter")
            charts = page.locator("#traffic-charts")
            picture = charts.get_by_role("img", name="Requests a second, the last 15 minutes: all 4 now, 4 at most")
            expect(picture).to_be_in_viewport()
            curve = picture.locator("polyline")
            strokes.add(curve.evaluate("element => getComputedStyle(element).stroke"))
            if scheme == "light":
                continue
            world.count(5, air={"200": 70, "0.05": 70, "+Inf": 70})
            expect(charts.get_by_role("row", name="all 10 10")).to_be_visible()
            world.count(5)
            expect(charts).to_contain_text("An exporter does not tell what was counted: it answered 503")
            expect(charts.get_by_role("row", name="all – 10")).to_be_visible()
    assert len(strokes) == 2  # the colours of either scheme


def test_what_is_not_confirmed_is_not_done(browser: Browser, world: World, url: str) -> None:
    with opened(browser, url) as page:
        asked = confirm(page, yes=False)
        page.goto("/console/models/air")
        page.get_by_role("button", name="Promote 1.2").click()
        page.get_by_role("button", name="Retrain").click()
        assert len(asked) == 2
    assert world.models.champions()["air"][0] == "1.1"
    assert not world.store.journal.jobs()


def test_a_version_is_promoted_and_rolled_back(browser: Browser, world: World, url: str) -> None:
    with opened(browser, url) as page:
        confirm(page)
        page.goto("/console/models/air")
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="1.2"))
        expect(row).to_contain_text("challenger")
        row.get_by_role("button", name="Promote 1.2").click()
        expect(page.locator("#message")).to_have_text("air 1.2 is champion now.")
        expect(row).to_contain_text("champion")
        expect(page.locator("#jobs")).to_contain_text("promoted")
        row.get_by_role("button", name="Roll back").click()
        expect(page.locator("#message")).to_contain_text("air went back to 1.1")
        expect(row).to_contain_text("retired")


def test_the_token_is_typed_once_and_a_wrong_one_is_told(browser: Browser, tmp_path: Path) -> None:
    world = registered(tmp_path, "secret")
    with served(world.app) as url, opened(browser, url, but="401") as page:
        confirm(page)
        page.goto("/console/models/air")
        page.get_by_role("button", name="Promote 1.2").click()
        expect(page.locator("#message")).to_contain_text("MARLOOP_TOKEN")
        expect(page.get_by_label("Token")).to_be_focused()
        page.keyboard.type("secret")
        page.get_by_role("button", name="Promote 1.2").click()
        expect(page.locator("#message")).to_have_text("air 1.2 is champion now.")
        page.reload()
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator("#message")).to_contain_text("air went back")


def test_a_monitor_that_is_gone_is_told(browser: Browser, tmp_path: Path) -> None:
    world = registered(tmp_path)
    with opened(browser, but="ERR_CONNECTION_REFUSED|htmx:") as page:
        with served(world.app) as url:
            page.goto(f"{url}/console/models/air")
            expect(page.locator("#charts")).not_to_contain_text("Comparing")
        page.get_by_role("button", name="Ask air").click()
        expect(page.locator("#message")).to_have_text("The monitor does not answer.")


def test_the_page_of_all_calls_asks_nobody_but_the_monitor(browser: Browser, world: World, url: str) -> None:
    with opened(browser, url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for path in ("/docs", "/redoc"):
            page.goto(path)
            expect(page.get_by_role("heading", name="GET /models", exact=True)).to_be_visible()
        assert {
            one.partition("?")[0].rpartition(":")[0] for one in asked if not one.startswith(("data:", url))
        } == set()
