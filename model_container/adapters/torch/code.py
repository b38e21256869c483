"""Modules made by the owner's code, filled with the weights of a file, and compiled where that can be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, Dict

import torch  # type: ignore[import-not-found]

FACTORIES = ("build_model", "make_model", "create_model", "model")


def compiled(module: Any) -> Any:
    """In TorchScript if its code is of the kind that can be; as it is, else."""
    try:
        return torch.jit.script(module)
    except Exception as error:
        print(f"prism: the module stays in Python: {type(error).__name__}", file=sys.stderr, flush=True)
        return module


def with_weights(module: Any, held: Dict[str, Any]) -> Any:
    """held: a state dict, or a checkpoint that has one under a usual key."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held.get(key), dict):
            held = held[key]
            break
    module.load_state_dict(held)
    return module


def made_by(folder: str) -> Any:
    """The module of the owner's code: what a function like `build_model` gives, or its one class without arguments."""
    files = sorted(Path(folder).glob("*.py")) if folder else []
    defined = {name: value for path in files for name, value in vars(sys.modules[path.stem]).items()}
    for name in FACTORIES:
        if callable(defined.get(name)) and not isinstance(defined[name], type):
            return _made(defined[name], name)
    known = {path.stem for path in files}
    classes = {
        value
        for value in defined.values()
        if isinstance(value, type) and issubclass(value, torch.nn.Module) and value.__module__ in known
    }
    chosen = [one for one in classes if one.__name__ in ("Model", "Net")] or list(classes)
    if len(chosen) != 1:
        found = ", ".join(sorted(one.__name__ for one in classes)) or "none"
        raise TypeError(
            f"the file holds weights only, and it is not clear which module they are for (classes found: {found}); "
            "define a function build_model() in model.py that returns it"
        )
    return _made(chosen[0], chosen[0].__name__)


def _made(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except TypeError as error:
        raise TypeError(f"{name}() cannot be called without arguments: {error}") from error
