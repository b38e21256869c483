"""Networks of PyTorch and Keras: of a table's row, and of an image."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from tests.acceptance.pushed_models.kinds import Made, makes

NET = '''"""The module whose weights are saved."""

import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.second = torch.nn.Linear(8, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))
'''


def of_rows(net: Any) -> Any:
    return lambda sent: net(torch.tensor(sent["features"])).detach().numpy()


@makes("scripted.pt", "exported.pt2", "weights.pt", "bare.pt")
def net() -> Made:
    Path("net.py").write_text(NET)
    spec = importlib.util.spec_from_file_location("net", "net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(3)
    made = module.Net().eval()
    batch = {"x": {0: torch.export.Dim("batch")}}
    return Made({"net": made, "rows": torch.rand(2, 4), "batch": batch}, of_rows(made))


@makes("cnn.onnx")
def cnn() -> Made:
    """A convolutional network of scikit-learn's digits, whose pixels go from 0 to 16."""
    data = load_digits()
    images = torch.tensor(data.images[:, None], dtype=torch.float32)
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10), nn.Softmax(1))
    optimizer = torch.optim.Adam(made.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.nll_loss(torch.log(made(images) + 1e-9), torch.tensor(data.target)).backward()
        optimizer.step()
    made.eval()

    def answer(sent: Any) -> Any:
        return made(torch.tensor(np.float32(sent["image"])).reshape(1, 1, 8, 8)).detach().numpy()

    return Made({"cnn": made, "image": images[:1]}, answer)


@makes("net.keras", "net.h5")
def of_keras() -> Made:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    return Made({"net": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])}, lambda sent: None)
