"""The pages of one model, asked for without a model, as a browser without scripts uses them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.html_page import BROWSER, Element, page
from tests.acceptance.replica_models import archive
from tests.acceptance.server import Server

PAGES = ["/predict", "/model-logs"]


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model without packages: the pages list it as any other."""
    return archive(tmp_path, model_py="class Model:\n    def predict(self, rows):\n        return rows\n")


def led_to(server: Server, path: str) -> str:
    answer = server.http.get(path, headers=BROWSER, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def choices(server: Server, path: str) -> dict[str, Element]:
    """The links of the page by the path to which each leads."""
    listed = page(server, path).one("ul", id="choices")
    return {one.attributes["href"]: one for one in listed.all("a")}


@pytest.mark.parametrize("path", PAGES)
def test_where_there_is_no_model_the_page_says_so_and_leads_to_the_upload(server: Server, path: str) -> None:
    shown = page(server, path).one("main")
    assert "There is no model yet." in shown.text
    assert shown.one("a").attributes["href"] == "/upload-model"


def test_the_only_model_is_chosen_for_its_reader(server: Server, model_file: Path) -> None:
    model_id = server.deploy(model_file, model_name="iris")["model_id"]
    assert led_to(server, "/predict") == f"/predict?model_id={model_id}"
    assert led_to(server, "/predict?tab=json&model_id=") == f"/predict?tab=json&model_id={model_id}"
    assert led_to(server, "/model-logs?kind=build") == f"/model-logs?kind=build&model_id={model_id}"
    server.http.post("/models/iris/stop").raise_for_status()
    assert led_to(server, "/model-logs") == f"/model-logs?model_id={model_id}"
    assert list(choices(server, "/predict")) == [f"/predict?model_id={model_id}"]


def test_among_several_models_the_reader_chooses_and_those_that_serve_come_first(
    server: Server, model_file: Path
) -> None:
    first, second, third = (
        server.deploy(model_file, model_name=name)["model_id"] for name in ("first", "second", "third")
    )
    server.http.post("/models/third/stop").raise_for_status()
    for path in PAGES:
        offered = choices(server, path)
        assert list(offered) == [f"{path}?model_id={model_id}" for model_id in (second, first, third)]
        assert [link.text for link in offered.values()] == ["second 1.0.0", "first 1.0.0", "third 1.0.0"]
        assert all("first" in page(server, link).one("h1").text for link in offered if link.endswith(first))
    assert next(iter(choices(server, "/model-logs?kind=build"))) == f"/model-logs?kind=build&model_id={second}"
    server.http.post("/models/first/stop").raise_for_status()
    assert led_to(server, "/predict") == f"/predict?model_id={second}"
    assert len(choices(server, "/model-logs")) == 3
