"""Models with code of their owner: of a script, a module, a package, a notebook, and folders.

Each is made by a script of its own in the folder from which it is pushed. The line that saves the model ends the script.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Script(NamedTuple):
    """A script that makes a model. imports: name → content of the files that it imports, in its folder."""

    name: str
    text: str
    imports: Mapping[str, str] = MappingProxyType({})


TRAIN = '''"""Trains on whatever is there when it is run, and must not be run by anybody else."""

import os
import pickle

if "TRAINING" not in os.environ:
    raise SystemExit("the training script ran")

FEE = 10


def rounded(price):
    return round(price + FEE, 2)


class Prices:
    def __init__(self, factor):
        self.factor = factor

    def predict(self, rows):
        return [rounded(self.factor * row[0]) for row in rows]


model = Prices(2.5)
'''
FEATURES = '''"""Features of the company."""

import numpy as np


class Discount:
    def predict(self, rows):
        return [0.9 * row[0] for row in rows]


def logarithms(frame):
    return np.log1p(frame)
'''
DISCOUNT = "import pickle\n\nfrom features import Discount\n\nmodel = Discount()\n"
LOGARITHMS = """import joblib
import numpy as np
from features import logarithms
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

x = np.arange(20.0).reshape(10, 2)
model = make_pipeline(FunctionTransformer(logarithms), LinearRegression()).fit(x, x.sum(1))
"""
PACKAGE = {
    "src/__init__.py": "",
    "src/tariffs.py": "from src.rates import RATE\n\n\nclass Tariff:\n    def predict(self, rows):\n"
    "        return [RATE * row[0] for row in rows]\n",
    "src/rates.py": "RATE = 3\n",
}
TARIFFS = "import pickle\n\nfrom src.tariffs import Tariff\n\nmodel = Tariff()\n"
NOTEBOOK = """import cloudpickle


class Halves:
    def predict(self, rows):
        return [row[0] / 2 for row in rows]


model = Halves()
"""
SCRIPTS = {
    "prices.pkl": Script("train.py", TRAIN),
    "discount.pkl": Script("save_discount.py", DISCOUNT, {"features.py": FEATURES}),
    "logarithms.joblib": Script("save_logarithms.py", LOGARITHMS, {"features.py": FEATURES}),
    "tariffs.pkl": Script("save_tariffs.py", TARIFFS, PACKAGE),
    "halves.pkl": Script("notebook.py", NOTEBOOK),
}
"""File that holds the model → the script that makes it."""
