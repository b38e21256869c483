"""PyTorch models, from each way of saving one to their predictions.

The files are made by the PyTorch that serves them: that of the environment which the first of them had built.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT, Server, problem
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


class Made(NamedTuple):
    """Every file of the model in one folder, and its outputs for ROW. first: the model whose environment made them."""

    folder: Path
    outputs: list[float]
    first: dict[str, Any]


@pytest.fixture
def server(module_server: StartServer, target: str) -> Iterator[Server]:
    """One for all tests on a target. What a test deployed is stopped with it: each replica holds a PyTorch."""
    server = module_server(PRISM_TARGET=target, PRISM_SINGLE_ACTIVE_MODEL="false")
    yield server
    for model in server.http.get("/models").json()["models"]:
        if model["status"] == "live":
            assert server.http.post(f"/models/{model['name']}/stop").status_code == 200


@pytest.fixture(scope="module")
def made(module_server: StartServer, environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    server = module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    folder = tmp_path_factory.mktemp("made")
    code = {"model.py": MODEL.replace("Linear(4, 8)", "Identity()").replace("Linear(8, 3)", "Identity()").encode()}
    first = server.deploy(weights_of_nothing(folder), code=code, requirements=TORCH)
    (folder / "model.py").write_text(MODEL)
    outputs = run_with_packages(environments, first["environment"]["hash"], MAKE, str(folder)).stdout
    return Made(folder, eval(outputs), first)


def test_every_way_of_saving_a_model_answers_as_it_did(server: Server, made: Made) -> None:
    code = {"model.py": MODEL.encode()}
    for name in ("scripted.pt", "traced.pt", "exported.pt2", "whole.pt", "weights.pt"):
        fields: dict[str, Any] = {"code": code} if name in ("whole.pt", "weights.pt") else {}
        answer = server.upload(made.folder / name, requirements=TORCH, model_name=Path(name).stem, **fields)
        assert answer.status_code == 201, answer.text
        document = answer.json()
        (column,) = document["signature"]["inputs"]
        assert (column["name"], column["datatype"], column["shape"]) == ("x", "FP32", [-1, 4]), name
        predicted = server.predict(Path(name).stem, {"inputs": {"x": [ROW, ROW]}}).json()["predictions"]
        assert predicted == pytest.approx([pytest.approx(made.outputs, abs=1e-4)] * 2), name
        refused = problem(server.predict(Path(name).stem, {"inputs": {"x": [[1.0, 2.0]]}}))
        assert (refused["status"], refused["code"]) == (422, "wrong_shape"), name


def test_weights_without_their_code_ask_for_it(server: Server, made: Made) -> None:
    refused = problem(server.upload(made.folder / "weights.pt", requirements=TORCH))
    assert (refused["status"], refused["code"]) == (422, "missing_code")
    wrong = {"model.py": MODEL.replace("Linear(4, 8)", "Linear(5, 8)").encode()}
    failed = problem(server.upload(made.folder / "weights.pt", code=wrong, requirements=TORCH))
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


def test_weights_and_modules_in_folders_answer_as_they_did(server: Server, made: Made, tmp_path: Path) -> None:
    """A state dict beside the code of its module, and a folder as MLflow writes it."""
    torch = TORCH.encode()
    beside = {
        "net/weights.pt": (made.folder / "weights.pt").read_bytes(),
        "net/model.py": MODEL.encode(),
        "net/train.py": b"raise SystemExit('it must not run')\n",
        "net/requirements.txt": torch,
    }
    mlflow = {
        "MLmodel": MLMODEL.encode(),
        "data/model.pth": (made.folder / "whole.pt").read_bytes(),
        "data/pickle_module_info.txt": b"mlflow.pytorch.pickle_module",
        "code/model.py": MODEL.encode(),
        "requirements.txt": b"mlflow==3.17.2\n" + torch,
    }
    for name, members in (("beside", beside), ("flavor", mlflow)):
        document = server.deploy(packed(tmp_path / f"{name}.zip", members))
        assert document["inspection"]["format"] == "torch", name
        assert "model.py" in document["code_files"]
        predicted = server.predict(name, {"inputs": {"x": [ROW, ROW]}}).json()["predictions"]
        assert predicted == pytest.approx([pytest.approx(made.outputs, abs=1e-4)] * 2), name


ASK = """
import json, sys, torch
from torch.export.passes import move_to_device_pass
from model_container.adapters.torch.adapter import load_exported, load_torchscript
from model_container.adapters.torch.device import moved
from model_container.contract.config import RuntimeConfig

folder = sys.argv[1] + "/"
net, row = torch.nn.Linear(4, 2).eval(), torch.ones(2, 4)
torch.jit.trace(net, row).save(folder + "traced.pt")
program = torch.export.export(net, (row,), dynamic_shapes={"input": {0: torch.export.Dim("batch")}})
torch.export.save(program, folder + "exported.pt2")
same = torch.equal(move_to_device_pass(program, "cpu").module()(row), net(row))
loaded = [
    load(RuntimeConfig(folder + name, name, threads=2, gpu=gpu)).execution()
    for load, name in ((load_torchscript, "traced.pt"), (load_exported, "exported.pt2")) for gpu in (True, False)
]
print(json.dumps([same, moved(program) is program, loaded]))
"""


def test_a_gpu_that_pytorch_cannot_use_is_told(
    module_server: StartServer, environments: Path, made: Made, tmp_path: Path
) -> None:
    assert "+cpu" in next(line for line in made.first["environment"]["packages"] if line.startswith("torch=="))

    hash = made.first["environment"]["hash"]
    said = run_with_packages(environments, hash, ASK, str(tmp_path), path=str(CHECKOUT))

    same, stays, loaded = json.loads(said.stdout.splitlines()[-1])
    assert same
    assert stays
    on_cpu = {"device": "cpu", "threads": 2, "joins_requests": True}
    for asked, not_asked in zip(loaded[::2], loaded[1::2], strict=True):
        assert not_asked == on_cpu
        assert "built without it" in asked.pop("passed_over")["cuda"]
        assert asked == on_cpu
    assert "prism: cuda is not used: PyTorch" in said.stderr
    server = module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    traced = server.deploy(tmp_path / "traced.pt", requirements=TORCH)
    assert traced["runtime"]["execution"] == {**on_cpu, "threads": 1}
