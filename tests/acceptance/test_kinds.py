"""Kinds of models that people bring, from their file to their predictions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model_container.contract.logfile import TIME
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, problem

SAMPLE = CHECKOUT / "model_store" / "samples" / "iris"


@pytest.fixture
def here(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process")


def test_a_pipeline_trained_on_mixed_columns_takes_them_by_name_in_any_order(here: Server, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"age": [22.0, 38, np.nan, 35] * 5, "port": ["S", "C", "S", "Q"] * 5, "fare": [7.25, 71.3, 7.9, 53.1] * 5}
    )
    columns = make_column_transformer((SimpleImputer(), ["age", "fare"]), (OneHotEncoder(), ["port"]))
    model = make_pipeline(columns, LogisticRegression()).fit(frame, ["no", "yes", "no", "yes"] * 5)
    joblib.dump(model, tmp_path / "titanic.joblib")
    document = here.deploy(tmp_path / "titanic.joblib")
    assert {column["name"]: column["choices"] for column in document["signature"]["inputs"]}["port"] == ["C", "Q", "S"]
    assert document["sample"]["port"] in ("C", "Q", "S")
    rows = [{"port": "C", "fare": 71.3, "age": 38}, {"fare": 7.9, "age": None, "port": "S"}]
    wanted = model.predict(pd.DataFrame(rows)[["age", "port", "fare"]].astype({"age": float})).tolist()
    assert here.predict("titanic", rows).json()["predictions"] == wanted
    refused = problem(here.predict("titanic", {"age": 1, "port": "X", "fare": 1}))
    assert refused["status"] == 422
    assert "X" in refused["detail"]


def test_a_skops_file_answers_as_the_model_it_was_made_of(
    start_server: StartServer, target: str, tmp_path: Path
) -> None:
    server = start_server(PRISM_TARGET=target)
    frame, labels = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, labels)
    skops.io.dump(model, tmp_path / "iris.skops")
    document = server.deploy(tmp_path / "iris.skops")
    assert {"scikit-learn", "skops"} <= {pin["distribution"] for pin in document["environment"]["pins"]}
    rows = frame.iloc[::30]
    answer = server.predict("iris", rows.to_dict("records"), probabilities="true").json()
    assert answer["predictions"] == model.predict(rows).tolist()
    assert np.allclose(answer["probabilities"], model.predict_proba(rows))


def test_the_onnx_twin_of_a_model_answers_the_same(start_server: StartServer, target: str) -> None:
    server = start_server(PRISM_TARGET=target, PRISM_SINGLE_ACTIVE_MODEL="false")
    row = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
    for name in ("iris.joblib", "iris.onnx"):
        server.deploy(SAMPLE / name, model_name=name)
        answer = server.predict(name, row, probabilities="true").json()
        assert answer["predictions"] == ["virginica"], answer
        assert max(answer["probabilities"][0]) > 0.9
    pins = {pin["distribution"] for pin in server.model("iris.onnx")["environment"]["pins"]}
    assert "onnxruntime" in pins
    assert "scikit-learn" not in pins


def test_onnx_with_several_inputs_of_several_types(here: Server, tmp_path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info("count", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("weight", TensorProto.DOUBLE, ["n"]),
    ]
    outputs = [
        helper.make_tensor_value_info("total", TensorProto.DOUBLE, ["n"]),
        helper.make_tensor_value_info("many", TensorProto.BOOL, ["n"]),
    ]
    nodes = [
        helper.make_node("Cast", ["count"], ["real"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["real", "weight"], ["total"]),
        helper.make_node("Greater", ["real", "weight"], ["many"]),
    ]
    graph = helper.make_graph(nodes, "two", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "two.onnx"
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path)
    wanted = session.run(None, {"count": np.array([2, 3]), "weight": np.array([2.5, 0.5])})
    here.deploy(path)
    predictions = here.predict("two", {"inputs": {"count": [2, 3], "weight": [2.5, 0.5]}}).json()["predictions"]
    assert [row["total"] for row in predictions] == wanted[0].tolist()
    assert [row["many"] for row in predictions] == wanted[1].tolist()
    onnx.checker.check_model(model)


TALKER = "class Talker:\n    def predict(self, rows):\n        print('saw', rows[0][0])\n        return rows\n"


def test_what_a_model_prints_is_in_its_log_live_and_after(here: Server, tmp_path: Path) -> None:
    script = f"{TALKER}\nimport pickle, sys\nsys.stdout.buffer.write(pickle.dumps(Talker()))"
    (tmp_path / "talker.pkl").write_bytes(
        subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout
    )
    answer = here.upload(
        tmp_path / "talker.pkl", code={"talker.py": TALKER.encode()}, expected_input_json="[[0]]", model_name="talker"
    )
    assert answer.status_code == 201, answer.text
    with here.http.stream("GET", "/models/talker/logs", params={"follow": "true", "tail": "0"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert any(line.startswith("id: ") for line in lines), "the place from which on it is followed"
        here.predict("talker", [[42]])
        assert "data: saw 42" in lines
    assert "\nsaw 42\n" in here.http.get("/models/talker/logs").text
    here.http.post("/models/talker/stop")
    stamped = here.http.get("/models/talker/logs", params={"timestamps": "true"}).text
    assert re.search(rf"^{TIME} saw 42$", stamped, re.MULTILINE), stamped
