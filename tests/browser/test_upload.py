"""From a file to a live model in the browser: each kind of file, and what is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.acceptance.server import Server
from tests.browser import files
from tests.browser.conftest import StartServer, Visit
from tests.browser.journey import deploy, offer, predict


@pytest.fixture(scope="module")
def server(serve: StartServer) -> Server:
    return serve(PRISM_MAX_UPLOAD_MB=1)


def stored(server: Server) -> set[Path]:
    return set((server.home / "model_store" / "uploads").iterdir())


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (files.pickled, "pickle"),
        (files.compressed, "joblib"),
        (lambda _: files.SAMPLE / "iris.onnx", "onnx"),
    ],
    ids=["pickle", "compressed joblib", "onnx"],
)
def test_each_kind_of_file_is_read_shown_deployed_and_answers(
    server: Server, visit: Visit, tmp_path: Path, make: Callable[[Path], Path], shown: str
) -> None:
    visitor = visit(server)
    file = make(tmp_path)
    before = stored(server)
    page = offer(visitor, file)
    expect(page.get_by_role("heading", level=1)).to_have_text(file.name)
    reading = page.get_by_role("main")
    expect(reading).to_contain_text(re.compile(shown, re.IGNORECASE))
    needed = "onnxruntime" if shown == "onnx" else "scikit-learn"
    expect(page.get_by_role("table").filter(has_text="Evidence")).to_contain_text(needed)
    assert len(stored(server) - before) == 1
    assert not server.http.get("/registry").json()["entries"] or shown != "pickle", "nothing is built before it is seen"
    visitor.check()
    deploy(page, f"iris {shown}")
    visitor.check()
    predict(page)
    expect(page.locator("#result")).to_contain_text("setosa")


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("page.onnx", b"<!DOCTYPE html><html><body>Not found</body></html>", 415, "HTML"),
        ("notes.txt", b"hello, this is no model\n", 415, "notes.txt"),
        ("empty.pkl", b"", 400, "empty"),
        ("big.joblib", bytes(2 << 20), 413, "1 MiB"),
    ],
    ids=["web page", "text", "empty", "oversize"],
)
def test_a_file_that_is_no_model_is_refused_beside_its_field(
    server: Server, visit: Visit, tmp_path: Path, name: str, content: bytes, status: int, said: str
) -> None:
    visitor = visit(server, "phone", scripts=status != 413)
    visitor.awaits(status)
    before = stored(server)
    page = offer(visitor, files.written(tmp_path, name, content))
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.get_by_label("Model file", exact=True)).to_have_accessible_description(re.compile(re.escape(said)))
    visitor.check()
    assert stored(server) == before


def test_a_cut_file_is_refused_and_a_whole_one_taken_from_the_same_page(
    server: Server, visit: Visit, tmp_path: Path, iris_file: Path
) -> None:
    visitor = visit(server)
    visitor.awaits(422)
    page = offer(visitor, files.written(tmp_path, "cut.joblib", iris_file.read_bytes()[:-20]))
    expect(page.get_by_role("alert")).to_contain_text("ends in the middle")
    visitor.check()
    page.get_by_label("Model file", exact=True).set_input_files(iris_file)
    expect(page.get_by_role("heading", level=1)).to_have_text("iris.joblib")


def test_a_dangerous_pickle_is_deployed_with_consent_alone(server: Server, visit: Visit, tmp_path: Path) -> None:
    visitor = visit(server, scheme="dark")
    page = offer(visitor, files.dangerous(tmp_path))
    expect(page.get_by_role("main")).to_contain_text("posix.system")
    consent = page.get_by_role("checkbox", name="I trust this file")
    expect(consent).not_to_be_checked()
    visitor.check()
    visitor.awaits(422)
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("main")).to_contain_text("allow_unsafe")
    assert "dangerous" not in {model["name"] for model in server.http.get("/models").json()["models"]}
    visitor.check()
    consent.check()
    deploy(page, "dangerous")
    assert server.model("dangerous")["unsafe_consent"]
    expect(page.get_by_role("main")).to_contain_text("posix.system")
    predict(page)
    expect(page.locator("#result")).to_contain_text("setosa")


def test_a_wrong_field_says_so_and_keeps_what_was_written(server: Server, visit: Visit, iris_file: Path) -> None:
    visitor = visit(server)
    page = offer(visitor, iris_file)
    page.get_by_label("Name", exact=True).fill("a/b")
    page.locator("#overrides summary").click()
    page.get_by_label("Description").fill("of flowers")
    page.get_by_label("Sample request").fill('{"a": 1')
    visitor.awaits(400)
    page.get_by_role("button", name="Deploy", exact=True).click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_accessible_description(re.compile("'/'"))
    expect(name).to_have_value("a/b")
    expect(name).to_be_focused()
    expect(page.get_by_label("Description")).to_have_value("of flowers")
    expect(page.get_by_label("Sample request")).to_have_value('{"a": 1')
    visitor.check()


def test_what_is_stopped_follows_the_name_as_it_is_typed_and_may_be_kept(
    serve: StartServer, visit: Visit, iris_file: Path
) -> None:
    server = serve(PRISM_SINGLE_ACTIVE_MODEL="true")
    server.deploy(files.SAMPLE / "iris.onnx", model_name="first")
    visitor = visit(server, "phone")
    page = offer(visitor, iris_file)
    told = page.locator("#consequence")
    expect(told).to_contain_text("Becomes iris@1.0.0.")
    expect(told.get_by_role("radio", name="stop first@1.0.0")).to_be_checked()
    assert told.get_by_text("stop").evaluate("one => getComputedStyle(one).fontWeight") == "400"
    visitor.check()
    name = page.get_by_label("Name", exact=True)
    name.fill("first")
    expect(told).to_contain_text("Becomes first@1.1.0 and, once it answers, replaces first@1.0.0.")
    expect(told.get_by_role("radio")).to_have_count(0)
    name.fill("a/b")
    expect(told).to_contain_text("contains '/'")
    name.fill("second")
    told.get_by_role("radio", name="keep it running").check()
    name.fill("second2")
    expect(told).to_contain_text("Becomes second2@1.0.0.")
    expect(told.get_by_role("radio", name="keep it running")).to_be_checked()
    visitor.check()
    deploy(page, "second2")
    assert {model["name"] for model in server.http.get("/models").json()["models"] if model["status"] == "live"} == {
        "first",
        "second2",
    }


def test_a_folder_of_code_is_added_with_its_paths(server: Server, visit: Visit, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    (folder / "deep").mkdir(parents=True)
    (folder / "features.py").write_text("class Model:\n    def predict(self, rows):\n        return rows\n")
    (folder / "deep" / "notes.txt").write_text("not code")
    (tmp_path / "m.pkl").write_bytes(b"csrc.features\nModel\n)R.")
    visitor = visit(server)
    page = offer(visitor, tmp_path / "m.pkl")
    section = page.locator("#missing-code")
    expect(section).to_contain_text("It needs your code")
    visitor.check()
    section.get_by_label("Or a folder of them").set_input_files(folder)
    section.get_by_role("button", name="Add").click()
    expect(page.locator("#missing-code")).to_contain_text("Received: src.")
    visitor.check()
