"""What a folder holds decides what it is, without running any of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.linear_model import LinearRegression

from app.artifact.code_files import needed_code
from app.artifact.folder import read_contents
from app.artifact.formats.mlflow import read_mlflow
from app.artifact.python_source import answering_class, pins_of_imports
from app.artifact.read import read_folder
from app.core.contents import Contents
from app.core.inspection import MODULE_OF_WEIGHTS, Format, Inspection, Pin
from app.errors import BadInput, PrismError, UnsupportedFormat
from tests.unit.artifact.folder_lab import laid_out

ANSWERS = "class Model:\n    def load(self): pass\n    def predict(self, rows): return rows\n"


def contents(folder: Path, files: dict[str, str]) -> Contents:
    return read_contents(laid_out(folder, files))


def refusal(folder: Path, files: dict[str, str]) -> PrismError:
    with pytest.raises(BadInput) as caught:
        contents(folder, files)
    assert caught.value.hint
    return caught.value


def test_model_py_with_its_class_is_python_mode(tmp_path: Path) -> None:
    found = contents(tmp_path, {"model.py": ANSWERS, "requirements.txt": "numba", "sample_input.json": "[[1]]"})
    assert found.format is Format.PYTHON
    assert (found.file, found.requirements, found.requirements_from) == ("", "numba", "requirements.txt")
    assert found.sample == [[1]]


def test_the_configuration_takes_precedence_over_other_files(tmp_path: Path) -> None:
    files = {"model.py": ANSWERS, "sample_input.json": "[[1]]", ".python-version": "3.12.1\n"}
    assert contents(tmp_path, files).python_version == "3.12.1"
    config = "sample: [[2]]\npython_version: 3.11\n"
    found = contents(tmp_path, {**files, "model_config.yaml": config})
    assert (found.sample, found.python_version) == ([[2]], "3.11")


@pytest.mark.parametrize(
    ("source", "is_python"),
    [
        (ANSWERS, True),
        ("class Model:\n    def predict(self, rows): return rows\n", False),  # whose pickle this is
        ("class Own:\n    def load(self): pass\n    def predict(self, rows): return rows\n", True),
        ("class Net:\n    def forward(self, x): return x\n", False),
    ],
)
def test_beside_a_model_file_the_class_must_load_it(tmp_path: Path, source: str, is_python: bool) -> None:
    found = contents(tmp_path, {"model.py": source, "weights.pkl": "x"})
    assert (found.format is Format.PYTHON) is is_python
    assert found.file == ("" if is_python else "weights.pkl")


def test_the_configuration_decides_where_both_are_possible(tmp_path: Path) -> None:
    files = {"model.py": ANSWERS, "a.pkl": "x", "b.pkl": "x"}
    assert contents(tmp_path / "1", files).format is Format.PYTHON
    assert contents(tmp_path / "2", {**files, "model_config.yaml": "file: a.pkl"}).file == "a.pkl"
    assert contents(tmp_path / "3", {**files, "model_config.yaml": "framework: python"}).format is Format.PYTHON
    assert "2 model files" in refusal(tmp_path / "4", {**files, "model_config.yaml": "framework: sklearn"}).detail


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no model. It holds nothing"),
        ({"data.csv": "a", "deep/model.pkl": "x"}, "It holds data.csv, deep/"),
        ({f"f{index:02}.txt": "" for index in range(20)}, "and 8 more"),
        ({"a.pkl": "x", "b.onnx": "x"}, "2 model files: a.pkl, b.onnx"),
        ({"model.py": "x = 1\n"}, "no class with `load` and `predict`"),
        ({"model.py": "class Model(:\n"}, "is not Python"),
        ({"a.pkl": "x", "model_config.yaml": "framework: python"}, "there is no model.py"),
        ({"a.pkl": "x", "model_config.yaml": "file: b.pkl"}, "`file: b.pkl`, which is not in the folder"),
        ({"a.pkl": "x", "model_config.yaml": "file: ../a.pkl"}, "which is not in the folder"),
        ({"a.pkl": "x", "model_config.yaml": "file: /etc/passwd"}, "which is not in the folder"),
        ({"a.pkl": "x", "sample_input.json": "{"}, "sample_input.json is not JSON"),
        ({"a.pkl": "x", "config.yaml": "file: a.pkl"}, "must be named model_config.yaml"),
    ],
)
def test_a_folder_without_a_model_is_rejected_with_its_content(
    tmp_path: Path, files: dict[str, str], words: str
) -> None:
    assert words in refusal(laid_out(tmp_path, {}), files).detail


def test_the_class_is_found_in_the_source(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    for source, name in (
        (ANSWERS, "Model"),
        ("class A:\n    def load(self): 0\n    def predict(self): 0\nclass B:\n    def predict(self): 0\n", "A"),
        (
            "class A:\n    def load(self): 0\n    def predict(self): 0\nclass Model:\n    def predict(self): 0\n",
            "Model",
        ),
        ("class A:\n    def load(self): 0\n    def predict(self): 0\n" * 2, None),
        ("def predict(rows): return rows\n", None),
    ):
        path.write_text(source)
        found = answering_class(path)
        assert (found.name if found else None) == name


def test_source_of_a_newer_python_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text("type X = int\nclass Model(:\n")
    assert answering_class(path, "3.99") is None
    with pytest.raises(BadInput, match=r"model.py is not Python.*line"):
        answering_class(path, "3.8")
    path.write_text("x = " + "(" * 20_000)
    with pytest.raises(BadInput):
        answering_class(path)


def test_imports_determine_distributions_except_for_local_modules(tmp_path: Path) -> None:
    laid_out(
        tmp_path,
        {
            "model.py": "import os, numba\nfrom sklearn.svm import SVC\nimport helper\nfrom . import other\nimport pkg.deep\n",
            "helper.py": "def f():\n    import cv2\n",
            "pkg/deep.py": "import mystery.sub\n",
        },
    )
    pins, unknown = pins_of_imports(tmp_path)
    evidence = {pin.distribution: pin.evidence for pin in pins}
    assert unknown == ("mystery",)
    assert evidence == {
        "numba": "model.py imports `numba`",
        "scikit-learn": "model.py imports `sklearn`",
        "opencv-python-headless": "helper.py imports `cv2`",
    }


def test_only_code_that_the_file_needs_is_taken(tmp_path: Path) -> None:
    laid_out(
        tmp_path,
        {
            "train.py": "from steps import Scaler\n",
            "steps.py": "import shapes.round\nclass Scaler: pass\n",
            "shapes/round.py": "import numbers_of\n",
            "numbers_of.py": "",
            "own.py": "Other = 1\n",
            "unused/x.py": "",
            "net.py": "import torch\nclass Small(torch.nn.Module): pass\n",
        },
    )

    def needed(**found: Any) -> tuple[str, ...]:
        return needed_code(tmp_path, Inspection(format=Format.PICKLE, **found))

    assert needed() == ()
    assert needed(globals=("numpy.ndarray", "steps.Scaler")) == ("numbers_of.py", "shapes", "steps.py")
    assert needed(globals=("__main__.Other",), missing_code=("__main__.Other",)) == ("own.py",)
    assert needed(missing_code=(MODULE_OF_WEIGHTS,)) == ("net.py",)


def with_a_line(folder: Path, files: dict[str, str]) -> Path:
    place = laid_out(folder, files)
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), place / "line.joblib")
    return place


def test_a_file_with_its_companions_is_read_as_both(tmp_path: Path) -> None:
    read = read_folder(
        with_a_line(tmp_path, {"requirements.txt": "scikit-learn>=1.5\nextra\n", "train.py": "import x\n"})
    )
    assert read.inspection.format is Format.JOBLIB
    assert read.contents is not None
    assert read.contents.file == "line.joblib"
    assert read.code == ()
    pins = {pin.distribution: pin for pin in read.inspection.pins}
    assert pins["scikit-learn"] == Pin("scikit-learn", ">=1.5", "requirements.txt asks for it")
    assert "joblib" in pins
    assert "extra" not in pins
    assert read.inspection.unknown_pins == (Pin("extra", "", "requirements.txt asks for it"),)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("framework: onnx", "`framework: onnx`, but line.joblib is a joblib"),
        ("framework: xgboost", "is a joblib that names scikit-learn"),
        ("framework: torch", "`framework: torch`"),
        ("framework: mlflow", "`framework: mlflow`"),
        ("framework: sklearn", None),
        ("framework: joblib", None),
        ("method: predict_proba", None),
    ],
)
def test_the_framework_must_be_that_of_the_file(tmp_path: Path, config: str, words: str | None) -> None:
    place = with_a_line(tmp_path, {"model_config.yaml": config})
    if words is None:
        assert read_folder(place).contents is not None
        return
    with pytest.raises(BadInput, match="framework") as caught:
        read_folder(place)
    assert words in caught.value.detail


def test_a_method_is_for_objects_that_have_several(tmp_path: Path) -> None:
    place = laid_out(tmp_path, {"model.py": ANSWERS, "model_config.yaml": "method: predict_proba"})
    with pytest.raises(BadInput, match="`method: predict_proba`, but the folder is a python"):
        read_folder(place)


SCHEMA = [{"type": "double", "name": "a", "required": True}, {"type": "string", "name": "b"}]
TENSORS = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]


def mlmodel(folder: Path, flavors: str, schema: Any = None, **files: str) -> Path:
    signature = f"signature:\n  inputs: '{json.dumps(schema)}'\n" if schema is not None else ""
    text = f"mlflow_version: 2.10\nflavors:\n{flavors}{signature}"
    return laid_out(folder, {"MLmodel": text, "model.pkl": "x", "model.lgb": "x", **files})


FUNCTION = "  python_function:\n    loader_module: mlflow.pyfunc.model\n    python_version: 3.10.4\n"


def test_an_mlflow_flavor_names_its_file(tmp_path: Path) -> None:
    found = read_mlflow(mlmodel(tmp_path, "  sklearn:\n    pickled_model: model.pkl\n" + FUNCTION, SCHEMA))
    assert (found.file, found.flavor, found.python_version, found.version) == ("model.pkl", "sklearn", "3.10.4", "2.10")
    assert [(one.name, one.datatype) for one in found.inputs] == [("a", "FP64"), ("b", "BYTES")]


@pytest.mark.parametrize(
    "flavors",
    [
        FUNCTION,
        "  sklearn:\n    pickled_model: ../model.pkl\n" + FUNCTION,
        "  sklearn:\n    pickled_model: /etc/passwd\n" + FUNCTION,
        "  sklearn:\n    pickled_model: gone.pkl\n" + FUNCTION,
        "  lightgbm:\n    data: model.lgb\n" + FUNCTION,
        "  xgboost:\n    data: model.ubj\n" + FUNCTION,
    ],
)
def test_flavors_without_a_supported_file_are_left_to_mlflow(tmp_path: Path, flavors: str) -> None:
    found = read_mlflow(mlmodel(tmp_path, flavors, TENSORS))
    assert (found.file, found.flavor) == ("", "python_function")
    assert found.requirements.splitlines() == ["mlflow-skinny==2.10", "numpy", "pandas"]
    assert [(one.name, one.datatype, one.shape) for one in found.inputs] == [("inputs", "FP32", (-1, 3))]


def test_mlflow_is_installed_only_where_it_loads_and_then_its_skinny_part(tmp_path: Path) -> None:
    asked = "mlflow[extras]==2.10.1\n-c constraints.txt\npip==23\nscikit-learn==1.5.2  # pinned\npandas<3\n"
    by_file = read_mlflow(
        mlmodel(tmp_path / "1", "  sklearn:\n    pickled_model: model.pkl\n", **{"requirements.txt": asked})
    )
    assert by_file.requirements.splitlines() == ["scikit-learn==1.5.2", "pandas<3"]
    assert by_file.left_out == ("mlflow[extras]==2.10.1", "-c constraints.txt", "pip==23")
    by_mlflow = read_mlflow(mlmodel(tmp_path / "2", FUNCTION, **{"requirements.txt": asked}))
    wanted = ["mlflow-skinny==2.10.1", "scikit-learn==1.5.2", "pandas<3", "numpy"]
    assert by_mlflow.requirements.splitlines() == wanted


@pytest.mark.parametrize(
    "schema",
    [
        [{"type": "object", "name": "a", "properties": {}}],
        [{"type": "double", "name": "a", "required": False}],
        [{"type": "double", "name": "a"}, {"type": "double", "name": "a"}],
        [{"type": "tensor", "name": "a", "tensor-spec": {"dtype": "complex64", "shape": [-1]}}],
        {"a": 1},
        [3],
    ],
)
def test_a_schema_beyond_plain_columns_and_tensors_is_left_to_mlflow(tmp_path: Path, schema: Any) -> None:
    assert read_mlflow(mlmodel(tmp_path, FUNCTION, schema)).inputs == ()


def test_input_examples_of_old_and_new_are_requests(tmp_path: Path) -> None:
    frame = {"columns": ["a"], "index": [0, 1], "data": [[1], [2]]}
    old = "saved_input_example_info:\n  artifact_path: example.json\n  type: {}\n"
    for kind, value, wanted in (
        ("dataframe", frame, {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
        ("ndarray", [[1, 2]], {"inputs": [[1, 2]]}),
        ("dataframe", "no frame", {"dataframe_split": "no frame"}),
    ):
        folder = tmp_path / f"{kind}{len(str(value))}"
        text = f"flavors:\n{FUNCTION}{old.format(kind)}"
        laid_out(folder, {"MLmodel": text, "example.json": json.dumps(value)})
        assert read_mlflow(folder).sample == wanted
    laid_out(tmp_path / "none", {"MLmodel": f"flavors:\n{FUNCTION}{old.format('ndarray')}", "example.json": "{"})
    assert read_mlflow(tmp_path / "none").sample is None
    with pytest.raises(UnsupportedFormat):
        read_contents(laid_out(tmp_path / "empty", {"readme.md": ""}))
