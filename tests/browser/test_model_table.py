"""The table of fifty models on a phone, by keyboard alone: searched, unfolded, opened, acted on, failures dismissed."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.core.model import Status
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser import crowd
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS
from tests.browser.keyboard import tab_to

MODELS = 50
FAILED = ("churn-austria", "churn-belgium", "customer-lifetime-value-by-region-norway")
WITH_VERSIONS = ("churn-belgium", "credit-iceland", "fraud-sweden")
PAGE_BYTES_MOST = 250_000


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """A server with fifty models of earlier days, of which only iris, with two versions, can run. None does."""
    server = serve()
    server.stop()
    versions = []
    for days, name in enumerate(crowd.names(MODELS - 1)):
        if name in WITH_VERSIONS:
            versions += [crowd.version(name, number, Status.STOPPED, timedelta(days=90 + days)) for number in (0, 1)]
        status = Status.FAILED if name in FAILED else Status.STOPPED
        versions.append(crowd.version(name, 2, status, timedelta(days=days)))
    crowd.write(server.home, versions)
    server.start()
    for _ in range(2):
        server.upload(iris_file, path="/models/upload", model_name="iris").raise_for_status()
    return server


def test_each_of_fifty_models_is_reached_by_keyboard(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto("/")
    expect(page.locator("tbody")).to_have_count(MODELS)
    visitor.check()
    tab_to(page, page.get_by_role("link", name=crowd.names(MODELS - 1)[-1], exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(crowd.names(MODELS - 1)[-1])


def test_the_page_of_fifty_models_with_fonts_and_scripts_is_small(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto("/")
    page.evaluate("() => document.fonts.ready")
    sizes = {request.url: request.sizes()["responseBodySize"] for request in visitor.requests}
    assert [url for url in sizes if url.endswith(".woff2")]
    assert sum(sizes.values()) < PAGE_BYTES_MOST, sizes


def test_a_search_narrows_the_table_while_it_is_typed_and_outlasts_the_next_look(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone", scheme="dark")
    page = visitor.goto("/")
    tab_to(page, page.get_by_role("searchbox", name="Search models"))
    page.keyboard.type("IRIS")
    expect(page.locator("tbody")).to_have_count(1)
    expect(page.get_by_role("navigation", name="Status")).to_contain_text("All 1")
    page.wait_for_event("response", lambda response: "search=IRIS" in response.url)
    expect(page.get_by_role("searchbox", name="Search models")).to_be_focused()
    expect(page.locator("tbody")).to_have_count(1)
    page.keyboard.type(" of another garden")
    expect(page.get_by_text("No model matches “IRIS of another garden”.")).to_be_visible()
    visitor.check()


def test_an_older_version_is_unfolded_opened_and_started_and_a_menu_closed(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto("/")
    older = page.get_by_role("link", name="1.0.0 of iris")
    expect(older).to_be_hidden()
    tab_to(page, page.get_by_role("checkbox", name="Show 1 other version of iris"))
    page.keyboard.press("Space")
    expect(older).to_be_visible()
    for _ in range(2):
        page.wait_for_event("response", lambda response: "/?page=" in response.url)
    expect(older).to_be_visible()
    visitor.check()
    tab_to(page, older)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/model\?model_id="))
    more = page.locator("#more-menu > summary")
    tab_to(page, more)
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Delete…")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Delete…")).to_be_hidden()
    expect(more).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Try it")).to_be_visible(timeout=LIVE_MS)
    assert server.predict("iris@1.0.0", ROW).status_code == 200


def test_what_needs_attention_is_dismissed_one_by_one_with_the_focus_kept_in_the_list(
    server: Server, visit: Visit
) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto("/")
    tab_to(page, page.locator("#attention-list > summary"))
    page.keyboard.press("Enter")
    dismissals = page.get_by_role("button", name="Dismiss")
    expect(dismissals).to_have_count(len(FAILED))
    visitor.check()
    tab_to(page, dismissals.first)
    for number in range(len(FAILED) - 1, 0, -1):
        page.keyboard.press("Enter")
        expect(dismissals).to_have_count(number)
        expect(dismissals.first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Needs attention")).to_have_count(0)
    assert {server.model(name)["wanted"] for name in FAILED} == {False}
