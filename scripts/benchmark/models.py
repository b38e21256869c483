"""The models that are measured, trained and converted here, and the rows they are asked."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

FEATURES = 8
TREES = 100
SEED = 7
DIFFERENT_ROWS = 500
BATCHES = 8


@dataclass(frozen=True)
class Kind:
    """One model file. library and shape name it in the tables."""

    name: str
    title: str
    file: str


ONNX_LINEAR = Kind("onnx-linear", "ONNX linear", "linear.onnx")
ONNX_FOREST = Kind("onnx-forest", f"ONNX forest of {TREES}", "forest.onnx")
SKLEARN_LINEAR = Kind("sklearn-linear", "scikit-learn linear", "linear.joblib")
SKLEARN_FOREST = Kind("sklearn-forest", f"scikit-learn forest of {TREES}", "forest.joblib")
ALL = (ONNX_LINEAR, SKLEARN_LINEAR, ONNX_FOREST, SKLEARN_FOREST)


def make(folder: Path) -> None:
    """Train a logistic regression and a random forest on made-up data, and write each as joblib and as ONNX."""
    import joblib
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows, labels = make_classification(2000, FEATURES, n_informative=6, random_state=SEED)
    rows = rows.astype("float32")
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (
        ("linear", LogisticRegression()),
        ("forest", RandomForestClassifier(TREES, random_state=SEED)),
    ):
        model.fit(rows, labels)
        joblib.dump(model, folder / f"{name}.joblib")
        converted = to_onnx(model, rows[:1], options={"zipmap": False})
        (folder / f"{name}.onnx").write_bytes(converted.SerializeToString())


def rows(count: int, seed: int = SEED) -> list[list[float]]:
    """Feature rows to ask with, each different."""
    draw = random.Random(seed)
    return [[round(draw.gauss(0, 1.5), 3) for _ in range(FEATURES)] for _ in range(count)]


def body(rows: list[list[float]]) -> bytes:
    """A request body, as compact as a fast client writes it."""
    return json.dumps({"features": rows}, separators=(",", ":")).encode()


def single_rows() -> list[bytes]:
    return [body([row]) for row in rows(DIFFERENT_ROWS)]


def batches(size: int, count: int = BATCHES) -> list[bytes]:
    return [body(rows(size, seed)) for seed in range(count)]


def binary_batches(kind: Kind, size: int, count: int = BATCHES) -> tuple[bytes, list[bytes]]:
    """The same rows as requests of the Open Inference Protocol V2 with binary tensors: their JSON, then it and them."""
    datatype, code = ("FP32", "f") if kind.file.endswith(".onnx") else ("FP64", "d")
    tensors = [
        struct.pack(f"<{size * FEATURES}{code}", *chain.from_iterable(rows(size, seed))) for seed in range(count)
    ]
    tensor = {"name": "X", "datatype": datatype, "shape": [size, FEATURES]}
    tensor["parameters"] = {"binary_data_size": len(tensors[0])}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return head, [head + raw for raw in tensors]
