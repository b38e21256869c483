"""What a runtime reports about itself once its model has loaded, validated before any of it is recorded or shown."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from app.core.signature import Signature

FACTS = ("python", "adapter", "libraries", "execution", "confinement")
"""The members that are kept in the model's record."""


class Sandbox(Struct, frozen=True):
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
    confinement: Sandbox = Sandbox()


def welcome_of(report: dict[str, Any]) -> Welcome:
    """Validate a runtime's report. Raises ValueError if no runtime of PRISM sends it."""
    return msgspec.convert(report, Welcome)


def facts_of(report: dict[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in FACTS if key in report}
