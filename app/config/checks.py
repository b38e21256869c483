"""Finds every mistake of a text of config.yaml at once, where a start would stop at the first."""

from __future__ import annotations

from collections.abc import Mapping

from app.config.document import Entry, Problem, read_document
from app.config.loading import mistakes
from app.config.reading import expanded
from app.settings import Settings, variable


def problems(text: str, environ: Mapping[str, str], outside: frozenset[str] = frozenset()) -> list[Problem]:
    """Return what is wrong, line by line. outside: settings that the environment sets, and whose entries count for nothing."""
    document = read_document(text, Settings.model_fields)
    entries = {entry.key: entry for entry in document.entries}
    values = {key: expanded(entry, environ) for key, entry in entries.items() if entry.value is not None}
    unset = [value for value in values.values() if isinstance(value, Problem)]
    reasons = mistakes({key: value for key, value in values.items() if isinstance(value, str)})
    wrong = [Problem(entries[field].line, f"{field}{reason}") for field, reason in reasons.items()]
    beaten = [_beaten(entry) for key, entry in entries.items() if key in outside]
    return sorted((*document.problems, *unset, *wrong, *beaten), key=lambda one: one.line)


def _beaten(entry: Entry) -> Problem:
    return Problem(
        entry.line, f"`{entry.key}` counts for nothing: {variable(entry.key)} is set, and wins", is_warning=True
    )
