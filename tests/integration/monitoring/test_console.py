"""The console of a real monitor, beside a real TorchServe, in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from serving.registry import Registry
from serving.settings import ROOT
from tests.integration.conftest import Server, monitored
from tests.integration.monitoring.test_loop import ENVIRONMENT, ROWS, line, live
from tests.support.monitoring.browser import chromium, opened, tab_to

pytestmark = pytest.mark.loop

PNG = {"Content-Type": "image/png"}
TO_THE_END = 120_000  # ms; a retraining on a busy machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def own(browser: Browser, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TorchServe with a copy of the models, and its monitor."""
    folder = tmp_path_factory.mktemp("console")
    shutil.copytree(store, folder / "store")
    with monitored(folder / "store", folder / "runs", ENVIRONMENT) as server:
        yield server


@pytest.fixture
def page(browser: Browser, own: Server) -> Iterator[Page]:
    """A tab in which every question is answered with yes."""
    with opened(browser, own.settings.monitor_url) as one:
        one.on("dialog", lambda dialog: dialog.accept())
        yield one


def champion(server: Server) -> str:
    return Registry(server.settings.model_store).champions()["linear"][0]


def test_the_example_of_a_model_is_asked_by_keyboard_and_answered(page: Page, own: Server) -> None:
    page.goto("/console/models/flights")
    tab_to(page, "input-distance", most=100)
    page.keyboard.press("Enter")
    expected = own.contract("flights").example.response["prediction"]
    answer = page.get_by_role("status", name="Answer")
    expect(answer).to_contain_text(f"{expected:.4g} minutes")
    expect(answer).to_contain_text("flights 1.0 answered in")


def test_a_picture_is_uploaded_and_named_as_a_client_is_told(page: Page, own: Server) -> None:
    picture = ROOT / "docs" / "examples" / "boot.png"
    asked = own.client.post(f"{own.url}/predictions/fashion", content=picture.read_bytes(), headers=PNG)
    page.goto("/console/models/fashion")
    page.get_by_label("image").set_input_files(picture)
    page.get_by_role("button", name="Ask fashion").click()
    classes = page.get_by_role("status", name="Answer").get_by_role("listitem")
    expect(classes).to_have_count(5)
    expect(classes.first).to_contain_text(asked.json()["prediction"]["label"])


def test_a_retraining_is_seen_to_end_and_its_version_rolled_back_and_promoted(page: Page, own: Server) -> None:
    for part in range(4):
        live(own, f"console-{part}", line(2, 3, ROWS // 4))
    page.goto("/console/models/linear")
    page.get_by_role("button", name="Retrain").click()
    page.wait_for_url("**/console/jobs/*")
    expect(page.locator("#tail")).to_have_text("The job has ended.", timeout=TO_THE_END)
    job = page.locator("#job")
    expect(job).to_contain_text("promoted")
    expect(job.get_by_role("table", name="rmse on")).to_be_visible()
    expect(page.locator("#log")).to_contain_text("linear: ")
    assert champion(own) == "1.1"

    page.goto("/console/models/linear")
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("#message")).to_contain_text("linear went back to 1.0", timeout=TO_THE_END)
    assert champion(own) == "1.0"
    page.get_by_role("button", name="Promote 1.1").click()
    expect(page.locator("#message")).to_contain_text("linear 1.1 is champion now.", timeout=TO_THE_END)
    assert champion(own) == "1.1"
    page.reload()
    page.get_by_label("x", exact=True).fill("1")
    page.get_by_role("button", name="Ask linear 1.1").click()
    told = own.client.post(f"{own.url}/predictions/linear/1.1", json={"x": 1}).json()["prediction"]
    assert abs(told - 5) < 1 < abs(own.contract("linear").example.response["prediction"] - told)
    expect(page.get_by_role("status", name="Answer").locator(".large")).to_contain_text(f"{told:.4g}")
