"""Answers to the batches of a table, and what became of the whole file."""

from __future__ import annotations

from msgspec import Struct

from prism.errors import InvalidResponse
from prism.responses import Answer, server_timing


class TableAnswer(Struct, frozen=True):
    """Rows of CSV with the results beside them, after a line of names. version: of the model that answered. seconds: in the queue and in the model."""

    body: bytes
    version: str = ""
    seconds: float = 0.0


class FilePrediction(Struct, frozen=True):
    """Outcome of a table file. rows: that have results, including those of an earlier run that was resumed.

    versions: of the model that answered; several if it changed meanwhile. errors: how many of the rows have an error in
    place of a result; not counted in an earlier run. output: path of the results, "" if there is
    none.
    """

    rows: int
    versions: list[str]
    seconds: float
    output: str = ""
    errors: int = 0


def table(answer: Answer) -> TableAnswer:
    """Raises InvalidResponse if the answer is no table."""
    kind = answer.headers.get("content-type", "")
    if kind.partition(";")[0].strip() != "text/csv":
        raise InvalidResponse(
            f"The answer is {kind or 'of no type'}, not a table.",
            hint="Check that the SDK and the server have the same version.",
        )
    spent_ms = sum(server_timing(answer.headers.get("server-timing", "")).values())
    return TableAnswer(answer.body, answer.headers.get("x-model-version", ""), spent_ms / 1000)
