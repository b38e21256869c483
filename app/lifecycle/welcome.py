"""What a runtime says of itself once its model has loaded, checked before any of it is kept or shown."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.core.signature import Signature

FACTS = ("python", "adapter", "libraries", "execution", "confinement")
"""That are kept in the model's record."""


class Walls(Struct, frozen=True):
    """What the pages show of the confinement; see model_container/sandbox/confine.py."""

    namespaces: list[str] = []
    missing: list[str] = []


class Welcome(Struct, frozen=True):
    """See `describe` in model_container/runtime.py. samples: request bodies made from the signature."""

    signature: Signature
    samples: list[Any] = []
    python: str = ""
    adapter: str = ""
    libraries: dict[str, str] = {}
    execution: dict[str, Any] = {}
    confinement: Walls = Walls()


def welcome_of(said: dict[str, Any]) -> Welcome:
    """Raises ValueError for what no runtime of ours says."""
    return msgspec.convert(said, Welcome)


def facts_of(said: dict[str, Any]) -> dict[str, Any]:
    return {key: said[key] for key in FACTS if key in said}
