"""What comes as a folder is served by the Docker target as by any: Python mode, MLflow, images, the models folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.acceptance.images_lab import png
from tests.acceptance.mlflow_lab import PYTHON_MODEL, packed
from tests.acceptance.models_folder_lab import put
from tests.acceptance.python_mode_lab import FILES, zipped
from tests.acceptance.served import serving
from tests.acceptance.server import CHECKOUT, Server, wait_for

pytestmark = pytest.mark.docker

IRIS = CHECKOUT / "model_store" / "samples" / "iris" / "iris.joblib"
ROW = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
SECONDS = 180
"""For an image whose environment is built for the first time."""

MODEL = "class Model:\n    def predict(self, rows):\n        return ['VALUE' for row in rows]\n"


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three entries, one of them broken, when the server starts."""
    folder = tmp_path_factory.mktemp("models")
    put(folder, "iris", iris_joblib=IRIS)
    put(folder, "echo", model_py=MODEL.replace("VALUE", "first"))
    put(folder, "broken", model_config_yaml="framewok: python\n", model_py=MODEL)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path, models_folder: Path) -> Iterator[Server]:
    settings = {"PRISM_TARGET": "docker", "PRISM_MODELS_DIR": models_folder, "PRISM_MODELS_DIR_INTERVAL_SECONDS": 0.1}
    with serving(tmp_path_factory.mktemp("home"), environments, **settings) as server:
        yield server


def in_a_container(server: Server, ref: str) -> bool:
    return bool(server.model(ref)["replica"]["target"] == "docker")


def becomes(server: Server, ref: str, body: object, wanted: object) -> None:
    def does() -> bool:
        answer = server.predict(ref, body)
        return answer.status_code == 200 and bool(answer.json()["predictions"] == wanted)

    wait_for(does, SECONDS, f"{ref} answers {wanted} ({server.http.get('/models-folder').text[-1500:]})")


def test_python_mode_has_its_files_and_answers(server: Server, tmp_path: Path) -> None:
    server.deploy(zipped(tmp_path, FILES))
    assert in_a_container(server, "tariff")
    rows = [{"city": "oslo", "km": 3}, {"city": "lima", "km": 2}]
    assert server.predict("tariff", {"features": rows}).json()["predictions"] == [7.5, 2.5]


def saved(folder: Path, way: str) -> Any:
    """An MLflow folder, and the model in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        import mlflow.sklearn
        from mlflow.models import infer_signature

        if way == "sklearn":
            x, y = load_digits(return_X_y=True)
            model = LogisticRegression(max_iter=1000).fit(x, y)
            mlflow.sklearn.save_model(
                model, folder, serialization_format="cloudpickle", signature=infer_signature(x, y)
            )
            return model
        (folder.parent / "triple.py").write_text(PYTHON_MODEL)
        (folder.parent / "factor.txt").write_text("3")
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "yy"]})
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(folder.parent / "triple.py"),
            artifacts={"factor": str(folder.parent / "factor.txt")},
            signature=infer_signature(frame, pd.Series([1.0])),
            pip_requirements=[f"mlflow=={mlflow.__version__}", "pandas", "numpy"],
        )
        return None


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)


def test_an_mlflow_flavor_answers_from_its_file_and_reads_images(server: Server, tmp_path: Path, quiet: None) -> None:
    model = saved(tmp_path / "flavor", "sklearn")
    server.deploy(packed(tmp_path / "flavor"))
    assert in_a_container(server, "flavor")
    digits = load_digits()
    wanted = model.predict(digits.data[:10]).tolist()
    assert server.predict("flavor", {"features": digits.data[:10].tolist()}).json()["predictions"] == wanted
    images = [png(np.round(image * 255 / 16).astype(np.uint8)) for image in digits.images[:10]]
    files = [("image", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]
    assert server.http.post("/models/flavor/predict", files=files).json()["predictions"] == wanted
    one = server.http.post("/models/flavor/predict", content=images[3], headers={"Content-Type": "image/png"})
    assert one.json()["predictions"] == wanted[3:4]


def test_a_python_function_of_mlflow_is_loaded_in_a_container(server: Server, tmp_path: Path, quiet: None) -> None:
    saved(tmp_path / "triple", "pyfunc")
    server.deploy(packed(tmp_path / "triple"))
    assert in_a_container(server, "triple")
    assert server.predict("triple", [{"a": 1, "b": "four"}]).json()["predictions"] == [7.0]


def test_the_models_folder_is_served_and_followed(server: Server, models_folder: Path) -> None:
    becomes(server, "iris", ROW, ["virginica"])
    becomes(server, "echo", {"features": [1]}, ["first"])
    assert in_a_container(server, "iris")

    def broken() -> str:
        entries = server.http.get("/models-folder").json()["entries"]
        return str([one for one in entries if (one["name"], one["state"]) == ("broken", "broken")])

    wait_for(lambda: "framework" in broken(), 30, "the misspelt key is answered with the right one")
    assert server.predict("broken", {"features": [1]}).status_code == 404

    put(models_folder, "echo", model_py=MODEL.replace("VALUE", "second"))
    becomes(server, "echo", {"features": [1]}, ["second"])
    put(models_folder, "late", model_py=MODEL.replace("VALUE", "late"))
    becomes(server, "late", {"features": [1]}, ["late"])
    assert server.predict("iris", ROW).json()["predictions"] == ["virginica"]
