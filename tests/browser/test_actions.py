"""What a person does with a model that is there: stop, start, restart and delete it, and look at it meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.iris import ROW
from tests.acceptance.server import Server, wait_for
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS, more_actions


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


def act(page: Page, name: str) -> None:
    more_actions(page)
    page.get_by_role("group", name="Actions").get_by_role("button", name=name, exact=True).click()


def test_a_model_is_stopped_started_and_restarted(server: Server, visit: Visit, iris_file: Path) -> None:
    model = server.deploy(iris_file, model_name="iris")
    visitor = visit(server)
    page = visitor.goto(f"/model?model_id={model['model_id']}")
    act(page, "Stop")
    expect(page.locator("#model .badge").first).to_have_text("stopped", ignore_case=True)
    assert server.predict("iris", ROW).status_code == 409
    visitor.check()
    act(page, "Start")
    expect(page.get_by_role("link", name="Try it")).to_be_visible(timeout=LIVE_MS)
    before = server.model("iris")["replica"]["id"]
    act(page, "Restart")
    wait_for(lambda: server.model("iris")["replica"]["id"] != before, LIVE_MS / 1000, "another replica")
    expect(page.get_by_role("link", name="Try it")).to_be_visible(timeout=LIVE_MS)
    assert server.predict("iris", ROW).status_code == 200
    visitor.check()


def test_delete_lists_what_goes_before_it_goes(server: Server, visit: Visit, iris_file: Path) -> None:
    model = server.deploy(iris_file, model_name="doomed")
    folder = server.home / "model_store" / "uploads" / model["model_id"]
    replica = "process " + server.model("doomed")["replica"]["id"].partition(":")[0]
    visitor = visit(server)
    page = visitor.goto(f"/model?model_id={model['model_id']}")
    more_actions(page)
    page.get_by_role("link", name="Delete").click()
    for lost in ("doomed@1.0.0", str(folder), replica):
        expect(page.get_by_role("main")).to_contain_text(lost)
    visitor.check()
    page.get_by_role("link", name="Keep it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("doomed")
    assert folder.exists()
    more_actions(page)
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page).to_have_url(f"{server.url}/")
    expect(page.get_by_role("main")).not_to_contain_text("doomed")
    assert not folder.exists()
    assert server.predict("doomed", ROW).status_code == 404


def test_a_page_of_a_model_that_is_gone_says_so(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone")
    visitor.awaits(404)
    for page in ("model", "predict", "model-logs", "delete-model"):
        visitor.goto(f"/{page}?model_id=0123456789ab")
        expect(visitor.page.get_by_role("main")).to_contain_text("0123456789ab")
        visitor.check()
