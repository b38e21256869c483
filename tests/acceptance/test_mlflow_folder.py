"""Model folders as MLflow saves them are served: without MLflow where a flavor names its file, else by MLflow itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.acceptance.conftest import StartServer
from tests.acceptance.mlflow_lab import PYTHON_MODEL, packed
from tests.acceptance.server import Server, problem

pytestmark = pytest.mark.slow


@pytest.fixture
def here(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false", PRISM_START_TIMEOUT_SECONDS=180)


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any]:
    return load_iris(return_X_y=True, as_frame=True)  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """MLflow reports its use to its makers, keeps a folder where it is, and warns when it is imported first."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc  # noqa: F401


def saved(save: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save()


@pytest.mark.parametrize("way", ["cloudpickle", "pickle", "skops"])
def test_a_sklearn_flavor_is_loaded_from_its_file(
    here: Server, tmp_path: Path, iris: tuple[Any, Any], way: str
) -> None:
    import mlflow.sklearn
    from mlflow.models import infer_signature

    x, y = iris
    model = LogisticRegression(max_iter=500).fit(x, y)
    folder = tmp_path / way
    saved(
        lambda: mlflow.sklearn.save_model(
            model, folder, serialization_format=way, signature=infer_signature(x, y), input_example=x.head(2)
        )
    )
    document = here.deploy(packed(folder))
    assert document["inspection"]["format"] == ("skops" if way == "skops" else "pickle")
    assert document["inspection"]["facts"]["mlflow"].startswith("sklearn, saved by MLflow 3.")
    assert document["inspection"]["facts"]["not_installed"].startswith("mlflow==3.")
    assert document["sample"]["dataframe_split"]["data"] == [x.iloc[0].tolist()]
    packages = document["environment"]["packages"]
    assert not any(line.startswith("mlflow") for line in packages)
    evidence = {pin["distribution"]: pin["evidence"] for pin in document["environment"]["pins"]}
    assert evidence["scikit-learn"] == "requirements.txt asks for it"
    assert [one["name"] for one in document["signature"]["inputs"]] == list(x.columns)
    rows = x.iloc[::40]
    assert here.predict(way, rows.to_dict("records")).json()["predictions"] == model.predict(rows).tolist()


def test_an_onnx_flavor_is_loaded_from_its_file(here: Server, tmp_path: Path) -> None:
    import mlflow.onnx
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.arange(1024, dtype=np.float32).reshape(32, 32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "m",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    saved(lambda: mlflow.onnx.save_model(model, tmp_path / "graph"))
    document = here.deploy(packed(tmp_path / "graph"))
    assert document["inspection"]["format"] == "onnx"
    row = np.ones((1, 32), np.float32)
    assert np.allclose(here.predict("graph", {"features": row.tolist()}).json()["predictions"], row @ weights)


def test_a_python_function_is_loaded_by_mlflow(here: Server, tmp_path: Path) -> None:
    """Written as code, so that nothing of it is a pickle."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    (tmp_path / "triple.py").write_text(PYTHON_MODEL)
    (tmp_path / "factor.txt").write_text("3")
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "yy"]})
    saved(
        lambda: mlflow.pyfunc.save_model(
            tmp_path / "triple",
            python_model=str(tmp_path / "triple.py"),
            artifacts={"factor": str(tmp_path / "factor.txt")},
            signature=infer_signature(frame, pd.Series([1.0])),
            input_example=frame,
            pip_requirements=[f"mlflow=={mlflow.__version__}", "pandas", "numpy"],
        )
    )
    document = here.deploy(packed(tmp_path / "triple"))
    assert document["inspection"]["format"] == "mlflow"
    names = {line.partition("==")[0] for line in document["environment"]["packages"]}
    assert "mlflow-skinny" in names
    assert "mlflow" not in names
    assert [(one["name"], one["datatype"]) for one in document["signature"]["inputs"]] == [
        ("a", "FP64"),
        ("b", "BYTES"),
    ]
    rows = [{"a": 1, "b": "four"}, {"b": "", "a": 2}]
    assert here.predict("triple", rows).json()["predictions"] == [7.0, 6.0]
    refused = problem(here.predict("triple", {"a": "one", "b": "x"}))
    assert refused["column"] == "a"
    split = {"dataframe_split": {"columns": ["a", "b"], "data": [[2, "x"]]}}
    assert here.predict("triple", split).json()["predictions"] == [7.0]


CALENDAR = """
import mlflow
from mlflow.models import set_model

class Calendar(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["when"].dt.month * 100 + model_input["member"] * 10 + model_input["visits"]

set_model(Calendar())
"""


def test_dates_and_truth_values_of_the_signature_are_typed_in_requests_and_on_the_page(
    here: Server, tmp_path: Path
) -> None:
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    (tmp_path / "calendar_model.py").write_text(CALENDAR)
    frame = pd.DataFrame({"when": pd.to_datetime(["2024-05-06"]), "member": [True], "visits": [3]})
    saved(
        lambda: mlflow.pyfunc.save_model(
            tmp_path / "calendar",
            python_model=str(tmp_path / "calendar_model.py"),
            signature=infer_signature(frame),
            pip_requirements=[f"mlflow=={mlflow.__version__}", "pandas", "numpy"],
        )
    )
    document = here.deploy(packed(tmp_path / "calendar"))
    assert {one["name"]: one["datatype"] for one in document["signature"]["inputs"]} == {
        "when": "DATETIME",
        "member": "BOOL",
        "visits": "INT64",
    }
    rows = [
        {"when": "2024-12-31", "member": True, "visits": 1},
        {"when": "2024-12-31T23:30:00-02:00", "member": False, "visits": 2},
    ]
    assert here.predict("calendar", rows).json()["predictions"] == [1211, 102]
    assert problem(here.predict("calendar", {**rows[0], "when": "31.12.2024"}))["code"] == "not_a_date"
    table = here.http.get("/v2/models/calendar").json()
    assert [one["datatype"] for one in table["inputs"]] == ["BYTES", "BOOL", "INT64"]
    page = here.http.get("/predict", params={"model_id": document["model_id"]}).text
    assert 'type="date" value="2024-01-01"' in page
    assert 'type="checkbox" value="true" checked' in page


PICKLED = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow.pyfunc

class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return {"seen": [type(model_input).__name__]}

mlflow.pyfunc.save_model(sys.argv[1], python_model=Echo())
"""


def test_a_pickled_python_model_needs_consent(here: Server, tmp_path: Path) -> None:
    """cloudpickle stores its class as code, which the pickle runs."""
    folder = tmp_path / "echo"
    subprocess.run([sys.executable, "-c", PICKLED, str(folder)], cwd=tmp_path, check=True, capture_output=True)
    refused = problem(here.upload(packed(folder)))
    assert refused["code"] == "unsafe_artifact"
    assert any(one["name"].startswith("cloudpickle.") for one in refused["dangers"])
    document = here.deploy(packed(folder), allow_unsafe="true")
    assert document["unsafe_consent"]
    assert here.predict("echo", {"inputs": [[1, 2]]}).json()["predictions"] == [{"seen": "ndarray"}]


def test_a_folder_of_an_older_mlflow_is_read(here: Server, tmp_path: Path, iris: tuple[Any, Any]) -> None:
    """No requirements.txt, no signature: conda.yaml and the flavor say what there is."""
    import cloudpickle

    x, y = iris
    folder = tmp_path / "old"
    folder.mkdir()
    model = LogisticRegression(max_iter=500).fit(x.to_numpy(), y)
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(model))
    flavors = (
        "artifact_path: model\nflavors:\n  python_function:\n    data: model.pkl\n    env: conda.yaml\n"
        "    loader_module: mlflow.sklearn\n    python_version: 3.11.7\n  sklearn:\n    pickled_model: model.pkl\n"
        "    serialization_format: cloudpickle\n    sklearn_version: 1.0.2\nrun_id: 0f1\n"
    )
    (folder / "MLmodel").write_text(flavors)
    conda = "name: mlflow-env\ndependencies:\n- python=3.11\n- pip\n- pip:\n  - mlflow\n  - cloudpickle==3.1.2\n"
    (folder / "conda.yaml").write_text(conda)
    document = here.deploy(packed(folder))
    pins = {pin["distribution"]: pin for pin in document["environment"]["pins"]}
    assert pins["cloudpickle"]["evidence"] == "conda.yaml asks for it"
    assert pins["scikit-learn"]["evidence"].startswith("`_sklearn_version` in the file")
    rows = x.iloc[::60].to_numpy()
    assert here.predict("old", {"features": rows.tolist()}).json()["predictions"] == model.predict(rows).tolist()


def test_an_mlflow_folder_that_is_damaged_says_how(here: Server, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    for text, words in (
        ("flavors: [1]", "names no flavors"),
        ("flavors:\n  h2o:\n    data: x\n", "none of which PRISM can load"),
        ("a: &x\n  *x", "MLmodel"),
    ):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "MLmodel").write_text(text)
        refused = problem(here.upload(packed(folder)))
        assert refused["status"] == 400
        assert words in refused["detail"]
    (folder / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: ../../etc/passwd\n")
    assert "none of which" in problem(here.upload(packed(folder)))["detail"]
