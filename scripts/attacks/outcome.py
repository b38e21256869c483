"""What an attack came to, as lines of a table."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Outcome(Struct, frozen=True):
    """One line of the table. figures: by what they count. breaches: a sentence for each thing that got through."""

    attack: str
    figures: dict[str, str]
    breaches: tuple[str, ...] = ()


def table(outcomes: Iterable[Outcome]) -> str:
    """The outcomes as Markdown."""
    lines = ["| attack | outcome |", "| --- | --- |"]
    for outcome in outcomes:
        figures = ", ".join(f"{value} {name}" for name, value in outcome.figures.items())
        lines.append(f"| {outcome.attack} | {figures} |")
    return "\n".join(lines)
