"""The packages of a model, on the search path once the walls are up: for this process, and for all that it starts.

By hand, and not by `site`, which would run what packages ask it to (`*.pth`, `sitecustomize`). Laid out like a virtual
environment, but without a Python of its own: what starts a runtime can then be nothing that a package brought.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import SimpleNamespace

FLAGS_OF_THIS_START = ("isolated", "ignore_environment", "no_site")


def packages(folder: str) -> str:
    """Of the environment in `folder`, as for this Python."""
    return os.path.join(folder, "lib", "python{}.{}".format(*sys.version_info[:2]), "site-packages")


def enter(folder: str) -> None:
    """Call behind the walls."""
    place = packages(folder)
    sys.path.append(place)
    sys.prefix = sys.exec_prefix = folder
    _add_what_site_adds(place)
    _have_children_find(place)


def _have_children_find(place: str) -> None:
    """joblib and multiprocessing start their workers as this process was started, and these would find no package."""
    os.environ["PYTHONPATH"] = place
    os.environ["PYTHONDONTWRITEBYTECODE"] = os.environ["PYTHONNOUSERSITE"] = "1"
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if not name.startswith(("_", "n_"))}
    sys.flags = SimpleNamespace(**{**flags, **dict.fromkeys(FLAGS_OF_THIS_START, 0)})  # type: ignore[assignment]


def _add_what_site_adds(place: str) -> None:
    """`exit` and `quit`; and where Python has no `distutils` any more, the one that setuptools brings.

    While the flags are true: without -S in them, `site` would do all of its work as it is imported.
    """
    import_module("site").setquit()
    if sys.version_info >= (3, 12) and os.path.isdir(os.path.join(place, "_distutils_hack")):
        import_module("_distutils_hack").add_shim()
