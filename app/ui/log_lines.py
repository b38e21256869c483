"""Lines of a log as its page shows them: how grave each is, and which of them were asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

LEVELS = ("debug", "info", "warning", "error")
CHOICES = (("all", "All"), ("info", "Info and above"), ("warning", "Warnings and errors"), ("error", "Errors"))

PATTERNS = {
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
"""Understood alike by Python and JavaScript: static/log-lines.js is given these very texts by the page.

colour: of a terminal, taken out. time: of day, in front of the lines of a build; or the number of the replica, where a model has several.
"""

_COMPILED = {name: re.compile(pattern, re.ASCII) for name, pattern in PATTERNS.items()}


class ShownLine(Struct, frozen=True):
    text: str
    level: str


class Levels:
    """Tells the level of one line after another: what is indented or empty belongs to what was said before it."""

    def __init__(self) -> None:
        self._last = "info"
        self._in_traceback = False

    def of(self, text: str) -> str:
        """text: without colours."""
        text = _COMPILED["time"].sub("", text)
        if _COMPILED["traceback"].search(text):
            self._in_traceback, self._last = True, "error"
        elif text and text[0] not in " \t":
            found = (level for level in ("error", "warning", "debug") if _COMPILED[level].search(text))
            self._last = "error" if self._in_traceback else next(found, "info")
            self._in_traceback = False  # the line behind a traceback names the error
        return self._last


def shown_lines(lines: Iterable[str], text: str, level: str) -> Iterator[ShownLine]:
    """Those that contain the text, in whichever case, and are at least of that level; "all" is every one."""
    levels, wanted = Levels(), text.lower()
    least = LEVELS.index(level) if level in LEVELS else 0
    for line in lines:
        line = _COMPILED["colour"].sub("", line)
        found = levels.of(line)
        if LEVELS.index(found) >= least and wanted in line.lower():
            yield ShownLine(line, found)
