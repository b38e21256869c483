"""The live log: whatever happens to its tab or its network, it shows each line once, as the file on disk has it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import LayWire, StartServer, Visit
from tests.browser.log_lab import as_shown, expect_live, expect_whole, log_page, on_disk, say
from tests.browser.tabs import expect_hidden
from tests.browser.visitor import Visitor


@pytest.fixture(scope="module")
def server(serve: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false")  # its checks would speak in between
    files.deploy_talker(server, tmp_path_factory.mktemp("files"))
    return server


def expect_read(page: Page, server: Server) -> None:
    """Its stream has brought all that there is: the page itself came with lines, and it is live from the first word on."""
    expect(page.locator("#log .block .line")).to_have_count(len(on_disk(server)))


def test_lines_come_as_they_are_said(server: Server, visit: Visit) -> None:
    visitor = visit(server, "phone", "dark")
    say(server, 2, "earlier")
    page = visitor.goto(log_page(server))
    expect_live(page)
    say(server, 3, "now")
    expect(page.get_by_text("said now")).to_be_visible()
    expect_whole(page, server)
    visitor.check()


def test_nothing_is_lost_or_doubled_through_a_hidden_tab(
    server: Server, visit_with_real_tabs: Callable[[str], Visitor]
) -> None:
    visitor = visit_with_real_tabs(server.url)
    page = visitor.goto(log_page(server))
    expect_live(page)
    say(server, 5, "while seen")
    expect(page.get_by_text("said while seen")).to_be_visible()
    other = visitor.goto("/docs/errors", visitor.context.new_page())
    other.bring_to_front()
    expect_hidden(page)
    say(server, 50, "while hidden")
    assert not page.get_by_text("said while hidden").count()
    page.bring_to_front()
    expect(page.get_by_text("said while hidden")).to_be_visible()
    say(server, 5, "seen again")
    expect(page.get_by_text("said seen again")).to_be_visible()
    expect_whole(page, server)


def test_nothing_is_lost_or_doubled_through_a_cut_network(server: Server, visit: Visit, wire_to: LayWire) -> None:
    wire = wire_to(server)
    visitor = visit(wire)
    page = visitor.goto(log_page(server))
    expect_live(page)
    speech = threading.Thread(target=say, args=(server, 400, "a long story", 0.01))
    speech.start()
    with visitor.without_network():
        for told in ("line 20: a long story", "line 150: a long story"):
            expect(page.get_by_text(told)).to_be_attached()
            wire.cut()
            expect(page.locator("#log-state")).not_to_have_text("Live")
            wire.mend()
            expect(page.locator("#log-state")).to_have_text("Live", timeout=20_000)
    speech.join()
    expect(page.get_by_text("said a long story")).to_be_attached()
    expect_whole(page, server)
    visitor.check()


def test_a_pause_keeps_what_comes_and_shows_it_in_the_end(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto(log_page(server))
    expect_live(page)
    expect_read(page, server)
    page.get_by_role("button", name="Pause").click()
    say(server, 4, "in the pause")
    expect(page.get_by_role("button", name="Resume (5 waiting)")).to_be_visible()
    assert not page.get_by_text("said in the pause").count()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("said in the pause")).to_be_visible()
    expect_whole(page, server)


def test_what_is_filtered_is_what_is_downloaded(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto(log_page(server))
    expect_live(page)
    say(server, 3, "of a needle\nERROR: a needle broke")
    expect(page.get_by_text("said of a needle")).to_be_visible()
    wanted = [line for line in on_disk(server) if "needle" in line]
    page.get_by_label("Contains").fill("NEEDLE")
    expect(page.locator("#log .line")).to_have_text([as_shown(line) for line in wanted])
    expect(page.locator("#log mark").first).to_have_text("needle")
    title = wanted[0][:23].replace("T", " ") + " UTC"
    expect(page.locator("#log time").first).to_have_attribute("title", title)
    page.get_by_label("Level").select_option("error")
    wanted = [line for line in wanted if " ERROR" in line]
    expect(page.locator("#log .line")).to_have_text([as_shown(line) for line in wanted])
    visitor.check()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).read_text().splitlines() == wanted
    assert download.value.suggested_filename == "talker-1.0.0-runtime.log"


def test_the_log_of_the_build_is_there_too(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto(log_page(server))
    page.get_by_role("link", name="Build").click()
    expect(page).to_have_url(re.compile("kind=build"))
    expect(page.get_by_role("log")).to_contain_text("msgspec")
    visitor.check()
