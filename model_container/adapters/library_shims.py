"""Shims for models of other libraries that know their columns but do not expose them as scikit-learn does.

Without the shims, the columns would be taken in the order in which a request happens to name them. LightGBM's boosters
and statsmodels' results accept that without an error.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np


def adapt(held: Any) -> Any:
    """Return the unpickled model with `feature_names_in_`, `n_features_in_` and a `predict` that takes arrays."""
    library = type(held).__module__.split(".")[0]
    tell = _LIBRARIES.get(library)
    return held if tell is None else tell(held)


class XGBoostBooster:
    """Wrapper of an XGBoost booster, whose own predict takes only a DMatrix."""

    __module__ = "xgboost.core"  # makes the column reader treat all columns as numbers, as for XGBoost

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._types = booster.feature_types
        booster.set_param({"nthread": 1})
        _tell(self, booster.feature_names, booster.num_features())

    def predict(self, rows: Any) -> Any:
        from xgboost import DMatrix  # type: ignore[import-not-found]

        categorical = "c" in (self._types or ())
        names = None if hasattr(rows, "columns") else self._booster.feature_names
        return self._booster.predict(DMatrix(rows, feature_names=names, enable_categorical=categorical))


def _tell(model: Any, names: Any, count: int) -> Any:
    if names:
        model.feature_names_in_ = np.array(list(names), dtype=object)
    model.n_features_in_ = count
    return model


def _xgboost(held: Any) -> Any:
    return XGBoostBooster(held) if type(held).__name__ == "Booster" else held


def _lightgbm(held: Any) -> Any:
    if type(held).__name__ != "Booster":
        return held
    held.booster_ = held  # columns.py reads the categories from booster_
    return _tell(held, held.feature_name(), held.num_feature())


def _catboost(held: Any) -> Any:
    """Restore `n_features_in_`, which is lost in unpickling. Columns without names are named by their number."""
    names: List[str] = list(getattr(held, "feature_names_", None) or [])
    kind = type(held)
    held.__class__ = type(kind.__name__, (kind,), {"n_features_in_": len(names), "__module__": kind.__module__})
    if names != [str(index) for index in range(len(names))]:
        held.feature_names_in_ = np.array(names, dtype=object)
    return held


def _statsmodels(held: Any) -> Any:
    """Expose the columns of a statsmodels result, except for formula results.

    A formula result takes the columns of its data frame, which it does not reveal.
    """
    model = getattr(held, "model", None)
    names = getattr(model, "exog_names", None)
    if not names or getattr(model, "formula", None) is not None or len(names) != len(np.atleast_1d(held.params)):
        return held
    made_up = names[0] == "x1" or names[1:2] == ["x1"]
    return _tell(held, None if made_up else names, len(names))


_LIBRARIES: Dict[str, Callable[[Any], Any]] = {
    "catboost": _catboost,
    "lightgbm": _lightgbm,
    "statsmodels": _statsmodels,
    "xgboost": _xgboost,
}
