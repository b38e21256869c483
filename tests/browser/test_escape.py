"""What a model's owner, file or output says is text on every page, and never becomes part of the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import deploy, offer

NAME = "<script>alert(1)<img src=x onerror=alert(2)>\"'"
"""As bad as a name can be: a slash, and with it `</script>`, is refused in one."""
TEXT = "</title></textarea></script><script>alert(3)</script><img src=x onerror=alert(4)>{{ 7*7 }}"


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve()


@pytest.fixture(scope="module")
def model_id(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Named, described, logging and answering in HTML."""
    model_id = files.deploy_talker(server, tmp_path_factory.mktemp("files"), model_name=NAME, model_description=TEXT)
    server.predict(model_id, [[1, TEXT]]).raise_for_status()
    return model_id


PAGES = ("/", "/model", "/predict", "/model-logs", "/delete-model", "/settings")


@pytest.mark.parametrize("path", PAGES)
def test_it_is_shown_as_it_is_written(server: Server, visit: Visit, model_id: str, path: str) -> None:
    visitor = visit(server, "phone")
    visitor.goto(path if path in ("/", "/settings") else f"{path}?model_id={model_id}")
    main = visitor.page.get_by_role("main")
    if path != "/settings":
        expect(main.get_by_text(NAME).first).to_be_visible()
    if path == "/model":
        expect(main.get_by_text(TEXT).first).to_be_visible()
    if path == "/model-logs":
        expect(main.get_by_text(f"said {TEXT}").first).to_be_visible()
    assert visitor.page.locator("img[src=x], main script:not([src])").count() == 0
    visitor.check()


def test_also_in_what_was_asked_and_answered(server: Server, visit: Visit, model_id: str) -> None:
    visitor = visit(server)
    page = visitor.goto(f"/predict?model_id={model_id}&tab=json")
    page.get_by_label("Request body").fill(f'[[0, "{TEXT}"')
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_label("Request body")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Request body")).to_have_value(f'[[0, "{TEXT}"')
    page.get_by_label("Request body").fill(f'[[0, "{TEXT}"]]')
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.locator("#code-curl")).to_contain_text(TEXT)
    assert page.locator("img[src=x]").count() == 0


def test_also_in_what_a_file_and_a_form_say_before_anything_is_deployed(
    server: Server, visit: Visit, tmp_path: Path, iris_file: Path
) -> None:
    visitor = visit(server)
    page = offer(visitor, files.written(tmp_path, "<img src=x onerror=alert(5)>.joblib", iris_file.read_bytes()))
    expect(page.get_by_role("heading", level=1)).to_contain_text("img")
    visitor.awaits(400)
    page.get_by_label("Name", exact=True).fill(TEXT)
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_label("Name", exact=True)).to_have_value(TEXT)
    expect(page.get_by_role("main")).to_contain_text("<script>alert(3)")
    visitor.check()
    deploy(page, NAME + "!")
    visitor.check()
