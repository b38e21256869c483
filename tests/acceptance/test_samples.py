"""The sample models of model_store/, as its README describes them, deployed and asked."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import skops.io

from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server

STORE = CHECKOUT / "model_store"
ROW = re.compile(r"^\| `(\S+)` \|[^|]+\| `(.+)` \| `(.+)` \|$", re.M)
SIZE_MOST_BYTES = 50_000


class Sample(NamedTuple):
    """One row of the README's table."""

    name: str
    request: dict[str, object]
    prediction: object


SAMPLES = [
    Sample(name, json.loads(asked), json.loads(told))
    for name, asked, told in ROW.findall(STORE.joinpath("README.md").read_text())
]


def onnx_in_memory(path: Path, frame: pd.DataFrame) -> list[object]:
    columns = {name: values.to_numpy(np.float32).reshape(-1, 1) for name, values in frame.items()}
    (predictions,) = onnxruntime.InferenceSession(path).run(None, columns)
    answers: list[object] = predictions.tolist()
    return answers


IN_MEMORY: dict[str, Callable[[Path, pd.DataFrame], list[object]]] = {
    ".pkl": lambda path, frame: joblib.load(path).predict(frame).tolist(),
    ".pickle": lambda path, frame: joblib.load(path).predict(frame).tolist(),
    ".joblib": lambda path, frame: joblib.load(path).predict(frame).tolist(),
    ".skops": lambda path, frame: skops.io.load(path).predict(frame).tolist(),
    ".onnx": onnx_in_memory,
}
"""How the library that wrote a kind of file loads it and predicts."""


def in_memory(path: Path, request: dict[str, object]) -> object:
    (prediction,) = IN_MEMORY[path.suffix](path, pd.DataFrame([request]))
    return prediction


def about(prediction: object) -> object:
    """Compare equal to the same text, and to numbers that agree in the digits that the README prints."""
    return prediction if isinstance(prediction, str) else pytest.approx(prediction, rel=1e-5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("home"), environments, PRISM_TARGET="process") as server:
        yield server


def test_the_readme_names_every_sample_and_one_of_each_kind_of_file() -> None:
    names = [sample.name for sample in SAMPLES]
    files = [path for path in STORE.iterdir() if path.is_file() and path.name != "README.md"]
    assert sorted(names) == sorted(path.name for path in files)
    assert {path.suffix for path in files} == IN_MEMORY.keys()
    assert max(path.stat().st_size for path in files) < SIZE_MOST_BYTES


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_each_answers_its_request_as_its_library_does(server: Server, sample: Sample) -> None:
    document = server.deploy(STORE / sample.name, model_name=sample.name.replace(".", "-"))
    answer = server.predict(document["model_id"], sample.request)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["predictions"]
    assert prediction == about(in_memory(STORE / sample.name, sample.request))
    assert prediction == about(sample.prediction)


def test_linear_regression_is_deployed_by_the_form_with_a_name_and_a_description(server: Server) -> None:
    form = {
        "model_name": "Linear Regression",
        "model_description": "Demo model",
        "expected_input_json": '{"feature1": 0.1}',
    }
    document = server.deploy(STORE / "linear_regression.pkl", **form)
    assert document["description"] == "Demo model"
    assert server.predict(document["model_id"], {"feature1": 0.1}).json()["predictions"] == pytest.approx([1.2])


def test_the_script_makes_models_that_predict_the_same(tmp_path: Path) -> None:
    script = CHECKOUT / "scripts" / "make_samples.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(sample.name for sample in SAMPLES)
    for sample in SAMPLES:
        again = in_memory(tmp_path / sample.name, sample.request)
        assert again == about(in_memory(STORE / sample.name, sample.request)), sample.name
