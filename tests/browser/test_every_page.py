"""Each page at each width and in both color schemes: readable, reachable, no wider than its window."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.iris import ROW
from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import WIDTHS, StartServer, Visit
from tests.browser.journey import offer
from tests.browser.visitor import Visitor

PAGES = {
    "dashboard": "/",
    "upload": "/upload-model",
    "settings": "/settings",
    "errors": "/docs/errors",
    "api": "/docs",
    "live model": "/model?model_id={iris}",
    "stopped model": "/model?model_id={rests}",
    "failed model": "/model?model_id={broken}",
    "predict": "/predict?model_id={iris}",
    "predict json": "/predict?model_id={talker}",
    "versions": "/model-versions?model_id={iris}",
    "shadow": "/model-shadow?model_id={iris}",
    "log": "/model-logs?model_id={talker}",
    "build log": "/model-logs?model_id={iris}&kind=build",
    "choose a model": "/predict",
    "delete": "/delete-model?model_id={iris}",
    "a model that is gone": "/model?model_id=0123456789ab",
}
LONG_NAME = "a-model-whose-name-is-as-long-as-names-may-be-" + "x" * 54
WINDOWS = [("narrow", "dark"), ("phone", "light"), ("phone", "dark"), ("desk", "light"), ("desk", "dark")]


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """With models in every state, long names and some traffic."""
    server = serve()
    folder = tmp_path_factory.mktemp("files")
    for name in ("iris", "rests", LONG_NAME):
        server.deploy(iris_file, model_name=name, model_description="Which iris is it? " * 8)
    server.http.post("/models/rests/stop").raise_for_status()
    server.upload(files.regression(folder), model_name="broken", expected_input_json="[[1, 2, 3]]")
    files.deploy_talker(server, folder)
    server.predict("talker", [[20, "very " * 60]])
    for _ in range(20):
        server.predict("iris", ROW)
        server.predict("iris", {})
    return server


@pytest.fixture(scope="module")
def ids(server: Server) -> dict[str, str]:
    return {model["name"]: model["model_id"] for model in server.http.get("/models").json()["models"]}


CUT = """() => [...document.querySelectorAll("table.stacks, #replicas")].filter(
  (table) => table.checkVisibility() && table.parentElement.scrollWidth > table.parentElement.clientWidth
).map((table) => table.caption.textContent)"""


def check_in_every_window(visitor: Visitor) -> None:
    for width, scheme in WINDOWS:
        columns, rows = WIDTHS[width]
        visitor.page.set_viewport_size({"width": columns, "height": rows})
        visitor.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        visitor.check()
        assert not visitor.page.evaluate(CUT), width


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_for_everyone(server: Server, visit: Visit, ids: dict[str, str], page: str) -> None:
    visitor = visit(server)
    if page == "a model that is gone":
        visitor.awaits(404)
    shown = visitor.goto(PAGES[page].format(**ids))
    expect(shown.get_by_role("heading", level=1)).to_be_visible()
    shown.evaluate("() => document.querySelectorAll('main details:not(.menu)').forEach((one) => { one.open = true })")
    check_in_every_window(visitor)


def test_so_is_what_was_read_in_a_file(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server)
    page = offer(visitor, files.dangerous(tmp_path))
    expect(page.get_by_role("heading", level=1)).to_have_text("dangerous.pkl")
    check_in_every_window(visitor)


def test_charts_have_their_figures_in_a_table(server: Server, visit: Visit, ids: dict[str, str]) -> None:
    visitor = visit(server, "phone")
    page = visitor.goto(f"/model?model_id={ids['iris']}")
    charts = page.locator("figure.chart").all()
    assert len(charts) == 3
    for chart in charts:
        chart.locator("summary").click(timeout=30_000)
        expect(chart.get_by_role("table")).to_be_visible()
        assert chart.locator("tbody td").count()
    server.predict("iris", ROW)
    page.wait_for_event("response", lambda response: "/model?" in response.url)
    expect(page.locator("figure.chart table").first).to_be_visible()
    visitor.check()


def test_looking_again_disturbs_no_one(server: Server, visit: Visit, ids: dict[str, str]) -> None:
    visitor = visit(server)
    page = visitor.goto(f"/model?model_id={ids['iris']}")
    page.locator("#environment > summary").click()
    page.locator("#packages summary").click()
    page.locator("#more-menu > summary").focus()
    page.evaluate("() => { document.querySelector('#packages').mark = true; scrollTo(0, 200) }")
    for _ in range(2):
        page.wait_for_event("response", lambda response: "/model?" in response.url)
    expect(page.locator("#packages ul")).to_be_visible()
    expect(page.locator("#more-menu > summary")).to_be_focused()
    assert page.evaluate("() => [document.querySelector('#packages').mark, scrollY]") == [True, 200]


def test_the_documentation_of_the_api_needs_nothing_from_elsewhere(server: Server, visit: Visit) -> None:
    visitor = visit(server)
    page = visitor.goto("/docs")
    expect(page.get_by_text("/models/upload-and-run").first).to_be_visible()


MOVES = """() => document.getAnimations().length + [...document.querySelectorAll("*")].filter((element) => {
  const style = getComputedStyle(element);
  return [style.transitionDuration, style.animationDuration].join(", ").split(", ").some((time) => parseFloat(time) > 0.01);
}).length"""


@pytest.mark.parametrize("path", ["/", "/upload-model", "/model?model_id={iris}", "/predict?model_id={iris}"])
def test_nothing_moves_for_those_who_want_it_still(
    server: Server, visit: Visit, ids: dict[str, str], path: str
) -> None:
    page = visit(server, reduced_motion="reduce").goto(path.format(**ids))
    assert page.evaluate(MOVES) == 0


def test_for_others_a_place_that_takes_a_file_shows_it_softly(server: Server, visit: Visit) -> None:
    page = visit(server, reduced_motion="no-preference").goto("/upload-model")
    assert page.evaluate(MOVES) > 0
