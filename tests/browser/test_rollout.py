"""A canary on its model's page: the split, the evidence, what happened, and the buttons, with and without scripts."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from prism import Prism
from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """A server with a version of iris that answers, and one that waits beside it."""
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false", PRISM_ACCELERATE="off")
    with Prism(server.url) as client:
        for _ in range(2):
            client.register_model("iris", path=iris_file)
    return server


def test_a_canary_is_watched_and_rolled_back_on_the_page(server: Server, visit: Visit) -> None:
    with Prism(server.url) as client:
        canary = client.create_canary("iris", "2.0.0", 25, bake_seconds=600)
        visitor = visit(server, "desk")
        page = visitor.goto("/models/iris")
        page.get_by_role("link", name="Canary 2.0.0 at 25%").click()
        expect(page.get_by_role("img", name="2.0.0 (candidate): 25% of the requests")).to_be_visible()
        expect(page.get_by_role("img", name="1.0.0 (stable): 75% of the requests")).to_be_visible()
        expect(page.locator("#canary-waits")).to_contain_text("no evidence")
        visitor.check()

        for _ in range(12):
            server.predict("iris", ROW)
        answers = page.get_by_role("row", name="Answers in this step")
        expect(answers).not_to_contain_text("Answers in this step 0", use_inner_text=True)
        expect(page.locator("#canary-waits")).to_contain_text("too little evidence")

        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#canary-reason")).to_have_text("paused at 25 %")
        canary.resume()  # elsewhere: the page shows it by itself
        expect(page.locator("#canary-state")).to_have_text("Running")

        page.get_by_role("button", name="Roll back to 1.0.0").click()
        expect(page.locator("#canary-state")).to_have_text("Rolled back")
        expect(page.get_by_role("img", name="1.0.0 (stable): 100% of the requests")).to_be_visible()
        expect(page.locator(".timeline li")).to_have_count(len(canary.events()))
        expect(page.locator(".timeline li").first).to_contain_text("rolled back")
        visitor.check()
        assert canary.refresh().state == "rolled_back"


def test_a_canary_is_begun_promoted_and_rolled_back_on_a_phone_without_scripts(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone", scripts=False)
    page = visitor.goto("/models/iris")
    page.get_by_role("link", name="Rollout", exact=True).click()
    page.get_by_label("Share in percent").fill("10")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#canary-state")).to_have_text("Running")
    visitor.check()
    page.get_by_role("button", name="Promote 2.0.0").click()
    expect(page.locator("#canary-state")).to_have_text("Promoted")
    page.get_by_role("button", name="Roll back to 1.0.0").click()
    expect(page.locator("#canary-state")).to_have_text("Rolled back")
    visitor.check()


def test_a_share_that_makes_no_sense_is_refused_with_words(server: Server) -> None:
    model_id = server.model("iris")["model_id"]
    for percentage, told in (("many", "must be a number"), ("0", "must be above 0"), ("101", "at most 100 percent")):
        form = {"model_id": model_id, "candidate": "2.0.0", "percentage": percentage}
        page = httpx2.post(
            f"{server.url}/rollouts-ui", data=form, headers={"Accept": "text/html", "Origin": server.url}
        )
        assert page.status_code == 400
        assert told in page.text
