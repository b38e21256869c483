"""The log of a model's deployment: kept beside the artifact, and readable while it grows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import structlog

from app.core.os_errors import log_fields

log = structlog.get_logger(__name__)

LINES_IN_ERROR = 8


class BuildLog:
    """A file `build.log` to which lines are appended; each begins with the time of day in UTC."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "build.log"

    def write(self, line: str) -> None:
        """Append a line. If that fails, the line goes to the server's log, and nothing else fails."""
        try:
            self._append(line)
        except OSError as error:
            log.warning("a line of a build log could not be saved", line=line[:500], **log_fields(error))

    def _append(self, line: str) -> None:
        with self.path.open("a", encoding="utf-8", errors="replace") as file:
            for text in line.splitlines() or [""]:
                file.write(f"{datetime.now(UTC):%H:%M:%S.%f}"[:-3] + f" {text}\n")


def error_lines(lines: list[str]) -> tuple[str, ...]:
    """Return what a person needs of a replica's last output: the runtime's verdict, or the end of its traceback.

    The runtime begins its own lines with `prism:`. The last line of a traceback names the error.
    """
    text = [line.rstrip() for line in lines if line.strip()]
    verdict = [line for line in text if line.startswith("prism: ") and ("did not" in line or "rror" in line)]
    if verdict:
        return tuple(verdict[-2:])
    errors = [line for line in text if not line.startswith((" ", "\t")) and ("Error" in line or "Exception" in line)]
    return tuple(errors[-2:] or text[-LINES_IN_ERROR:])
