"""The environment of a model: a Python version and pinned packages, addressed by the hash of its lock."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from app.core.inspection import Pin


class Requirements(Struct, frozen=True):
    """A question to the resolver.

    packages: PEP 508 requirements. pins: the same with the evidence for each.
    pythons: acceptable Python minors in order of preference, e.g. ("3.11", "3.12"); the first that
    resolves to wheels is taken. python_evidence: why these. gpu: whether the model is to compute on a GPU.
    """

    packages: tuple[str, ...]
    pins: tuple[Pin, ...]
    pythons: tuple[str, ...]
    python_evidence: str
    gpu: bool = False


class Lock(Struct, frozen=True):
    """A resolved environment: `text` is a requirements file with every package at an exact version."""

    python: str
    text: str
    pins: tuple[Pin, ...] = ()
    python_evidence: str = ""

    @property
    def packages(self) -> tuple[str, ...]:
        """The `name==version` lines, without comments and options."""
        lines = (line.split("#")[0].strip() for line in self.text.splitlines())
        return tuple(line for line in lines if line and not line.startswith("-"))

    @property
    def hash(self) -> str:
        """Sixteen hex digits that name this environment; equal locks share one build."""
        content = "\n".join((self.python, *sorted(self.packages)))
        return hashlib.sha256(content.encode()).hexdigest()[:16]
