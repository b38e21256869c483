"""What people do again and again on the way from a file to a prediction."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor

LIVE_MS = 120_000
"""Long enough for an environment to be built first."""


def offer(visitor: Visitor, file: Path) -> Page:
    """Give the upload page a file. A script sends it as soon as it is chosen."""
    page = visitor.goto("/upload-model")
    page.get_by_label("Model file", exact=True).set_input_files(file)
    if not visitor.scripts:
        page.get_by_role("button", name="Inspect").click()
    return page


def deploy(page: Page, name: str) -> None:
    """From what was read in a file to a live model of that name."""
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect_live(page, name)


def expect_live(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(name, timeout=LIVE_MS)
    expect(page.get_by_role("link", name="Try it")).to_be_visible(timeout=LIVE_MS)


def more_actions(page: Page) -> None:
    """Open the menu of the rarer actions on a model's page."""
    page.locator("#more-menu > summary").click()


def predict(page: Page) -> None:
    """From a live model's page to an answer to its sample."""
    page.get_by_role("link", name="Try it").click()
    expect(page).to_have_url(re.compile(r"/predict\?model_id="))
    page.get_by_role("button", name="Predict", exact=True).click()
