"""PRISM's SDK: `from prism import Prism, AsyncPrism`.

    with Prism() as prism:
        model = prism.deploy("iris.joblib", name="iris")
        print(prism.predict("iris", {"input": [5.1, 3.5, 1.4, 0.2]}).predictions)

The command line imports this package on every call, so the clients are imported only on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism import errors

if TYPE_CHECKING:
    from prism.async_client import AsyncPrism
    from prism.client import Prism
    from prism.requests import Timeouts
    from prism.responses import Model, Prediction

__all__ = ["AsyncPrism", "Model", "Prediction", "Prism", "Timeouts", "errors"]

_WHERE = {
    "AsyncPrism": "prism.async_client",
    "Model": "prism.responses",
    "Prediction": "prism.responses",
    "Prism": "prism.client",
    "Timeouts": "prism.requests",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'prism' has no attribute {name!r}")
