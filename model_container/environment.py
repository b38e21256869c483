"""Import path of the model's packages, set up inside the sandbox for this process and every process it starts.

`site` is not used, since it would run code that packages bring (`*.pth`, `sitecustomize`). The folder is laid out like
a virtual environment but has no Python of its own, so no package can replace the program that starts a runtime.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import SimpleNamespace

FLAGS_OF_THIS_START = ("isolated", "ignore_environment", "no_site")


def packages(folder: str) -> str:
    """Return the site-packages folder of the environment in `folder` for this Python version."""
    return os.path.join(folder, "lib", "python{}.{}".format(*sys.version_info[:2]), "site-packages")


def enter(folder: str) -> None:
    """Put the environment's packages on the import path. Must be called inside the sandbox."""
    path = packages(folder)
    sys.path.append(path)
    sys.prefix = sys.exec_prefix = folder
    _add_what_site_adds(path)
    _have_children_find(path)


def _have_children_find(path: str) -> None:
    """Let child processes find the packages too.

    joblib and multiprocessing start their workers with this process's flags, with which they would find no package.
    """
    os.environ["PYTHONPATH"] = path
    os.environ["PYTHONDONTWRITEBYTECODE"] = os.environ["PYTHONNOUSERSITE"] = "1"
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith(("_", "n_"))}
    sys.flags = SimpleNamespace(**{**flags, **dict.fromkeys(FLAGS_OF_THIS_START, 0)})  # type: ignore[assignment]


def _add_what_site_adds(path: str) -> None:
    """Add `exit` and `quit`, and setuptools' `distutils` for Python versions that no longer have their own.

    Must run while sys.flags still shows -S: without that flag, importing `site` does all of its work.
    """
    import_module("site").setquit()
    if sys.version_info >= (3, 12) and os.path.isdir(os.path.join(path, "_distutils_hack")):
        import_module("_distutils_hack").add_shim()
