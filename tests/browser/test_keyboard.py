"""Without a mouse: by Tab, Enter, Space and the arrows alone, and it is always seen where one is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS, expect_live
from tests.browser.keyboard import tab_to


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


def test_from_a_file_to_a_prediction_by_keyboard(server: Server, visit: Visit, iris_file: Path) -> None:
    visitor = visit(server)
    visitor.page.on("filechooser", lambda _: None)  # in time: one that opens before somebody listens is dropped
    page = visitor.goto("/upload-model")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Model file", exact=True))
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Enter")
    chosen.value.set_files(iris_file)
    expect(page.get_by_role("heading", level=1)).to_have_text("iris.joblib")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    tab_to(page, page.get_by_label("Name", exact=True))
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("by keyboard")
    tab_to(page, page.locator("#overrides summary"))
    page.keyboard.press("Space")
    expect(page.get_by_label("Requirements")).to_be_visible()
    tab_to(page, page.get_by_role("button", name="Deploy", exact=True))
    page.keyboard.press("Enter")
    expect_live(page, "by keyboard")
    tab_to(page, page.get_by_role("link", name="Try it"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/predict\?"))
    field = page.get_by_label("petal length (cm)")
    tab_to(page, field)
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("6")
    tab_to(page, page.get_by_role("button", name="Predict", exact=True))
    page.keyboard.press("Space")
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#result-title")).to_be_focused()
    assert server.model("by keyboard")["status"] == "live"


def test_the_ways_of_giving_input_are_chosen_by_the_arrows(server: Server, visit: Visit, iris_file: Path) -> None:
    model = server.deploy(iris_file, model_name="iris")
    visitor = visit(server, "phone", scheme="dark")
    page = visitor.goto(f"/predict?model_id={model['model_id']}")
    tab_to(page, page.get_by_role("radio", name="Form"))
    page.keyboard.press("ArrowRight")
    tab_to(page, page.get_by_label("Request body"))
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("[[5.1, 3.5, 1.4, 0.2]]")
    tab_to(page, page.get_by_role("button", name="Predict", exact=True))
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("setosa")


def test_a_model_is_deleted_by_keyboard(server: Server, visit: Visit, iris_file: Path) -> None:
    model = server.deploy(iris_file, model_name="doomed")
    visitor = visit(server)
    page = visitor.goto(f"/model?model_id={model['model_id']}")
    tab_to(page, page.locator("#more-menu > summary"))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_role("link", name="Delete"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/delete-model\?"))
    tab_to(page, page.get_by_role("button", name="Delete it"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/", timeout=LIVE_MS)
    assert server.http.get("/models/doomed").status_code == 404
