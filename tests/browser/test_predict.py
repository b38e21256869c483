"""The form that a model's signature makes, what it answers, and what it says of bad input."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from sklearn.datasets import load_digits

from tests.acceptance.images_lab import png
from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.visitor import Visitor

PETAL = "petal length (cm)"


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = serve()
    folder = tmp_path_factory.mktemp("files")
    server.deploy(iris_file, model_name="iris")
    server.deploy(files.mixed(folder), model_name="titanic")
    server.deploy(files.regression(folder), model_name="sum", expected_input_json="[[1, 2]]")
    server.deploy(files.digits(folder), model_name="digits")
    return server


def form_of(visit: Visit, server: Server, name: str, *how: str, scripts: bool = True) -> tuple[Page, Visitor]:
    visitor = visit(server, *how, scripts=scripts)
    page = visitor.goto(f"/predict?model_id={server.model(name)['model_id']}")
    return page, visitor


def ask(page: Page) -> None:
    page.get_by_role("button", name="Predict", exact=True).click()


@pytest.mark.parametrize(("width", "scheme"), [("phone", "dark"), ("desk", "light")])
def test_the_form_is_made_of_the_signature_and_holds_the_sample(
    server: Server, visit: Visit, width: str, scheme: str
) -> None:
    page, visitor = form_of(visit, server, "titanic", width, scheme)
    sample = server.model("titanic")["sample"]
    expect(page.get_by_label("port")).to_have_value(re.compile(str(sample["port"])))
    assert page.get_by_label("port").locator("option").all_inner_texts()[-3:] == ["C", "Q", "S"]
    assert float(page.get_by_label("fare").input_value()) == sample["fare"]
    visitor.check()
    page.get_by_label("fare").fill("71.3")
    page.get_by_label("port").select_option(label="C")
    ask(page)
    answered = server.predict("titanic", {"fare": 71.3, "port": "C"}, probabilities="true").json()
    expect(page.locator("#answer")).to_have_text(answered["predictions"][0])
    for name, share in zip(answered["classes"], answered["probabilities"][0], strict=True):
        bar = page.locator("dl.bars dt", has_text=name).locator("xpath=following-sibling::dd[1]")
        said = float(bar.inner_text().strip("<>% \n")) / 100
        assert abs(said - share) < 0.006, (name, said, share)
    expect(page.locator("#facts")).to_contain_text(server.model("titanic")["model_id"])
    expect(page.locator("#facts")).to_contain_text("ms")
    expect(page.locator("#result-title")).to_be_focused()
    visitor.check()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_bad_input_is_said_at_its_field_and_what_was_written_stays(server: Server, visit: Visit, scripts: bool) -> None:
    page, visitor = form_of(visit, server, "iris", scripts=scripts)
    page.get_by_label(PETAL).fill("wide")
    page.get_by_label("sepal width (cm)").fill("3.25")
    ask(page)
    wrong = page.get_by_label(PETAL)
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_have_accessible_description(re.compile("number", re.IGNORECASE))
    expect(wrong).to_have_value("wide")
    expect(wrong).to_be_focused()
    expect(page.get_by_label("sepal width (cm)")).to_have_value("3.25")
    assert page.locator("[aria-invalid=true]").count() == 1
    visitor.check()
    wrong.fill("6")
    ask(page)
    expect(page.locator("#answer")).to_be_visible()
    expect(page.get_by_label(PETAL)).to_have_value("6")
    expect(page.locator("[aria-invalid=true]")).to_have_count(0)


def test_a_body_of_several_rows_is_written_as_json_and_answered_as_a_table(server: Server, visit: Visit) -> None:
    page, visitor = form_of(visit, server, "sum", "phone")
    page.get_by_role("radio", name="JSON").check()
    body = page.get_by_label("Request body")
    expect(body).to_be_visible()
    body.fill("[[1, 2], [3, 4")
    ask(page)
    expect(body).to_have_attribute("aria-invalid", "true")
    expect(body).to_be_focused()
    expect(body).to_have_value("[[1, 2], [3, 4")
    visitor.check()
    body.fill("[[1, 2], [3, 4]]")
    ask(page)
    rows = page.locator("#predictions tbody tr")
    expect(rows).to_have_count(2)
    assert [round(float(row.locator("td").inner_text()), 6) for row in rows.all()] == [3, 7]
    visitor.check()
    body.fill("[[1, 2, 3]]")
    ask(page)
    expect(body).to_have_accessible_description(re.compile("2"))
    visitor.check()


def test_both_ways_of_giving_input_hold_the_same(server: Server, visit: Visit) -> None:
    page, _ = form_of(visit, server, "iris")
    page.get_by_label(PETAL).fill("5.75")
    ask(page)
    expect(page.locator("#answer")).to_be_visible()
    page.get_by_role("radio", name="JSON").check()
    body = json.loads(page.get_by_label("Request body").input_value())
    assert body[PETAL] == 5.75


IMAGE = """content => {
    const files = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    files.items.add(new File([bytes], "digit.png", { type: "image/png" }));
    return files;
}"""
PASTE = """files => document.dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: files, bubbles: true, cancelable: true })
)"""


@pytest.mark.parametrize(("width", "scheme"), [("phone", "dark"), ("desk", "light")])
def test_an_image_is_chosen_dropped_and_pasted(server: Server, visit: Visit, width: str, scheme: str) -> None:
    page, visitor = form_of(visit, server, "digits", width, scheme)
    digits = load_digits()
    images = [png(np.round(image * 255 / 16).astype(np.uint8)) for image in digits.images[:3]]
    visitor.check()
    field = page.locator("#image")
    field.set_input_files({"name": "digit.png", "mimeType": "image/png", "buffer": images[0]})
    expect(page.locator("#answer")).to_have_text("0")
    expect(page.locator("dl.bars dt")).to_have_count(5)
    for number, how in ((1, "drop"), (2, "paste")):
        content = base64.b64encode(images[number]).decode()
        given = page.evaluate_handle(IMAGE, content)
        if how == "drop":
            page.dispatch_event("[data-file-drop]", "drop", {"dataTransfer": given})
        else:
            page.evaluate(PASTE, given)
        expect(page.locator("#answer")).to_have_text(str(number))
        expect(page.locator("#preview")).to_have_attribute("src", f"data:image/png;base64,{content}")
    visitor.check()
    field.set_input_files({"name": "digit.png", "mimeType": "image/png", "buffer": b"none"})
    expect(field).to_have_accessible_description(re.compile("not a PNG, JPEG or WebP image"))
    visitor.check()


def test_a_stopped_model_says_so_and_offers_its_start(server: Server, visit: Visit) -> None:
    server.http.post("/models/sum/stop").raise_for_status()
    page, visitor = form_of(visit, server, "sum")
    expect(page.get_by_role("main")).to_contain_text("stopped")
    expect(page.get_by_role("button", name="Predict", exact=True)).to_be_disabled()
    visitor.check()
    page.locator("#not-serving").get_by_role("button", name="Start").click()
    expect(page.get_by_role("link", name="Try it")).to_be_visible(timeout=60_000)
