"""Output of the command line: data on standard output, everything else on standard error.

Colour and animation appear only on a terminal, and never with NO_COLOR. Text from elsewhere (names, log lines, errors)
loses its control characters, so that a model cannot control the terminal of someone who reads its log.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
COLOURS = {
    "live": "green",
    "ok": "green",
    "unhealthy": "red",
    "failed": "red",
    "fail": "red",
    "warn": "yellow",
    "stopped": "bright_black",
    "built": "bright_black",
}


class Output:
    """Output of one command.

    as_json: data is one JSON document, hints are left out, and errors are JSON on standard error.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.is_terminal = sys.stderr.isatty() and not as_json and os.environ.get("TERM") != "dumb"

    def data(self, document: Any, text: str) -> None:
        """Print the result: `document` with --json, otherwise `text`."""
        self._print(json.dumps(document, indent=2, ensure_ascii=False) if self.as_json else text)

    def line(self, text: str) -> None:
        """Print one line of a stream of results."""
        self._print(json.dumps(text, ensure_ascii=False) if self.as_json else printable(text))

    def say(self, text: str) -> None:
        if not self.as_json:
            self._print(text, err=True)

    def next_step(self, *commands: str) -> None:
        """Suggest commands to run next."""
        for command in commands:
            self.say(f"  → {command}")

    def error(self, problem: Mapping[str, Any]) -> None:
        if self.as_json:
            self._print(json.dumps(problem, ensure_ascii=False, default=str), err=True)
            return
        self._print(typer.style("Error: ", fg="red") + printable(str(problem.get("detail", ""))), err=True)
        for line in _told_lines(problem):
            self._print(f"  | {printable(line)}", err=True)
        if hint := problem.get("hint"):
            self._print(printable(str(hint)), err=True)
        if request_id := problem.get("request_id"):
            self._print(f"Request {printable(str(request_id))}", err=True)

    def _print(self, text: str, err: bool = False) -> None:
        typer.echo(text, err=err, color=False if os.environ.get("NO_COLOR") else None)


def printable(text: str) -> str:
    return CONTROL.sub("�", text)


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a table: columns padded to their widest cell, two spaces apart.

    A cell that is a known status gets its colour.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    lines = [_row(headers, widths), *(_row(row, widths) for row in cells)]
    return "\n".join(lines)


def size(size_bytes: float) -> str:
    """Format a size: 12 B, 3.4 kB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} {int(seconds % length // part)} {lesser}"
    return f"{seconds:.0f} s"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    padded[-1] = padded[-1].rstrip()
    styled = (
        typer.style(pad, fg=COLOURS[cell]) if cell in COLOURS else pad for cell, pad in zip(cells, padded, strict=True)
    )
    return "  ".join(styled).rstrip()


def _told_lines(problem: Mapping[str, Any]) -> list[str]:
    """Return the log lines that the problem contains, at most 20."""
    lines = problem.get("log_lines") or problem.get("lines") or []
    return [str(line) for line in lines][-20:] if isinstance(lines, list) else []
