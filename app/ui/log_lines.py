"""Log lines as the log page shows them: the level of each line, and the filter by text and level."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from app.runtime.logs.reader import LogLine
from model_container.contract.logfile import TIME

LEVELS = ("debug", "info", "warning", "error")
CHOICES = (("all", "All levels"), ("info", "Info and above"), ("warning", "Warnings and errors"), ("error", "Errors"))

PATTERNS = {
    "timestamp": rf"^({TIME}) ",
    "colour": r"\x1b\[[0-9;]*[A-Za-z]",
    "time": r"^\[[0-9]{1,2}\] |^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} ",
    "traceback": r"^[ \t]*Traceback \(most recent call last\)",
    "error": r"\b(ERROR|CRITICAL|FATAL)\b|^E[0-9]{4} |\[(error|critical|fatal) *\]|^(error|fatal|failed)\b"
    r'|"?\blevel"?[=:] ?"?(error|critical|fatal)\b|^[\w.]*(Error|Exception)(:|$)'
    r"|^(During handling of the above exception|The above exception was the direct cause)"
    r"|: the replica ended: |^prism: [^\n]*did not ",
    "warning": r'\b(WARN|WARNING)\b|^W[0-9]{4} |\[warn(ing)? *\]|^warn(ing)?\b|"?\blevel"?[=:] ?"?warn|Warning: ',
    "debug": r'\b(DEBUG|TRACE)\b|^D[0-9]{4} |\[(debug|trace) *\]|^(debug|trace)\b|"?\blevel"?[=:] ?"?(debug|trace)\b',
}
"""Patterns that Python and JavaScript understand alike: the page passes these texts to static/log-lines.js.

timestamp: what an event of the API puts before a line. colour: terminal colour codes, which are removed. time: prefix of a line, either the time of day in a build's log or
the replica's number if the model has several replicas.
"""

_COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in PATTERNS.items()}


class ShownLine(Struct, frozen=True):
    """A line as the page shows it. time: see LogLine. It may come from the model, so it is no valid date for sure."""

    text: str
    level: str
    time: str = ""

    @property
    def time_of_day(self) -> str:
        return self.time[11:19]

    @property
    def day_and_time(self) -> str:
        return f"{self.time[:10]} {self.time[11:23]} UTC"

    @property
    def timestamped(self) -> str:
        return f"{self.time} {self.text}" if self.time else self.text


class Levels:
    """Classifier of successive log lines. An indented or empty line has the level of the line before it."""

    def __init__(self) -> None:
        self._last = "info"
        self._in_traceback = False

    def of(self, text: str) -> str:
        """Return the level of the next line. text: without colour codes."""
        text = _COMPILED["time"].sub("", text)
        if _COMPILED["traceback"].search(text):
            self._in_traceback, self._last = True, "error"
        elif text and text[0] not in " \t":
            matches = (level for level in ("error", "warning", "debug") if _COMPILED[level].search(text))
            self._last = "error" if self._in_traceback else next(matches, "info")
            self._in_traceback = False  # the line after a traceback names the error
        return self._last


def shown_lines(lines: Iterable[LogLine], text: str, level: str) -> Iterator[ShownLine]:
    """Yield the lines that contain the text, ignoring case, and have at least the level; "all" selects every level."""
    levels, wanted = Levels(), text.lower()
    least = LEVELS.index(level) if level in LEVELS else 0
    for line in lines:
        plain = _COMPILED["colour"].sub("", line.text)
        line_level = levels.of(plain)
        if LEVELS.index(line_level) >= least and wanted in plain.lower():
            yield ShownLine(plain, line_level, line.time)
