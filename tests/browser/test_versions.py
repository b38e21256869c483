"""A model's versions on its page: where they come from, what differs, and the way back, with what it will do."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from prism import Prism
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """A server with a version of iris that answers, and a better one that was registered beside it."""
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false", PRISM_ACCELERATE="off")
    with Prism(server.url) as client:
        client.register_model("iris", path=iris_file, metadata={"auc": 0.91})
        client.register_model("iris", path=iris_file, metadata={"auc": 0.94, "author": "Ada", "trained_on": "2026-Q1"})
    return server


def test_versions_are_compared_and_the_button_does_what_it_says(server: Server, visit: Visit) -> None:
    visitor = visit(server, "desk")
    page = visitor.goto("/models/iris")
    page.get_by_role("link", name="Versions", exact=True).click()
    newer, older = page.locator("#version-2-0-0"), page.locator("#version-1-0-0")
    expect(older).to_contain_text("100%")
    expect(newer).to_contain_text("0%")
    expect(newer).to_contain_text("by Ada")
    expect(older.get_by_role("button")).to_have_count(0)
    visitor.check()

    page.get_by_label("From").select_option("1.0.0")
    page.get_by_label("To", exact=True).select_option("2.0.0")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row", name="Metric auc 0.91 0.94")).to_be_visible()

    expect(newer).to_contain_text("runs already and takes all requests at once. After that, iris@1.0.0 stops.")
    newer.get_by_role("button", name="Switch to 2.0.0").click()
    page.get_by_role("link", name="Versions", exact=True).click()
    expect(newer).to_contain_text("100%")
    assert server.predict("iris", ROW).json()["version"] == "2.0.0"

    with Prism(server.url) as client:  # the first one's replica ends in the background
        while client.models.get("iris@1.0.0").status != "stopped":
            page.wait_for_timeout(100)
    page.reload()
    expect(older).to_contain_text("starts and answers its sample first. Then it takes all requests")
    older.get_by_role("button", name="Roll back to 1.0.0").click()
    expect(page.locator(".badge", has_text="Live")).to_be_visible(timeout=LIVE_MS)
    assert server.predict("iris", ROW).json()["version"] == "1.0.0"


def test_the_page_of_two_versions_fits_a_narrow_window(server: Server, visit: Visit) -> None:
    visitor = visit(server, "narrow")
    visitor.goto("/models/iris").get_by_role("link", name="Versions", exact=True).click()
    visitor.check()
