"""A fault that an admin gives a version on purpose, for a bounded time."""

from __future__ import annotations

from enum import StrEnum
from math import isfinite

from msgspec import Struct

from app.errors import BadInput

SECONDS_MAX = 600.0
LATENCY_MS_MAX = 60_000.0


class ChaosKind(StrEnum):
    """errors: answers are 500. latency: they come later. hang: they come once it is over. kill: the replicas are killed,
    once. nonsense: numbers in the answers are null, as NaN is, and texts are another text.
    """

    ERRORS = "errors"
    LATENCY = "latency"
    HANG = "hang"
    KILL = "kill"
    NONSENSE = "nonsense"


class Chaos(Struct, frozen=True):
    """One fault of one version. share: of the answers that fail, for errors. latency_ms: for latency."""

    kind: ChaosKind
    seconds: float
    share: float = 1.0
    latency_ms: float = 0.0

    @property
    def told(self) -> str:
        """What happens, for a person."""
        return {
            ChaosKind.ERRORS: f"{self.share:.0%} of its answers are errors",
            ChaosKind.LATENCY: f"its answers take {self.latency_ms:g} ms more",
            ChaosKind.HANG: "it answers nothing",
            ChaosKind.KILL: "its replicas were killed",
            ChaosKind.NONSENSE: "its answers are nonsense",
        }[self.kind]


def chaos(
    seconds: float,
    *,
    errors: float | None = None,
    latency_ms: float | None = None,
    hang: bool = False,
    kill: bool = False,
    nonsense: bool = False,
) -> Chaos:
    """Return the one fault that is asked for.

    errors: share of the answers, above 0, at most 1. Raises BadInput for none or several, or a value out of bounds.
    """
    asked = {
        ChaosKind.ERRORS: errors is not None,
        ChaosKind.LATENCY: latency_ms is not None,
        ChaosKind.HANG: hang,
        ChaosKind.KILL: kill,
        ChaosKind.NONSENSE: nonsense,
    }
    kinds = [kind for kind, is_asked in asked.items() if is_asked]
    if len(kinds) != 1:
        raise BadInput(
            f"One fault can be asked for at a time; {', '.join(kinds) or 'none'} was.",
            hint=f"Give one of {', '.join(ChaosKind)}.",
        )
    _refuse_beyond("The time", seconds, SECONDS_MAX, "s")
    _refuse_beyond("The share of errors", 1.0 if errors is None else errors, 1.0, "")
    _refuse_beyond("The latency", 1.0 if latency_ms is None else latency_ms, LATENCY_MS_MAX, "ms")
    return Chaos(kinds[0], seconds, 1.0 if errors is None else errors, latency_ms or 0.0)


def _refuse_beyond(what: str, value: float, most: float, unit: str) -> None:
    if not (isfinite(value) and 0 < value <= most):
        raise BadInput(f"{what} must be above 0 and at most {f'{most:g} {unit}'.rstrip()}; it was {value:g}.")
