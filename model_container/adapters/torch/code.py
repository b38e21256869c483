"""Modules created by the owner's code, loaded with a file's weights, and compiled if possible."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Callable, Dict, List

import torch  # type: ignore[import-not-found]

FACTORIES = ("build_model", "make_model", "create_model", "model")


def compiled(module: Any) -> Any:
    """Compile the module to TorchScript; return it unchanged if its code cannot be compiled."""
    try:
        return torch.jit.script(module)
    except Exception as error:
        print(f"prism: the module stays in Python: {type(error).__name__}", file=sys.stderr, flush=True)
        return module


def with_weights(module: Any, held: Dict[str, Any]) -> Any:
    """Load the weights into the module. held: a state dict, or a checkpoint that has one under a usual key."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held.get(key), dict):
            held = held[key]
            break
    module.load_state_dict(held)
    return module


def made_by(modules: List[ModuleType]) -> Any:
    """Create the module with the owner's code: with a function such as `build_model`, or from its only module class.

    Raises TypeError if the choice is not clear.
    """
    defined = {name: value for module in modules for name, value in vars(module).items()}
    for name in FACTORIES:
        if callable(defined.get(name)) and not isinstance(defined[name], type):
            return _made(defined[name], name)
    known = {module.__name__ for module in modules}
    classes = {
        value
        for value in defined.values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ in known
    }
    chosen = [cls for cls in classes if cls.__name__ in ("Model", "Net")] or list(classes)
    if len(chosen) != 1:
        names = ", ".join(sorted(cls.__name__ for cls in classes)) or "none"
        raise TypeError(
            f"the file holds only weights, and it is not clear which module they belong to (classes found: {names}); "
            "define a function build_model() in model.py that returns it"
        )
    return _made(chosen[0], chosen[0].__name__)


def _made(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except TypeError as error:
        raise TypeError(f"{name}() cannot be called without arguments: {error}") from error
