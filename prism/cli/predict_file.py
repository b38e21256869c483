"""`prism predict -f data.csv -o out.csv`: a table file of any size, with the results beside its rows."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

import typer

from app.errors import BadInput
from model_container.contract.file_types import SUFFIXES
from prism.cli.output import duration, printable
from prism.cli.session import USAGE, Session
from prism.predict_body import file_kind

if TYPE_CHECKING:
    from prism.tables.run import OnRows

STANDARD = Path("-")
KINDS: dict[str, Literal["body", "table"]] = {
    ".json": "body",
    ".csv": "table",
    ".tsv": "table",
    ".parquet": "table",
}
"""What a file holds, by the end of its name: a request's body or a table. What any other holds shows in its beginning."""

SNIFFED_BYTES = 64
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Beginnings of a text in UTF-16, which the reader of tables names."""


def existing(file: Path | None) -> Path | None:
    """Check that the file exists, unless it is standard input, which typer's own check does not know."""
    if file is not None and file != STANDARD and not file.exists():
        raise typer.BadParameter(f"file {str(file)!r} does not exist.")
    return file


def kind_of(file: Path) -> Literal["body", "table"]:
    """Return what a file holds. Raises BadInput if it is neither a request nor a table."""
    if file == STANDARD:
        return _sniffed(_standard_input().peek(SNIFFED_BYTES), "Standard input")
    suffix = file.suffix.lower()
    if suffix in KINDS:
        return KINDS[suffix]
    with file.open("rb") as opened:
        beginning = opened.read(SNIFFED_BYTES)
    if suffix in SUFFIXES and file_kind(beginning) is None:
        raise _unknown(str(file))
    return _sniffed(beginning, str(file))


def _standard_input() -> io.BufferedReader:
    return cast("io.BufferedReader", sys.stdin.buffer)


def _sniffed(beginning: bytes, source: str) -> Literal["body", "table"]:
    is_json = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"", b"{", b"[")
    if is_json or file_kind(beginning):
        return "body"
    if b"\0" in beginning and not beginning.startswith(UTF_16):
        raise _unknown(source)
    return "table"


def _unknown(source: str) -> BadInput:
    return BadInput(
        f"{source} is neither a PNG, JPEG or WebP image, nor a WAV sound, JSON or a table.",
        hint="Convert it to one of them: another image to PNG, another sound to WAV (ffmpeg -i sound.mp3 sound.wav), "
        "a table to CSV UTF-8.",
    )


def predict_file(here: Session, ref: str, file: Path, output: Path | None, probabilities: bool, resume: bool) -> None:
    """Predict a table, and say what became of it, also when it stops in the middle."""
    place: Path | IO[bytes] = sys.stdout.buffer if output is None or output == STANDARD else output
    if not isinstance(place, Path) and (here.output.as_json or resume):
        option = "--resume" if resume else "--json"
        here.output.error(
            BadInput(f"{option} needs a file for the results.", hint="Name it with -o out.csv.").problem()
        )
        raise typer.Exit(USAGE)
    rows = 0
    with _progress(here) as show:

        def on_rows(done: int, read: int, total: int | None) -> None:
            nonlocal rows
            rows = done
            show(done, read, total)

        try:
            outcome = here.client.predict_file(
                ref,
                sys.stdin.buffer if file == STANDARD else file,
                place,
                probabilities=probabilities,
                resume=resume,
                on_rows=on_rows,
            )
        except KeyboardInterrupt:
            where = " Go on behind them with the same command and --resume." if isinstance(place, Path) and rows else ""
            here.output.say(f"{rows} rows have results.{where}")
            raise
    answered_by = " and ".join(outcome.versions)
    where = f"; the results are in {outcome.output}" if outcome.output else ""
    failed = f"{outcome.errors} of them have an error in place of a result, in the last column"
    said = f"{outcome.rows} rows in {duration(outcome.seconds)}, by {ref} {answered_by}{where}"
    if here.output.as_json:
        document = {
            "rows": outcome.rows,
            "errors": outcome.errors,
            "versions": outcome.versions,
            "seconds": outcome.seconds,
        }
        here.output.data({**document, "output": outcome.output}, "")
    here.output.say(printable(f"{said}; {failed}" if outcome.errors else said))


@contextmanager
def _progress(here: Session) -> Iterator[OnRows]:
    """Show a bar on a terminal, nothing elsewhere."""
    if not here.output.is_terminal:
        yield lambda rows, read, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("0 rows", total=None)
        yield lambda rows, read, total: bar.update(task, description=f"{rows:,} rows", completed=read, total=total)
