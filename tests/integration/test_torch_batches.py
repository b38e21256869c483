"""PyTorch's adapters hold what every adapter does: company changes no answer, and a bad request fails by itself.

Their replica is a process of an environment with PyTorch, asked over its socket as a gateway asks it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.runtime.interpreter import isolated, own_interpreter
from app.runtime.packages.index import machine_index
from model_container.contract.config import VARIABLE, RuntimeConfig
from model_container.contract.frames import WELCOME, Answer, Request, decode_answers, encode_requests
from tests.acceptance.torch_lab import MODEL
from tests.integration.runtime_lab import PROGRAM, Connection
from tests.unit.model_container.company import (
    COMPANY,
    Answering,
    assert_fails_alone,
    assert_length_is_checked,
    assert_same_in_company,
    bodies_of,
    rows,
)
from tests.unit.model_container.kinds import UNREADABLE, Row

pytestmark = [pytest.mark.torch, pytest.mark.slow]

TOLERANCE = 1e-5
"""Tolerance for float32, where BLAS uses different routines for few and for many rows."""

PROPERTY = settings(max_examples=25, deadline=None)
NET = f"""{MODEL}
class AcrossRows(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(0)

class Short(torch.nn.Module):
    def forward(self, x):
        return x[x[:, 0] >= 0]
"""
MAKE = """
import sys, torch, net
torch.manual_seed(3)
model, rows = net.Net().eval(), torch.ones(2, 4)
torch.jit.script(model).save("scripted.pt")
torch.jit.trace(model, rows).save("traced.pt")
free = {"x": {0: torch.export.Dim("batch")}}
torch.export.save(torch.export.export(model, (rows,), dynamic_shapes=free), "exported.pt2")
torch.save(model, "whole.pt")
torch.save(model.state_dict(), "weights.pt")
torch.jit.script(net.AcrossRows()).save("across.pt")
torch.jit.script(net.Short()).save("short.pt")
"""
FORMATS = {"scripted.pt": "torchscript", "traced.pt": "torchscript", "exported.pt2": "torch_export"} | {
    "whole.pt": "torch",
    "weights.pt": "torch",
    "across.pt": "torchscript",
}


class Replica:
    """One runtime; answers batches as a batcher does, for it has one."""

    def __init__(self, python: Path, artifact: Path, code: Path, folder: Path) -> None:
        config = RuntimeConfig(
            str(artifact),
            FORMATS.get(artifact.name, "torchscript"),
            str(code),
            socket=str(folder / "s"),
            environment=str(python.parent.parent),
        )
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                isolated(own_interpreter(), PROGRAM), env={VARIABLE: config.to_json()}, stdout=log, stderr=log
            )
        self._connection = Connection(config.socket, "")
        assert self._connection.receive().kind == WELCOME, (folder / "log").read_text()

    def run(self, requests: Sequence[Request]) -> tuple[list[Answer], int, int]:
        self._connection.send(encode_requests(7, requests))
        answers, codec_us, model_us = decode_answers(self._connection.receive())
        return [Answer(*one) for one in answers], codec_us, model_us

    def end(self) -> None:
        self._connection.socket.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment like that of a PyTorch replica."""
    folder = tmp_path_factory.mktemp("torch") / "environment"
    uv = Path(sys.executable).with_name("uv")
    environ = machine_index().variables
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    packages = ["torch==2.13.0", "numpy", "msgspec"]
    subprocess.run([uv, "pip", "install", "-q", "--python", folder / "bin/python", *packages], env=environ, check=True)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def made(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "net.py").write_text(NET)
    environ = {"PYTHONPATH": str(folder)}
    subprocess.run([python, "-W", "ignore", "-c", MAKE], cwd=folder, env=environ, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the owner of weights sends with them: the module alone."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "net.py").write_text(NET.split("class AcrossRows")[0])
    return folder


@pytest.fixture(scope="module")
def start(
    python: Path, made: Path, code: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Answering]]:
    started = []

    def start_one(name: str) -> Answering:
        started.append(Replica(python, made / name, code, tmp_path_factory.mktemp("replica")))
        return started[-1]

    yield start_one
    for one in started:
        one.end()


@pytest.fixture(scope="module", params=list(FORMATS))
def replica(start: Callable[[str], Answering], request: pytest.FixtureRequest) -> Answering:
    return start(request.param)


def tensors(some: list[Row]) -> Any:
    return {"inputs": {"x": some}}


BAD: tuple[Any, ...] = (*UNREADABLE, tensors([["x", 1, 1, 1]]), {"inputs": {"x": [[1, 2, 3, 4], [1]]}}, {"z": 1})  # type: ignore[list-item]


def test_batched_equals_unbatched(replica: Answering) -> None:
    @PROPERTY
    @given(bodies=bodies_of(tensors, BAD))
    def check(bodies: list[object]) -> None:
        assert_same_in_company(lambda: replica, bodies, TOLERANCE)

    check()


def test_one_bad_request_among_32_fails_alone(replica: Answering) -> None:
    @PROPERTY
    @given(
        good=st.lists(rows.map(tensors), min_size=COMPANY - 1, max_size=COMPANY - 1),
        bad=st.sampled_from(BAD),
        position=st.integers(0, COMPANY - 1),
    )
    def check(good: list[object], bad: object, position: int) -> None:
        assert_fails_alone(lambda: replica, good, bad, position, TOLERANCE)

    check()


def test_an_output_of_the_wrong_length_is_given_to_no_caller(start: Callable[[str], Answering]) -> None:
    replica = start("short.pt")
    requests = [[[-1.0 if at % 7 == row else 1.0, at, row, 0.0] for row in range(1 + at % 3)] for at in range(COMPANY)]
    assert_length_is_checked(lambda: replica, tensors, requests)
