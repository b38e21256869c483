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


def existing(file: Path | None) -> Path | None:
    """Check that the file exists, unless it is standard input, which typer's own check does not know."""
    if file is not None and file != STANDARD and not file.exists():
        raise typer.BadParameter(f"file {str(file)!r} does not exist.")
    return file


def kind_of(file: Path) -> Literal["body", "table"]:
    if file == STANDARD:
        return _sniffed(_standard_input().peek(SNIFFED_BYTES))
    if file.suffix.lower() in KINDS:
        return KINDS[file.suffix.lower()]
    with file.open("rb") as opened:
        return _sniffed(opened.read(SNIFFED_BYTES))


def _standard_input() -> io.BufferedReader:
    return cast("io.BufferedReader", sys.stdin.buffer)


def _sniffed(beginning: bytes) -> Literal["body", "table"]:
    is_json = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"", b"{", b"[")
    return "body" if is_json or file_kind(beginning) else "table"


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
