"""A model that cannot be built: which step failed, why, what its log said, and another try."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import LIVE_MS, offer


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_package_that_no_index_has(server: Server, visit: Visit, iris_file: Path, scripts: bool) -> None:
    visitor = visit(server, "phone", scripts=scripts)
    page = offer(visitor, iris_file)
    page.get_by_label("Name", exact=True).fill("impossible")
    page.locator("#overrides summary").click()
    page.get_by_label("Requirements").fill("scikit-learn==0.0.1")
    page.get_by_role("button", name="Deploy", exact=True).click()
    progress = page.locator("#progress")
    failed = progress.locator("li.step.failed")
    expect(failed).to_have_count(1, timeout=LIVE_MS)
    assert failed.get_by_text("failed").count(), "in words, not by color alone"
    expect(progress.get_by_role("alert")).to_contain_text("0.0.1")
    expect(page.get_by_role("region", name="Build log")).to_be_visible()
    expect(page.get_by_role("region", name="Build log")).to_contain_text("scikit-learn==0.0.1")
    visitor.check()
    with page.expect_navigation():
        progress.get_by_role("button", name="Try again").click()
    expect(failed).to_have_count(1, timeout=LIVE_MS)
    assert server.model("impossible")["status"] == "failed"


def test_a_model_that_does_not_answer_its_sample(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server, scheme="dark")
    page = offer(visitor, files.regression(tmp_path))
    page.get_by_label("Sample request").fill("[[1, 2, 3]]")
    page.get_by_role("button", name="Deploy", exact=True).click()
    failed = page.locator("#progress li.step.failed")
    expect(failed).to_contain_text("Probe", timeout=LIVE_MS)
    expect(page.locator("#progress").get_by_role("alert")).to_contain_text("3")
    times = page.locator("#progress li.step.done .step-time").all_inner_texts()
    assert len(times) >= 3
    assert all(any(char.isdigit() for char in time) for time in times), times
    visitor.check()
    page.goto(f"{server.url}/")
    attention = page.get_by_role("region", name="Needs attention")
    expect(attention).to_contain_text("sum")
    attention.locator("summary").click()
    visitor.check()
    attention.get_by_role("link", name="sum").click()
    expect(failed).to_contain_text("Probe")
