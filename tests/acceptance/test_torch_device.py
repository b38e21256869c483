"""On what PyTorch computes, told by the model itself, in the PyTorch that serves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import CHECKOUT
from tests.acceptance.torch_lab import MODEL, TORCH, run_with_packages, weights_of_nothing

pytestmark = [pytest.mark.torch, pytest.mark.slow]

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


def test_a_gpu_that_pytorch_cannot_use_is_told(start_server: StartServer, environments: Path, tmp_path: Path) -> None:
    server = start_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    code = {"model.py": MODEL.replace("Linear(4, 8)", "Identity()").replace("Linear(8, 3)", "Identity()").encode()}
    first = server.upload(weights_of_nothing(tmp_path), code=code, requirements=TORCH)
    assert first.status_code == 201, first.text
    assert "+cpu" in next(line for line in first.json()["environment"]["packages"] if line.startswith("torch=="))

    hash = first.json()["environment"]["hash"]
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
    traced = server.deploy(tmp_path / "traced.pt", requirements=TORCH)
    assert traced["runtime"]["execution"] == {**on_cpu, "threads": 1}
