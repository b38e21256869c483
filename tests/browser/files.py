"""Files that people bring: models of each kind, and what is none."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.acceptance.server import CHECKOUT, Server

SAMPLE = CHECKOUT / "model_store" / "samples" / "iris"

TALKER = """
import time
class Talker:
    def predict(self, rows):
        count, text, pause_seconds = [*rows[0], 0][:3]
        for number in range(int(count)):
            print(f"line {number}: {text}", flush=True)
            time.sleep(float(pause_seconds))
        print("said", text, flush=True)
        return [len(rows)]
"""
"""Asked with [[3, "x"]] it prints three lines that name x, and that it has said x; with [[3, "x", 0.1]] slowly."""


class CalledOnLoad:
    """In a pickle: what runs `command` when it is loaded, and is its exit status then."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def iris_model() -> Any:
    iris = load_iris()
    return LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target])


def pickled(folder: Path) -> Path:
    path = folder / "iris-pickled.pkl"
    path.write_bytes(pickle.dumps(iris_model()))
    return path


def compressed(folder: Path) -> Path:
    path = folder / "iris-compressed.joblib.gz"
    joblib.dump(iris_model(), path, compress=("gzip", 3))
    return path


def dangerous(folder: Path) -> Path:
    """A model that works, and runs a command when it is loaded."""
    model = iris_model()
    model.note_ = CalledOnLoad("true")
    path = folder / "dangerous.pkl"
    path.write_bytes(pickle.dumps(model))
    return path


def mixed(folder: Path) -> Path:
    """Asks for a number and one of three ports, by name, and answers yes or no."""
    frame = pd.DataFrame({"fare": [7.25, 71.3, 7.9, 53.1] * 5, "port": ["S", "C", "S", "Q"] * 5})
    columns = make_column_transformer((OneHotEncoder(), ["port"]), remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, ["no", "yes", "no", "yes"] * 5)
    path = folder / "titanic.joblib"
    joblib.dump(model, path)
    return path


def regression(folder: Path) -> Path:
    """Unnamed columns; answers their sum."""
    x = np.arange(20.0).reshape(10, 2)
    path = folder / "sum.joblib"
    joblib.dump(LinearRegression().fit(x, x.sum(1)), path)
    return path


def digits(folder: Path) -> Path:
    """A classifier of scikit-learn's digits, 8 × 8 pixels in 64 columns."""
    found = load_digits()
    joblib.dump(LogisticRegression(max_iter=1000).fit(found.data, found.target), folder / "digits.joblib")
    return folder / "digits.joblib"


def of_script(folder: Path, code: str, name: str) -> Path:
    """A pickle of an object of the class `name` of a script: the class is not in it, so `code` must come with it."""
    script = f"{code}\nimport pickle, sys\nsys.stdout.buffer.write(pickle.dumps({name}()))"
    path = folder / f"{name.lower()}.pkl"
    path.write_bytes(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout)
    return path


def deploy_talker(server: Server, folder: Path, **fields: str) -> str:
    """Its model_id."""
    fields = {"model_name": "talker", "expected_input_json": '[[0, ""]]', **fields}
    file = of_script(folder, TALKER, "Talker")
    return str(server.deploy(file, code={"talker.py": TALKER.encode()}, **fields)["model_id"])


def large(folder: Path, mebibytes: int) -> Path:
    """A model whose file has that size, of bytes that no compression makes fewer."""
    model = iris_model()
    model.ballast_ = np.frombuffer(os.urandom(mebibytes << 20), dtype=np.uint8)
    path = folder / "large.joblib"
    joblib.dump(model, path)
    return path


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
