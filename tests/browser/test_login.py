"""A server that only its admins may use: who they are is asked once, in the browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.login_lab import KEY, log_in


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve(PRISM_ADMIN_KEYS=f"another-key-of-some-length,{KEY}")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_right_key_leads_to_the_page_that_was_asked_for(server: Server, visit: Visit, scripts: bool) -> None:
    visitor = visit(server, "phone", scripts=scripts)
    page = visitor.goto("/upload-model")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    expect(page.get_by_label("Admin key")).to_be_focused()
    visitor.check()
    visitor.awaits(401)
    log_in(page, "a-wrong-key")
    expect(page.get_by_role("alert")).to_contain_text("not an admin key")
    expect(page.get_by_label("Admin key")).to_have_value("")
    visitor.check()
    log_in(page, KEY)
    expect(page).to_have_url(f"{server.url}/upload-model")
    (cookie,) = visitor.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert KEY not in str(cookie)
    visitor.check()


def test_after_logging_out_the_pages_ask_again(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto("/upload-model")  # which asks for nothing by itself while the session ends
    log_in(page, KEY)
    expect(page).to_have_url(f"{server.url}/upload-model")
    expect(page.get_by_role("heading", level=1)).to_have_text("Upload a model")
    session = visitor.context.cookies()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    visitor.context.add_cookies(session)  # type: ignore[arg-type]
    visitor.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_session_that_ended_meanwhile_ends_in_the_login_page_and_not_in_a_part_of_the_old_one(
    server: Server, visit: Visit, iris_file: Path
) -> None:
    visitor = visit(server)
    page = visitor.goto("/upload-model")  # which asks for nothing by itself, so that the upload is what is refused
    log_in(page, KEY)
    expect(page.get_by_role("heading", level=1)).to_have_text("Upload a model")
    page.wait_for_load_state()
    visitor.context.clear_cookies()
    visitor.awaits(401)
    page.get_by_label("Model file", exact=True).set_input_files(iris_file)
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    assert page.get_by_role("navigation", name="Main").count() == 1


def test_links_elsewhere_are_not_followed_after_login(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto("/login?next=//example.org/")
    log_in(page, KEY)
    expect(page).to_have_url(f"{server.url}/")
