"""Pickle and joblib artifacts: the owner's code is loaded first, then the file."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, List

from model_container.adapters.base import Adapter
from model_container.adapters.declared import check_names
from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.forecast import ForecastAdapter, is_forecaster
from model_container.adapters.library_shims import adapt
from model_container.contract.config import MAIN_MODULES, PredictContract, RuntimeConfig


def load_pickle(config: RuntimeConfig) -> Adapter:
    load_code(config.code)
    with open(config.artifact, "rb") as file:
        return _adapter(pickle.load(file), config.call)


def load_joblib(config: RuntimeConfig) -> Adapter:
    load_code(config.code)
    import joblib  # type: ignore[import-untyped]

    return _adapter(joblib.load(config.artifact), config.call)


def _adapter(held: Any, call: PredictContract) -> Adapter:
    """Return the adapter of an unpickled object: of a forecast, unless its owner wants another method of it."""
    if call.method in ("", "forecast") and is_forecaster(held):
        adapter = ForecastAdapter(held)
        check_names(adapter.signature(), call)
        return adapter
    return EstimatorAdapter(adapt(held), call)


def load_code(folder: str) -> List[ModuleType]:
    """Import the modules of the owner that define what the model takes from `__main__`, and copy their definitions there.

    A class defined in a notebook or script is pickled as `__main__.Name`, and unpickling looks for it there. The modules
    are listed in the folder; without a list they are all those at its top.
    """
    if not folder:
        return []
    sys.path.insert(0, folder)
    main = sys.modules["__main__"]
    modules = [import_module(name) for name in _main_modules(Path(folder))]
    for module in modules:
        for name, value in vars(module).items():
            if not name.startswith("_") and _is_own(value, module.__name__):
                setattr(main, name, value)
    return modules


def _main_modules(folder: Path) -> List[str]:
    listed = folder / MAIN_MODULES
    if listed.exists():
        return listed.read_text(encoding="utf-8").split()
    return sorted(path.stem for path in folder.glob("*.py"))


def _is_own(value: Any, module: str) -> bool:
    """Return whether the module defines the value itself, rather than importing it.

    Imports such as `subprocess` must not become reachable for a pickle through `__main__`.
    """
    if isinstance(value, ModuleType):
        return False
    return not callable(value) or getattr(value, "__module__", None) == module
