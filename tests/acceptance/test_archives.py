"""Folders and archives are served by what they hold, and hostile ones are refused before anything of them is used."""

from __future__ import annotations

import io
import pickle
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression

from prism import Prism
from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, problem

IRIS = CHECKOUT / "model_store" / "samples" / "iris"
ROW = {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
SCALER = "class Scaler:\n    def __init__(self, factor):\n        self.factor = factor\n"
PREDICT = "    def predict(self, rows):\n        from tools import times\n        return [times(row[0], self.factor) for row in rows]\n"


@pytest.fixture
def here(module_server: StartServer) -> Server:
    return module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")


@pytest.fixture
def scaler(tmp_path: Path) -> Path:
    """A folder with a pickle of a class that a script defines, that script, what it imports, and a script that must
    not run."""
    folder = tmp_path / "scaler"
    (folder / "tools").mkdir(parents=True)
    (folder / "steps.py").write_text(SCALER + PREDICT)
    (folder / "tools" / "__init__.py").write_text("from tools.arithmetic import times\n")
    (folder / "tools" / "arithmetic.py").write_text("def times(a, b):\n    return a * b\n")
    (folder / "train.py").write_text("raise SystemExit('the training script ran')\n")
    save = "import pickle, sys\nexec(open('steps.py').read())\npickle.dump(Scaler(3), open('model.pkl', 'wb'))\n"
    subprocess.run([sys.executable, "-c", save], cwd=folder, check=True)
    (folder / "sample_input.json").write_text('{"features": [[1]]}')
    return folder


def packed(folder: Path, name: str) -> Path:
    """As `zip -r` and `tar -czf` pack a folder: with its own name in front."""
    path = folder.parent / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as tar:
            tar.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", ["scaler.zip", "scaler.tar", "scaler.tar.gz", "scaler.tgz"])
def test_a_model_file_with_its_code_is_served_out_of_an_archive(here: Server, scaler: Path, name: str) -> None:
    document = here.deploy(packed(scaler, name))
    assert document["name"] == "scaler"
    assert document["artifact"]["filename"] == name
    assert document["code_files"] == ["steps.py", "tools"]
    assert here.predict("scaler", {"features": [[2], [5]]}).json()["predictions"] == [6, 15]
    folder = here.home / "model_store" / "uploads" / document["model_id"]
    assert not (folder / "archive").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["artifact", "build.log", "code", "logs", "model.json"]


def test_an_archive_becomes_an_image(start_server: StartServer, target: str, scaler: Path) -> None:
    server = start_server(PRISM_TARGET=target)
    server.deploy(packed(scaler, "scaler.zip"))
    assert server.predict("scaler", {"features": [[2]]}).json()["predictions"] == [6]


def test_the_command_line_and_the_sdk_take_a_folder(here: Server, scaler: Path) -> None:
    (scaler / "__pycache__").mkdir()
    (scaler / "__pycache__" / "steps.cpython-311.pyc").write_bytes(b"x")
    command = [sys.executable, "-m", "prism.cli", "push", str(scaler), "--url", here.url, "--name", "pushed"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pushed@1.0.0 is live" in done.stdout
    with Prism(here.url) as client:
        model = client.deploy(scaler, name="pushed")
        assert client.predict("pushed", {"features": [[7]]}).predictions == [21]
    models = here.http.get("/models").json()["models"]
    first, second = (model for model in models if model["name"] == "pushed")
    assert first["artifact"]["sha256"] == second["artifact"]["sha256"]
    assert second["ref"] == model.ref == "pushed@1.1.0"


def test_a_folder_is_reviewed_before_it_is_built(here: Server, scaler: Path) -> None:
    (scaler / "model_config.yaml").write_text("framework: pickle\ndescription: Three times\n")
    archive = ("scaler.zip", packed(scaler, "scaler.zip").read_bytes())
    shown = here.http.post("/models/inspect", files={"file": archive}).json()
    assert shown["inspection"]["facts"]["file"] == "model.pkl"
    assert shown["code_files"] == ["steps.py", "tools"]
    assert not shown["refusals"]
    answer = here.http.post("/models", files={"upload_id": (None, shown["upload_id"])})
    assert answer.status_code == 201, answer.text
    assert answer.json()["description"] == "Three times"


def test_a_pickle_in_an_archive_is_judged_as_any(here: Server, tmp_path: Path) -> None:
    class Danger:
        def __reduce__(self) -> object:
            import os

            return os.system, ("id",)

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pkl").write_bytes(pickle.dumps(Danger()))
    before = set((here.home / "model_store" / "uploads").iterdir())
    refused = problem(here.upload(packed(tmp_path / "m", "m.zip")))
    assert refused["code"] == "unsafe_artifact"
    assert set((here.home / "model_store" / "uploads").iterdir()) == before


def test_requirements_beside_a_model_file_win_and_say_so(here: Server, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), tmp_path / "m" / "line.joblib")
    (tmp_path / "m" / "requirements.txt").write_text("threadpoolctl>=3.1\n")
    document = here.deploy(packed(tmp_path / "m", "line.zip"))
    pins = {pin["distribution"]: pin for pin in document["environment"]["pins"]}
    assert pins["threadpoolctl"]["evidence"] == "requirements.txt asks for it"
    assert pins["scikit-learn"]["evidence"].startswith("`_sklearn_version`")
    assert np.allclose(here.predict("line", {"features": [[4.0]]}).json()["predictions"], [8.0])


def test_onnx_with_its_weights_beside_it(here: Server, tmp_path: Path) -> None:
    folder = tmp_path / "wide"
    folder.mkdir()
    weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "wide.onnx", save_as_external_data=True, location="wide.weights", size_threshold=0)
    assert "wide.weights" in problem(here.upload(folder / "wide.onnx"))["detail"]
    here.deploy(packed(folder, "wide.zip"))
    row = np.ones((1, 64), np.float32)
    answer = here.predict("wide", {"features": row.tolist()}).json()["predictions"]
    assert np.allclose(answer, row @ weights)


def test_a_model_file_that_is_itself_an_archive_stays_one(here: Server, tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    refused = problem(here.upload(tmp_path / "arrays.npz"))
    assert refused["code"] == "unsupported_format"
    assert "numpy" in refused["detail"]


def hostile(folder: Path) -> dict[str, Path]:
    """Archives that would do harm where they are unpacked without care."""
    outside = tarfile.TarInfo("../outside.py")
    link = tarfile.TarInfo("model.pkl")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("model.pkl")
    device.type = tarfile.CHRTYPE
    made = {}
    for name, entry in (("outside", outside), ("link", link), ("device", device)):
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            tar.addfile(entry)
        made[name] = folder / f"{name}.tar"
    absolute = zipfile.ZipInfo("/tmp/absolute.py")
    soft = zipfile.ZipInfo("model.pkl")
    soft.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, member in (("absolute", absolute), ("soft", soft)):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr(member, "/etc/passwd")
        made[name] = folder / f"{name}.zip"
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pkl", bytes(100 << 20))
    made["bomb"] = folder / "bomb.zip"
    return made


def test_hostile_archives_are_refused_and_nothing_is_left_of_them(here: Server, tmp_path: Path) -> None:
    uploads = here.home / "model_store" / "uploads"
    before = set(uploads.iterdir())
    for name, path in hostile(tmp_path).items():
        refused = problem(here.upload(path))
        assert refused["code"] == ("too_large" if name == "bomb" else "unreadable_artifact"), (name, refused)
        assert refused["hint"]
    assert set(uploads.iterdir()) == before
    assert not list(uploads.parent.rglob("outside.py"))
    assert not Path("/tmp/absolute.py").exists()
    small = io.BytesIO()
    with zipfile.ZipFile(small, "w") as archive:
        archive.writestr("model.py", "class Model:\n    def predict(self, rows):\n        return rows\n")
    (tmp_path / "fine.zip").write_bytes(small.getvalue())
    assert here.deploy(tmp_path / "fine.zip")["status"] == "live"
