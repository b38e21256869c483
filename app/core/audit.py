"""The record of who did what."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class AuditEntry(Struct, frozen=True):
    """One action of a person or program. number: 0 until it is recorded, then in the order of recording.

    actor: the caller's name. action: fixed words, such as `alias set`. subject: what was acted on, such as
    `fraud@champion`. facts: what changed.
    """

    at: str
    actor: str
    action: str
    subject: str
    facts: dict[str, Any] = {}
    number: int = 0
