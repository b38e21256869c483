"""Ten thousand lines: the page answers at once all the same."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import CDPSession, expect

from tests.acceptance.server import wait_for
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.log_lab import expect_live, expect_whole, log_page, on_disk, say

LINES = 10_000
BUSY_SECONDS = 1.0
"""What all of it together may cost the page's thread, of processor time, which other work on the machine does not lengthen."""

NEXT_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


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
    # By their ids: to look for a role or a label among so many lines is work for the same thread.
    text, newest = page.locator("#log-text"), page.locator("#log-newest")
    text.fill("line 777")  # at once: what is typed slowly is looked for after each letter
    expect(page.locator("#log-count")).to_have_text("11 lines of 10,000")
    text.fill("")
    expect(page.locator("#log-count")).to_have_text("10,000 lines")
    page.locator("#log").hover()

    def looks_back() -> bool:
        """Once more where the page stood still between the wheel and the scrolling, which it then takes for its own."""
        page.mouse.wheel(0, -3000)
        page.evaluate(NEXT_FRAMES)
        return newest.is_visible()

    wait_for(looks_back, 30, "the log to stay where its reader is")
    say(server, 500, "behind the reader's back")
    expect(newest).to_have_text("Newest (501 more)")
    assert busy_seconds(session) - before < BUSY_SECONDS
    page.get_by_role("button", name="Newest").click()
    expect(page.get_by_text("said behind the reader's back")).to_be_in_viewport()
    expect_whole(page, server)
