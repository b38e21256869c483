"""What a runtime reports about itself once its model has loaded, validated before any of it is recorded or shown."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.core.signature import Signature

FACTS = ("python", "adapter", "libraries", "execution", "confinement")
"""The members that are kept in the model's record."""


class Walls(Struct, frozen=True):
    """The part of the sandbox's report that the pages show; see model_container/sandbox/confine.py."""

    namespaces: list[str] = []
    missing: list[str] = []


class Welcome(Struct, frozen=True):
    """The runtime's report; see `describe` in model_container/runtime.py.

    samples: request bodies made from the signature.
    """

    signature: Signature
    samples: list[Any] = []
    python: str = ""
    adapter: str = ""
    libraries: dict[str, str] = {}
    execution: dict[str, Any] = {}
    confinement: Walls = Walls()


def welcome_of(said: dict[str, Any]) -> Welcome:
    """Validate a runtime's report. Raises ValueError if no runtime of PRISM sends it."""
    return msgspec.convert(said, Welcome)


def facts_of(said: dict[str, Any]) -> dict[str, Any]:
    return {key: said[key] for key in FACTS if key in said}
