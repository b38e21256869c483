"""The first minute: from nothing to a prediction, in three clicks."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS


@pytest.mark.parametrize(("width", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_an_empty_server_says_what_to_do(serve: StartServer, visit: Visit, width: str, scheme: str) -> None:
    visitor = visit(serve(), width, scheme)
    visitor.goto("/")
    expect(visitor.page.get_by_label("Model file", exact=True)).to_be_visible()
    expect(visitor.page.get_by_role("button", name="sample")).to_be_visible()
    visitor.check()


def test_the_sample_answers_after_three_clicks(serve: StartServer, visit: Visit) -> None:
    visitor = visit(serve())
    visitor.goto("/")
    visitor.page.get_by_role("button", name="Deploy the sample model").click()
    expect(visitor.page).to_have_url(re.compile(r"/model\?model_id="))
    visitor.check()
    visitor.page.get_by_role("link", name="Try it").click(timeout=LIVE_MS)
    expect(visitor.page).to_have_url(re.compile(r"/predict\?model_id="))
    visitor.page.get_by_role("button", name="Predict", exact=True).click()
    expect(visitor.page.locator("#result")).to_contain_text("setosa")
    visitor.check()
