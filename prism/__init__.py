"""PRISM's SDK.

    import prism

    prism.deploy(model, name="iris")  # a trained model, or the path of its file

    with prism.Prism() as client:
        print(client.predict("iris", {"input": [5.1, 3.5, 1.4, 0.2]}).predictions)

The command line imports this package on every call, so the clients are imported only on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prism import errors

if TYPE_CHECKING:
    from prism.async_client import AsyncPrism
    from prism.canaries import AsyncCanary, Canary
    from prism.client import Prism, deploy
    from prism.requests import Timeouts
    from prism.responses import Model, Prediction

__all__ = ["AsyncCanary", "AsyncPrism", "Canary", "Model", "Prediction", "Prism", "Timeouts", "deploy", "errors"]

_WHERE = {
    "AsyncCanary": "prism.canaries",
    "AsyncPrism": "prism.async_client",
    "Canary": "prism.canaries",
    "Model": "prism.responses",
    "Prediction": "prism.responses",
    "Prism": "prism.client",
    "Timeouts": "prism.requests",
    "deploy": "prism.client",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'prism' has no attribute {name!r}")
