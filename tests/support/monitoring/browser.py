"""A real browser, where there is one."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

Scheme = Literal["light", "dark"]
TIMEOUT = 20_000  # ms that a test waits for what it expects
WIDE, NARROW = 1100, 360  # px; the latter of a small telephone


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium; else the test is skipped."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed: Debian's package chromium has it")
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    expect.set_options(timeout=TIMEOUT)  # its own default of 5 s is short on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=alone)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(
    browser: Browser, url: str | None = None, scheme: Scheme = "light", width: int = WIDE, but: str = ""
) -> Iterator[Page]:
    """A page of a tab of its own; whatever the browser complains of is an error in the end.

    Args:
        url: that addresses are relative to.
        but: a pattern of what it may complain of.
    """
    context = browser.new_context(base_url=url, color_scheme=scheme, viewport={"width": width, "height": 800})
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        yield page
        left = [one for one in complaints if not (but and re.search(but, one))]
        assert not left, left
    finally:
        context.close()


def tab_to(page: Page, id: str, most: int = 60) -> None:
    """Press the tabulator until an element has the focus; it must be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert focused[1] != "none", f"{focused[0]!r} does not show that it has the focus"
        if focused[0] == id:
            return
    raise AssertionError(f"{id!r} cannot be reached by the tabulator")
