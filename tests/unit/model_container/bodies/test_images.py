"""Images in requests, as far as no image is decoded: what is told of them where Pillow is missing, and forms of files."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from sklearn.linear_model import LinearRegression

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.files import file_rows
from model_container.batch import Batcher
from model_container.bodies.form_files import FILES_MAX, files_of
from model_container.bodies.problems import Problem
from model_container.contract.config import PredictContract
from model_container.contract.frames import DIALECT_FILE, DIALECT_FORM, DIALECT_JSON, Request
from tests.unit.model_container.asking import predictions

PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="%b"\r\nContent-Type: image/png\r\n\r\n%b\r\n'
FIELD = b'--b\r\nContent-Disposition: form-data; name="age"\r\n\r\n41\r\n'
END = b"--b--\r\n"


def model(width: int) -> Batcher:
    rows = [[float(index == at) for index in range(width)] for at in (0, 1)]
    adapter = EstimatorAdapter(LinearRegression().fit(rows, [1.0, 2.0]))
    return Batcher(adapter, file_rows(adapter, PredictContract()))


def refused(target: Batcher, body: bytes, dialect: int) -> dict[str, Any]:
    (answer,), _, _ = target.run([Request(body, dialect)])
    return {"status": answer.status, **json.loads(answer.body)}


def test_the_files_of_a_form_are_rows_in_their_order() -> None:
    assert files_of(PART % (b"a.png", b"one\r\n--x") + PART % (b"b.png", b"") + PART % (b"", b"") + END) == [
        b"one\r\n--x",
        b"",
    ]


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", "not_a_form", "boundary"),
        (b"--\r\n--", "not_a_form", "boundary"),
        (b"-" * 200 + b"\r\n", "not_a_form", "boundary"),
        (PART % (b"a", b"x"), "not_a_form", "end is missing"),
        (b"--b\r\nx\r\n" + END, "not_a_form", "no content"),
        ((PART % (b"a", b"x")) * (FILES_MAX + 2) + END, "not_a_form", f"{FILES_MAX} fields"),
        (FIELD + END, "unknown_keys", "'age'"),
        (PART % (b"", b"") + END, "no_rows", "no rows"),
    ],
)
def test_what_is_no_form_of_files_is_told(body: bytes, code: str, words: str) -> None:
    with pytest.raises(Problem, match=words) as caught:
        files_of(body)
    assert caught.value.code == code


@pytest.mark.parametrize(("dialect", "body"), [(DIALECT_FILE, b"\x89PNG"), (DIALECT_FORM, PART % (b"a", b"x") + END)])
def test_a_model_of_another_shape_takes_no_images(dialect: int, body: bytes) -> None:
    problem = refused(model(4), body, dialect)
    assert (problem["status"], problem["code"]) == (415, "takes_no_images")
    assert "model_config.yaml" in problem["hint"]


def test_numbers_are_read_as_before_where_images_are_taken() -> None:
    assert predictions(model(64), {"features": [[1.0] + [0.0] * 63]}) == [pytest.approx(1.0)]


def test_an_environment_without_pillow_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    problem = refused(model(64), b"\x89PNG", DIALECT_FILE)
    assert (problem["status"], problem["code"]) == (415, "pillow_missing")
    assert "Deploy the model again" in problem["hint"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://example.org/cat.png", "not fetched"),
        ("data:image/png,abc", "not in base64"),
        ("data:image/png;base64,", "empty"),
        ("hä", "not base64"),
    ],
)
def test_a_text_that_is_no_image_is_told(text: str, words: str) -> None:
    problem = refused(model(64), json.dumps({"input": [text]}).encode(), DIALECT_JSON)
    assert (problem["status"], problem["code"], problem["row"]) == (422, "not_an_image", 0)
    assert words in problem["detail"]
