"""A browser that runs no scripts: upload, review, deploy, predict and delete work all the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import deploy, more_actions, offer, predict


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    """With a model whose environment stays for those that come and go."""
    server = serve()
    server.deploy(iris_file, model_name="stays")
    return server


@pytest.mark.parametrize("width", ["phone", "desk"])
def test_from_a_file_to_a_prediction_and_back_to_nothing(
    server: Server, visit: Visit, iris_file: Path, width: str
) -> None:
    visitor = visit(server, width, scripts=False)
    page = offer(visitor, iris_file)
    expect(page.get_by_role("heading", level=1)).to_have_text("iris.joblib")
    expect(page.get_by_role("main")).to_contain_text("scikit-learn")
    visitor.check()
    deploy(page, "iris")
    visitor.check()
    predict(page)
    (answer,) = server.predict("iris", server.model("iris")["sample"]).json()["predictions"]
    expect(page.locator("#answer")).to_have_text(answer)
    visitor.check()
    page.get_by_role("link", name="Logs").click()
    expect(page).to_have_url(re.compile(r"/model-logs\?"))
    visitor.check()
    page.get_by_role("link", name="Overview").click()
    more_actions(page)
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(page).to_have_url(f"{server.url}/")
    assert server.http.get("/models/iris").status_code == 404
    visitor.check()


def test_what_a_model_said_can_be_read(server: Server, visit: Visit, tmp_path: Path) -> None:
    talker = files.deploy_talker(server, tmp_path)
    server.predict("talker", [[1, "hello there"]]).raise_for_status()
    visitor = visit(server, "phone", scripts=False)
    page = visitor.goto(f"/model-logs?model_id={talker}")
    expect(page.get_by_role("main")).to_contain_text("said hello there")
    visitor.check()
