"""Files that people push and that are no model which PRISM serves."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.preprocessing import StandardScaler

from tests.acceptance.pushed_models.kinds import Made, makes

CLIENTS = pd.DataFrame({"age": [41, 25], "plan": ["basic", "pro"]})
NO_ANSWER: Any = None


@makes("clients.pkl", "clients.csv", "clients.parquet")
def clients() -> Made:
    return Made({"clients": CLIENTS}, NO_ANSWER)


@makes("predictions.joblib", "weights.npz")
def predictions() -> Made:
    return Made({"predictions": np.arange(3.0)}, NO_ANSWER)


@makes("bundle.pkl")
def bundle() -> Made:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    return Made({"model": model, "scaler": StandardScaler().fit([[0.0], [1.0]])}, NO_ANSWER)


@makes("search.pkl")
def search() -> Made:
    x, y = np.arange(20.0).reshape(-1, 1), [0, 1] * 10
    found = RandomizedSearchCV(LogisticRegression(), {"C": stats.loguniform(0.1, 1)}, n_iter=1, cv=2).fit(x, y)
    return Made({"search": found}, NO_ANSWER)


@makes("analysis.ipynb")
def analysis() -> Made:
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": ["import sklearn"]}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    Path("analysis.ipynb").write_text(json.dumps(notebook, indent=1))
    return Made({}, NO_ANSWER)


@makes("fit.py")
def fit() -> Made:
    Path("fit.py").write_text("from sklearn.linear_model import LinearRegression\n\nmodel = LinearRegression()\n")
    return Made({}, NO_ANSWER)


@makes("model.rds")
def of_r() -> Made:
    """A list as R saves it: version 3 of its serialization in binary, compressed by gzip."""
    head = b"X\n\x00\x00\x00\x03\x00\x04\x03\x01\x00\x03\x05\x00\x00\x00\x00\x05UTF-8"
    Path("model.rds").write_bytes(gzip.compress(head + b"\x00\x00\x00\x13\x00\x00\x00\x00"))
    return Made({}, NO_ANSWER)
