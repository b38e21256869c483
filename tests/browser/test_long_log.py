"""Ten thousand lines: the page answers at once all the same."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import CDPSession, expect

from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.test_live_log import expect_live, expect_whole, log_page, on_disk, say

LINES = 10_000
BUSY_SECONDS = 1.5
"""What all of it together may cost the page's thread, of processor time, which other work on the machine does not lengthen."""


def busy_seconds(session: CDPSession) -> float:
    """How much processor time the thread that answers the reader has used."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def test_ten_thousand_lines_stay_quick_to_filter_and_scroll(serve: StartServer, visit: Visit, tmp_path: Path) -> None:
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false")  # its checks would speak in between
    files.deploy_talker(server, tmp_path)
    say(server, LINES - len(on_disk(server)) - 1, "in a long log")
    visitor = visit(server)
    page = visitor.goto(log_page(server))
    expect_live(page)
    expect(page.locator("#log-count")).to_have_text("10,000 lines")
    expect_whole(page, server)
    session = visitor.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = busy_seconds(session)
    page.get_by_label("Contains").press_sequentially("line 777")
    expect(page.locator("#log-count")).to_have_text("11 lines of 10,000")
    page.get_by_label("Contains").fill("")
    expect(page.locator("#log-count")).to_have_text("10,000 lines")
    page.get_by_role("log").hover()
    page.mouse.wheel(0, -3000)
    expect(page.get_by_role("button", name="Newest")).to_be_visible()
    say(server, 500, "behind the reader's back")
    expect(page.get_by_role("button", name="Newest (501 more)")).to_be_visible()
    assert busy_seconds(session) - before < BUSY_SECONDS
    page.get_by_role("button", name="Newest").click()
    expect(page.get_by_text("said behind the reader's back")).to_be_in_viewport()
    expect_whole(page, server)
