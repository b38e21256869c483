"""Records of the search for a faster variant of a model, and of the proof that it predicts the same."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from app.core.environment import Lock


class AccelerationStatus(StrEnum):
    """The state of that search.

    PENDING: not tried yet. KEPT: tried, and the original variant stays; `reason` says why. OFF: not wanted.
    """

    PENDING = "pending"
    CONVERTING = "converting"
    ACCELERATED = "accelerated"
    KEPT = "kept"
    OFF = "off"


class Report(Struct, frozen=True):
    """The comparison that the converter made when it ran both variants.

    reason: why the converted variant cannot serve; "" if it can. speedup: original time / converted time of one call,
    by its number of rows. max_difference: largest absolute difference of numbers. tolerance: how large it may be,
    as `absolute + relative * |original|`. converter: what made the graph, with its version.
    """

    reason: str = ""
    speedup: dict[str, float] = {}
    rows_compared: int = 0
    max_difference: float = 0.0
    tolerance: dict[str, float] = {}
    converter: str = ""


class Acceleration(Struct, frozen=True):
    """The state of one model. lock: of the accelerated variant. converter_lock: of the replica that converts."""

    status: AccelerationStatus = AccelerationStatus.PENDING
    reason: str = ""
    report: Report | None = None
    lock: Lock | None = None
    converter_lock: Lock | None = None
