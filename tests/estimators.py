"""Every scikit-learn classifier and regressor that can be trained on a small set."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.utils import all_estimators

ROWS = 60


def small_set() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that are positive whole numbers below ten (so that count and categorical models take them too),
    labels, and positive targets."""
    rng = np.random.default_rng(7)
    x = rng.integers(1, 9, (ROWS, 4)).astype(float)
    labels = np.where(x[:, 0] + x[:, 1] > 9, "high", "low")
    return x, labels, x @ [1.0, 2.0, 0.5, 0.1] + 1


@cache
def trained() -> tuple[tuple[str, Any], ...]:
    """(name, fitted model) of all that could be trained."""
    models = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in ("classifier", "regressor"):
            for name, cls in all_estimators(type_filter=kind):
                model = _fit(cls)
                if model is not None:
                    models.append((name, model))
    return tuple(models)


def _fit(cls: type[Any]) -> Any:
    x, labels, targets = small_set()
    base = LogisticRegression() if "Classif" in cls.__name__ or "Chain" in cls.__name__ else LinearRegression()
    for arguments in ((), (base,), ([("base", base)],)):
        for goal in (labels, targets, np.c_[labels, labels], np.c_[targets, targets]):
            try:
                model = cls(*arguments)
                model.fit(x, goal)
                model.predict(x)
            except Exception:  # not this way
                continue
            return model
    return None


def expected(model: Any, x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.predict(x))


def agrees(predictions: Any, wanted: np.ndarray, model: Any) -> bool:
    """Labels equal; numbers equal up to the last bits of a floating point number."""
    got = np.asarray(predictions)
    if got.shape != wanted.shape:
        return False
    if is_classifier(model) or wanted.dtype.kind not in "fc":
        return bool((got == wanted).all())
    return bool(np.allclose(got, wanted, rtol=1e-9, atol=1e-9))
