"""Boosters in the own formats of XGBoost, LightGBM and CatBoost, each loaded by its library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.library_shims import adapt
from model_container.contract.config import RuntimeConfig


def load_xgboost(config: RuntimeConfig) -> EstimatorAdapter:
    """Load a file of `save_model`: the estimator that saved it if it names one, otherwise the booster."""
    import xgboost  # type: ignore[import-not-found]

    content = bytearray(Path(config.artifact).read_bytes())  # the format is then told by the content, not by the name
    booster = xgboost.Booster()
    booster.load_model(content)
    kind = booster.attr("scikit_learn") or ""
    if "_estimator_type" not in kind:
        return EstimatorAdapter(adapt(booster), config.call)
    model = (xgboost.XGBClassifier if "classifier" in kind else xgboost.XGBRegressor)(n_jobs=1)
    model.load_model(content)
    return EstimatorAdapter(adapt(model), config.call)


def load_lightgbm(config: RuntimeConfig) -> EstimatorAdapter:
    """Load a file of `Booster.save_model`. Its predictions are the booster's: probabilities for a classifier."""
    import lightgbm

    return EstimatorAdapter(adapt(lightgbm.Booster(model_file=config.artifact)), config.call)


def load_catboost(config: RuntimeConfig) -> EstimatorAdapter:
    """Load a file of `save_model`, as a classifier if it has classes."""
    import catboost  # type: ignore[import-not-found]

    with open(config.artifact, "rb") as file:
        stored_as = "cbm" if file.read(4) == b"CBM1" else "json"
    model: Any = catboost.CatBoost().load_model(config.artifact, format=stored_as)
    kind = catboost.CatBoostClassifier if len(model.classes_) else catboost.CatBoostRegressor
    return EstimatorAdapter(adapt(kind().load_model(config.artifact, format=stored_as)), config.call)
