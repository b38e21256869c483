"""Adapters: one small class per format, listed in a table."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from model_container.adapters.base import Adapter
from model_container.adapters.declared import check_names
from model_container.contract.config import RuntimeConfig

# Adapters are imported only when needed: an ONNX runtime loads no scikit-learn, a pickle's runtime no onnxruntime.
_LOADERS = {
    "pickle": ("model_container.adapters.pickle", "load_pickle"),
    "joblib": ("model_container.adapters.pickle", "load_joblib"),
    "skops": ("model_container.adapters.skops_file", "load_skops"),
    "xgboost": ("model_container.adapters.booster_file", "load_xgboost"),
    "lightgbm": ("model_container.adapters.booster_file", "load_lightgbm"),
    "catboost": ("model_container.adapters.booster_file", "load_catboost"),
    "torchscript": ("model_container.adapters.torch.adapter", "load_torchscript"),
    "torch_export": ("model_container.adapters.torch.adapter", "load_exported"),
    "torch": ("model_container.adapters.torch.adapter", "load_module"),
    "onnx": ("model_container.adapters.onnx.adapter", "load_onnx"),
    "python": ("model_container.adapters.python_folder", "load_python"),
    "mlflow": ("model_container.adapters.mlflow_folder", "load_mlflow"),
    "accelerated": ("model_container.adapters.accelerated", "load_accelerated"),
}

_KNOW_THEIR_INPUTS = ("torchscript", "torch_export", "torch", "onnx")


def load(config: RuntimeConfig) -> Adapter:
    """Load the artifact. Errors of the artifact's own code pass through. Raises ValueError on an unknown format."""
    if config.format not in _LOADERS:
        raise ValueError(f"unknown format {config.format!r}; known are {', '.join(_LOADERS)}")
    module, function = _LOADERS[config.format]
    adapter = cast(Adapter, getattr(import_module(module), function)(config))
    if config.format in _KNOW_THEIR_INPUTS:
        check_names(adapter.signature(), config.call)
    return adapter
