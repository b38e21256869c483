"""A whole table on the predict page: preview, batches, download, and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.server import Server
from tests.browser.conftest import StartServer, Visit
from tests.browser.visitor import Visitor

DROP = """(form, [name, text]) => {
  const files = new DataTransfer();
  files.items.add(new File([text], name, {type: "text/csv"}));
  form.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def server(serve: StartServer, iris_file: Path) -> Server:
    server = serve()
    server.deploy(iris_file, model_name="iris")
    return server


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    from sklearn.datasets import load_iris

    return pd.concat([load_iris(as_frame=True).data] * 40, ignore_index=True)


@pytest.fixture(scope="module")
def wanted(iris_file: Path, frame: pd.DataFrame) -> Any:
    import joblib

    return joblib.load(iris_file).predict(frame)


def page_of(visit: Visit, server: Server, *how: str, scripts: bool = True) -> tuple[Page, Visitor]:
    visitor = visit(server, *how, scripts=scripts, accept_downloads=True)
    return visitor.goto(f"/predict?model_id={server.model('iris')['model_id']}"), visitor


@pytest.mark.parametrize(("width", "scheme"), [("phone", "dark"), ("desk", "light")])
def test_a_table_is_previewed_predicted_and_downloaded(
    server: Server, visit: Visit, frame: pd.DataFrame, wanted: Any, tmp_path: Path, width: str, scheme: str
) -> None:
    page, visitor = page_of(visit, server, width, scheme)
    frame.to_csv(tmp_path / "data.csv", index=False)
    page.get_by_label("CSV or Parquet file").set_input_files(tmp_path / "data.csv")
    rows = page.locator("#table-rows tbody tr")
    expect(rows).to_have_count(10)
    expect(page.locator("#table-rows th").first).to_have_text(re.compile("sepal length.*number", re.DOTALL))
    visitor.check()
    page.get_by_role("button", name="Predict all rows").click()
    link = page.get_by_role("link", name="Download the results")
    expect(link).to_be_focused()
    expect(rows.first.locator("td").nth(4)).to_have_text("setosa")
    visitor.check()
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == "data-predictions.csv"
    answered = pd.read_csv(download.value.path())
    pd.testing.assert_frame_equal(answered[frame.columns], frame)
    assert (answered["prediction"] == wanted).all()
    assert {"probability_setosa", "probability_versicolor", "probability_virginica"} <= set(answered.columns)


def test_a_bad_cell_costs_its_row_alone_the_result(
    server: Server, visit: Visit, frame: pd.DataFrame, wanted: Any
) -> None:
    page, visitor = page_of(visit, server)
    spoilt = frame.astype({"petal length (cm)": object})
    spoilt.loc[3000, "petal length (cm)"] = "wide"
    page.locator("#table form").evaluate(DROP, ["data.csv", spoilt.to_csv(index=False, sep=";")])
    page.get_by_role("button", name="Predict all rows").click()
    link = page.get_by_role("link", name="Download the results")
    expect(link).to_be_focused()
    expect(page.locator("#table-said")).to_contain_text("1 of them have an error instead")
    with page.expect_download() as download:
        link.click()
    answered = pd.read_csv(download.value.path(), sep=";")
    assert list(answered["error"].dropna().index) == [3000]
    assert (answered["prediction"].drop(3000) == pd.Series(wanted).drop(3000)).all()
    visitor.check()


def test_a_table_without_a_good_row_stops_at_once(server: Server, visit: Visit, frame: pd.DataFrame) -> None:
    page, visitor = page_of(visit, server)
    spoilt = frame.head(40).assign(**{"petal length (cm)": "wide"})
    page.locator("#table form").evaluate(DROP, ["data.csv", spoilt.to_csv(index=False)])
    page.get_by_role("button", name="Predict all rows").click()
    expect(page.locator("#table-wrong")).to_contain_text("None of the first 16 rows has a result. Column 'petal length")
    visitor.check()


def test_columns_that_are_not_there_are_named_before_anything_is_sent(server: Server, visit: Visit) -> None:
    page, visitor = page_of(visit, server)
    page.locator("#table form").evaluate(DROP, ["data.csv", "sepal length (cm),petal width (cm)\n1,2\n"])
    expect(page.locator("#table-said")).to_have_text("Not in the file: sepal width (cm), petal length (cm).")
    page.locator("#table form").evaluate(DROP, ["data.parquet", "PAR1"])
    expect(page.locator("#table-said")).to_contain_text("data.parquet is sent whole")
    visitor.awaits(415)
    page.get_by_role("button", name="Predict all rows").click()
    expect(page.locator("#table-wrong")).to_contain_text("environment has no pyarrow")
    visitor.check()


def test_without_scripts_a_file_is_answered_as_a_download(
    server: Server, visit: Visit, frame: pd.DataFrame, wanted: Any, tmp_path: Path
) -> None:
    page, visitor = page_of(visit, server, scripts=False)
    frame.to_csv(tmp_path / "my data.csv", index=False)
    page.get_by_label("CSV or Parquet file").set_input_files(tmp_path / "my data.csv")
    with page.expect_download() as download:
        page.get_by_role("button", name="Predict and download").click()
    assert download.value.suggested_filename == "my data-predictions.csv"
    assert (pd.read_csv(download.value.path())["prediction"] == wanted).all()
    visitor.awaits(422)
    (tmp_path / "bad.csv").write_text(frame.head(1).to_csv(index=False).replace("3.5", "wide"))
    page.get_by_label("CSV or Parquet file").set_input_files(tmp_path / "bad.csv")
    page.get_by_role("button", name="Predict and download").click()
    expect(page.get_by_role("alert")).to_contain_text('holds "wide" where a number is expected')
    visitor.check()
