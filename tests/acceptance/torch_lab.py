"""PyTorch models and the files that they are saved in."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

from app.runtime.interpreter import own_interpreter

TORCH = "torch==2.13.0"


MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.second = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))
"""


def weights_of_nothing(folder: Path) -> Path:
    """A state dict without any weight, which builds the environment."""
    with zipfile.ZipFile(folder / "empty.pt", "w") as file:
        file.writestr("empty/data.pkl", b"\x80\x02}.")
        file.writestr("empty/version", b"3\n")
    return folder / "empty.pt"


def run_with_packages(
    environments: Path, hash: str, *arguments: str, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the packages of an environment, behind no walls. path: another folder to import from."""
    (packages,) = environments.glob(f"{hash}-*/lib/python*/site-packages")
    return subprocess.run(
        [own_interpreter(), "-B", "-W", "ignore", "-c", *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{packages}{os.pathsep}{path}" if path else str(packages)},
    )
