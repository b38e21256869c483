"""PyTorch models, from each way of saving one to their predictions.

The files are made by the PyTorch that serves them: that of the environment which the first of them had built.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem
from tests.acceptance.torch_lab import MODEL, TORCH, run_with_packages, weights_of_nothing

pytestmark = [pytest.mark.torch, pytest.mark.slow]

MAKE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import model
folder = sys.argv[1] + "/"
torch.manual_seed(3)
net = model.Net().eval()
row = torch.tensor([[5.1, 3.5, 1.4, 0.2]])
torch.jit.script(net).save(folder + "scripted.pt")
torch.jit.trace(net, row).save(folder + "traced.pt")
batch = torch.export.Dim("batch")
torch.export.save(torch.export.export(net, (row.repeat(2, 1),), dynamic_shapes={"x": {0: batch}}), folder + "exported.pt2")
torch.save(net, folder + "whole.pt")
torch.save(net.state_dict(), folder + "weights.pt")
print(net(row)[0].tolist())
"""
ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.fixture
def server(start_server: StartServer, target: str) -> Server:
    return start_server(PRISM_TARGET=target, PRISM_SINGLE_ACTIVE_MODEL="false")


@pytest.fixture
def made(server: Server, environments: Path, tmp_path: Path) -> list[float]:
    """Every file in tmp_path; the outputs for ROW."""
    code = {"model.py": MODEL.replace("Linear(4, 8)", "Identity()").replace("Linear(8, 3)", "Identity()").encode()}
    first = server.upload(
        weights_of_nothing(tmp_path),
        code=code,
        requirements=TORCH,
        target="process",
    )
    assert first.status_code == 201, first.text
    (tmp_path / "model.py").write_text(MODEL)
    hash = first.json()["environment"]["hash"]
    outputs: list[float] = eval(run_with_packages(environments, hash, MAKE, str(tmp_path)).stdout)
    return outputs


def test_every_way_of_saving_a_model_answers_as_it_did(server: Server, made: list[float], tmp_path: Path) -> None:
    code = {"model.py": MODEL.encode()}
    for name in ("scripted.pt", "traced.pt", "exported.pt2", "whole.pt", "weights.pt"):
        fields: dict[str, Any] = {"code": code} if name in ("whole.pt", "weights.pt") else {}
        answer = server.upload(tmp_path / name, requirements=TORCH, model_name=Path(name).stem, **fields)
        assert answer.status_code == 201, answer.text
        document = answer.json()
        (column,) = document["signature"]["inputs"]
        assert (column["name"], column["datatype"], column["shape"]) == ("x", "FP32", [-1, 4]), name
        predicted = server.predict(Path(name).stem, {"inputs": {"x": [ROW, ROW]}}).json()["predictions"]
        assert predicted == pytest.approx([pytest.approx(made, abs=1e-4)] * 2), name
        refused = problem(server.predict(Path(name).stem, {"inputs": {"x": [[1.0, 2.0]]}}))
        assert (refused["status"], refused["code"]) == (422, "wrong_shape"), name


def test_weights_without_their_code_ask_for_it(server: Server, made: list[float], tmp_path: Path) -> None:
    refused = problem(server.upload(tmp_path / "weights.pt", requirements=TORCH))
    assert (refused["status"], refused["code"]) == (422, "missing_code")
    wrong = {"model.py": MODEL.replace("Linear(4, 8)", "Linear(5, 8)").encode()}
    failed = problem(server.upload(tmp_path / "weights.pt", code=wrong, requirements=TORCH))
    assert (failed["status"], failed["code"]) == (422, "start_failed")
    assert "size mismatch" in failed["detail"]


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


MLMODEL = """
flavors:
  python_function:
    code: code
    data: data
    loader_module: mlflow.pytorch
    pickle_module_name: mlflow.pytorch.pickle_module
    python_version: 3.11.7
  pytorch:
    code: code
    model_data: data
    pytorch_version: 2.13.0
mlflow_version: 3.17.2
"""


def test_weights_and_modules_in_folders_answer_as_they_did(server: Server, made: list[float], tmp_path: Path) -> None:
    """A state dict beside the code of its module, and a folder as MLflow writes it."""
    torch = TORCH.encode()
    beside = {
        "net/weights.pt": (tmp_path / "weights.pt").read_bytes(),
        "net/model.py": MODEL.encode(),
        "net/train.py": b"raise SystemExit('it must not run')\n",
        "net/requirements.txt": torch,
    }
    mlflow = {
        "MLmodel": MLMODEL.encode(),
        "data/model.pth": (tmp_path / "whole.pt").read_bytes(),
        "data/pickle_module_info.txt": b"mlflow.pytorch.pickle_module",
        "code/model.py": MODEL.encode(),
        "requirements.txt": b"mlflow==3.17.2\n" + torch,
    }
    for name, members in (("beside", beside), ("flavor", mlflow)):
        document = server.deploy(packed(tmp_path / f"{name}.zip", members))
        assert document["inspection"]["format"] == "torch", name
        assert "model.py" in document["code_files"]
        predicted = server.predict(name, {"inputs": {"x": [ROW, ROW]}}).json()["predictions"]
        assert predicted == pytest.approx([pytest.approx(made, abs=1e-4)] * 2), name
