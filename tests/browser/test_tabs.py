"""Many tabs at once: a browser has six connections to a server over HTTP/1.1, and no tab keeps one that it does not use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Request, expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer
from tests.browser.log_lab import expect_live, log_page, say
from tests.browser.tabs import expect_hidden
from tests.browser.visitor import Visitor

TABS = 8


@pytest.fixture(scope="module")
def server(serve: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false")  # its checks would speak in between
    files.deploy_talker(server, tmp_path_factory.mktemp("files"))
    return server


def test_eight_live_logs_all_work_and_leave_room_for_a_ninth_tab(
    server: Server, visit_with_real_tabs: Callable[[str], Visitor]
) -> None:
    visitor = visit_with_real_tabs(server.url)
    tabs = [visitor.goto(log_page(server))]
    expect_live(tabs[0])
    for _ in range(TABS - 1):
        tabs.append(visitor.goto(log_page(server), visitor.context.new_page()))
        tabs[-1].bring_to_front()
        expect_live(tabs[-1])
    say(server, 3, "to all")
    for tab in tabs:
        tab.bring_to_front()
        expect(tab.get_by_text("said to all")).to_be_visible()
        expect_live(tab)
    ninth = visitor.goto("/", visitor.context.new_page())
    expect(ninth.get_by_role("main")).to_contain_text("talker")


def test_only_the_dashboard_that_is_seen_looks_again_by_itself(
    server: Server, visit_with_real_tabs: Callable[[str], Visitor]
) -> None:
    def looks_again(page: Page) -> Callable[[Request], bool]:
        return lambda request: request.url.startswith(f"{server.url}/?page=") and request.frame.page == page

    visitor = visit_with_real_tabs(server.url)
    page = visitor.goto("/")
    page.wait_for_event("request", looks_again(page))
    other = visitor.goto("/", visitor.context.new_page())
    other.bring_to_front()
    expect_hidden(page)
    before = len(visitor.requests)
    for _ in range(2):
        other.wait_for_event("request", looks_again(other))
    assert not list(filter(looks_again(page), visitor.requests[before:]))
    with page.expect_event("request", looks_again(page)):
        page.bring_to_front()
