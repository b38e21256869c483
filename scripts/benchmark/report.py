"""Tables in Markdown as the scenarios end, and all numbers as JSON in the end."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = str | int | float | Sequence[float]


@dataclass
class Table:
    """rows: a value for each column; a list of numbers is one figure of each round."""

    scenario: str
    title: str
    columns: Sequence[str]
    rows: list[list[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *values: Value) -> None:
        if len(values) != len(self.columns):
            raise ValueError(f"{len(values)} values for {len(self.columns)} columns")
        self.rows.append(list(values))

    def markdown(self) -> str:
        lines = [f"### {self.scenario}: {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line([shown(value) for value in row]) for row in self.rows]
        lines += ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"


@dataclass
class Report:
    machine: dict[str, Any]
    settings: dict[str, Any]
    tables: list[Table] = field(default_factory=list)

    def begin(self) -> None:
        it = self.machine
        print(
            f"{it['processor']}, {it['cores']} cores, {it['memory_mib'] / 1024:.0f} GiB, {it['system']}, "
            f"Python {it['python']}, commit {it['commit']}; {self.settings['rounds']} rounds of "
            f"{self.settings['seconds']:g} s; medians, in brackets the lowest and the highest round\n",
            flush=True,
        )

    def end_of(self, table: Table) -> None:
        self.tables.append(table)
        print(table.markdown(), flush=True)

    def write(self, path: Path) -> None:
        tables = [
            {
                "scenario": table.scenario,
                "title": table.title,
                "rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows],
                "notes": table.notes,
            }
            for table in self.tables
        ]
        path.write_text(json.dumps({"machine": self.machine, **self.settings, "tables": tables}, indent=2) + "\n")


def progress(what: str) -> None:
    """On standard error, for a person who waits."""
    print(f"… {what}", file=sys.stderr, flush=True)


def shown(value: Value) -> str:
    """A figure of several rounds: the median, and in brackets the lowest and the highest."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return _number(value)
    middle = _number(statistics.median(value))
    return middle if len(value) == 1 else f"{middle} ({_number(min(value))}–{_number(max(value))})"


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Round by round, to what was measured beside it."""
    return [value / reference for value, reference in zip(values, references, strict=True)]


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
