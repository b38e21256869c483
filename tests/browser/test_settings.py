"""The settings page: keys that are shown once and can be revoked, limits, storage, and what the machine lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.login_lab import KEY, log_in

NAME = "<b>the app of a friend</b>"


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """One where nobody is let in without a key."""
    server = serve(PRISM_ADMIN_KEYS=KEY)
    server.http.headers["X-API-Key"] = KEY
    server.deploy(iris_file, model_name="iris")
    del server.http.headers["X-API-Key"]
    return server


def make_key(page: Page, name: str) -> str:
    page.get_by_label("Name of a new key").fill(name)
    page.get_by_role("button", name="Create key").click()
    return page.locator("#new-key").inner_text()


def status_with(server: Server, key: str) -> int:
    return server.http.post("/models/iris/predict", json=ROW, headers={"X-API-Key": key}).status_code


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_key_is_shown_once_lets_in_and_once_revoked_no_more(server: Server, visit: Visit, scripts: bool) -> None:
    visitor = visit(server, "phone", scripts=scripts)
    page = visitor.goto("/settings")
    log_in(page, KEY)
    assert status_with(server, "no-such-key") == 401
    key = make_key(page, NAME)
    visitor.check()
    assert status_with(server, key) == 200
    page.reload()
    expect(page.get_by_role("rowheader", name=NAME)).to_be_visible()
    assert key not in page.content()
    page.get_by_role("row").filter(has_text=NAME).locator("summary").click()
    visitor.check()
    page.get_by_role("button", name="Revoke permanently").click()
    expect(page.get_by_role("rowheader", name=NAME)).to_have_count(0)
    assert status_with(server, key) == 401
    assert key not in server.log()


def test_a_nameless_key_is_refused_at_its_field(server: Server, visit: Visit) -> None:
    visitor = visit(server, scripts=False)
    page = visitor.goto("/settings")
    log_in(page, KEY)
    visitor.awaits(400)
    page.get_by_label("Name of a new key").fill(" ")
    page.get_by_role("button", name="Create key").click()
    expect(page.get_by_label("Name of a new key")).to_have_attribute("aria-invalid", "true")
    visitor.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_limits_storage_and_findings_are_there(server: Server, visit: Visit, scheme: str) -> None:
    visitor = visit(server, scheme=scheme)
    page = visitor.goto("/settings")
    log_in(page, KEY)
    expect(page.get_by_role("table", name="Limits")).to_contain_text("PRISM_MAX_UPLOAD_MB")
    expect(page.get_by_role("table", name="Storage used by this server")).to_contain_text(str(server.home))
    expect(page.locator("#machine")).to_contain_text("disk")
    assert KEY not in page.content()
    visitor.check()
