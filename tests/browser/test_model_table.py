"""The table of models on a phone, by keyboard: searched, unfolded and reached."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.keyboard import tab_to

MODELS = 12


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """A server with a dozen models. One of them has two versions; nothing runs."""
    server = serve()
    names = ["iris", *(f"churn-in-region-{number:02}" for number in range(1, MODELS)), "iris"]
    for name in names:
        server.upload(iris_file, path="/models/upload", model_name=name).raise_for_status()
    return server


def test_every_model_is_reached_by_keyboard_on_a_phone(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto("/")
    expect(page.locator("tbody")).to_have_count(MODELS)
    visitor.check()
    tab_to(page, page.get_by_role("link", name="churn-in-region-01", exact=True))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("churn-in-region-01")


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


def test_other_versions_are_unfolded_by_the_space_key_and_stay_so(server: Server, visit: Visit) -> None:
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
    tab_to(page, older)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/model\?model_id="))
    expect(page.get_by_role("heading", level=1)).to_contain_text("iris")
