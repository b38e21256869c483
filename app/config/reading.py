"""Reads config.yaml: the file itself, and the variables of the environment that its values name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.config.document import Entry, Problem
from app.errors import InvalidSetting

BYTES_MAX: Final = 1 << 20
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadReference(ValueError):
    """A `${…}` that stands for nothing."""


def read_text(path: Path) -> str | None:
    """Return the file's text, with its line breaks as they are; None if there is no such file. Raises InvalidSetting."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror}.", hint="It holds the settings.") from error
    if len(content) > BYTES_MAX:
        raise InvalidSetting(f"{path} is larger than {BYTES_MAX >> 20} MiB.", hint="Keep only settings in it.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise invalid(path, Problem(line, "this is not UTF-8 text", "Save the file as UTF-8.")) from error


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Put the values of variables in the place of each `${NAME}`; `$${` stands for `${`. Raises BadReference."""

    def value(reference: re.Match[str]) -> str:
        if reference[1] is None:
            return "${"
        if not reference[2] or not _NAME.fullmatch(reference[1]):
            raise BadReference("`${` begins the name of a variable, as in `${NAME}`; write `$${` for the characters")
        if reference[1] not in environ:
            raise BadReference(f"the environment variable {reference[1]} is not set")
        return environ[reference[1]]

    return _REFERENCE.sub(value, text)


def references(text: str) -> frozenset[str]:
    """Return the variables of the environment that a value names."""
    return frozenset(reference[1] for reference in _REFERENCE.finditer(text) if reference[1] and reference[2])


def expanded(entry: Entry, environ: Mapping[str, str]) -> str | Problem:
    """Return the value that an entry gives its setting, or why it gives none."""
    try:
        return expand(entry.value or "", environ)
    except BadReference as error:
        hint = "Set it where the server is started." if "not set" in str(error) else ""
        return Problem(entry.line, f"`{entry.key}`: {error}", hint)


def invalid(path: Path, problem: Problem) -> InvalidSetting:
    hint = problem.hint or "Correct that line; `prism config check` shows every mistake."
    return InvalidSetting(f"{path}, line {problem.line}: {problem.message}.", hint=hint)
