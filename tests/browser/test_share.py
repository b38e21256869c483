"""Sharing a model from its page: over a real SSH server, with a key that is shown once and can be revoked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.integration.sshd import Sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(serve: StartServer, sshd: Sshd, iris_file: Path) -> Server:
    server = serve(**sshd.settings())
    server.deploy(iris_file, model_name="iris")
    return server


def asked_from_afar(url: str, key: str) -> int:
    return httpx2.post(
        url, json=ROW, headers={"X-API-Key": key} if key else {}, timeout=20, trust_env=False
    ).status_code


def share_panel(page: Page) -> Locator:
    """Open the menu that holds it."""
    page.locator("#share-menu > summary").click()
    return page.get_by_role("region", name="Share")


def share(page: Page, access: str) -> str:
    """The link. access: "key" for a key that is made for it, "open" for none."""
    panel = share_panel(page)
    panel.get_by_role("group", name="Who can use it").locator(f"[value={access}]").check()
    panel.get_by_role("button", name="Share", exact=True).click()
    expect(panel.get_by_text("shared", exact=True)).to_be_visible(timeout=30_000)
    return panel.locator("#share-url").inner_text()


@pytest.mark.sshd
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_key_of_a_link_is_shown_once_lets_in_and_once_revoked_no_more(
    server: Server, visit: Visit, scripts: bool
) -> None:
    visitor = visit(server, "phone", scripts=scripts)
    page = visitor.goto(f"/model?model_id={server.model('iris')['model_id']}")
    visitor.check()
    link = share(page, "key")
    key = page.locator("#share-key").inner_text()
    visitor.check()
    assert asked_from_afar(link, key) == 200
    assert asked_from_afar(link, "") == 401
    visitor.goto(f"/model?model_id={server.model('iris')['model_id']}")
    expect(page.locator("#share-url")).to_have_text(link)
    assert key not in page.content()
    visitor.goto("/settings")
    page.get_by_role("row").filter(has_text=key[-4:]).locator("summary").click()
    page.get_by_role("button", name="Revoke permanently").click()
    expect(page.get_by_text(key[-4:])).to_have_count(0)
    assert asked_from_afar(link, key) == 401
    visitor.goto(f"/model?model_id={server.model('iris')['model_id']}")
    share_panel(page).get_by_role("button", name="Stop sharing").click()
    if not scripts:
        share_panel(page)
    expect(page.get_by_role("button", name="Share", exact=True)).to_be_visible()
    visitor.check()
    with pytest.raises(httpx2.TransportError):
        asked_from_afar(link, key)


@pytest.mark.sshd
def test_a_link_without_a_key_is_for_who_says_so(server: Server, visit: Visit) -> None:
    visitor = visit(server, scheme="dark")
    page = visitor.goto(f"/model?model_id={server.model('iris')['model_id']}")
    link = share(page, "open")
    expect(page.get_by_role("region", name="Share")).to_be_focused()
    assert page.locator("#share-key").count() == 0
    assert asked_from_afar(link, "") == 200
    visitor.check()
    page.get_by_role("button", name="Stop sharing").click()
    expect(page.get_by_role("button", name="Share", exact=True)).to_be_visible()


def test_what_stands_in_the_way_is_said_with_the_next_step(serve: StartServer, visit: Visit, iris_file: Path) -> None:
    server = serve()
    server.deploy(iris_file, model_name="iris")
    visitor = visit(server)
    page = visitor.goto(f"/model?model_id={server.model('iris')['model_id']}")
    visitor.awaits(502)
    share_panel(page).get_by_role("button", name="Share", exact=True).click()
    refusal = page.get_by_role("region", name="Share").get_by_role("alert")
    expect(refusal).to_contain_text("NGROK_AUTHTOKEN")
    visitor.check()
