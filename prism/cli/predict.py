"""`prism predict`: one request to a model, JSON, an image or a sound, from an argument, a file or standard input; or a table."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from app.errors import BadInput
from model_container.contract.file_types import SUFFIXES
from prism.cli.output import printable
from prism.cli.predict_file import STANDARD, existing, kind_of, predict_file
from prism.cli.session import USAGE, Json, KeyFile, Ref, Session, Url, session
from prism.predict_body import file_kind
from prism.responses import Prediction

PATH_MAX = 4096


def predict(
    ref: Ref,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="INPUT",
            help="JSON, the path of an image, a sound, a table or a JSON file, or - for standard input.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            dir_okay=False,
            callback=existing,
            help="File with the request body, or a table: .csv, .tsv, .parquet. - reads standard input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="CSV", dir_okay=False, help="Of a table: file for its rows and results."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Of a table: go on with the results of a run that stopped.")
    ] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also return class probabilities.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="Stream: print each prediction as soon as the model makes it.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Ask a model: prints one prediction a line, as JSON; with --json, the whole answer.

    With --stream, each line is printed as soon as the model yields it, also with --json. A table of any size is sent in
    batches; its rows come back with the results beside them.
    """
    with session(as_json, url, key_file) as here:
        if (data is None) == (file is None):
            once = "Give the input once: as JSON or a file, with --file, or - for standard input."
            here.output.error(BadInput(once).problem())
            raise typer.Exit(USAGE)
        if data is not None and _is_path(data):
            file, data = Path(data), None
        table = file if file is not None and kind_of(file) == "table" else None
        if stream if table else (output is not None or resume):
            wrong = "--stream is not for tables." if table else "--output and --resume are for tables."
            here.output.error(BadInput(wrong, hint=f"prism predict {ref} -f data.csv -o out.csv").problem())
            raise typer.Exit(USAGE)
        if table:
            predict_file(here, ref, table, output, probabilities, resume)
            return
        if stream:
            _print_stream(here, ref, _body(data, file), probabilities)
            return
        answer = here.client.predict(ref, _body(data, file), probabilities=probabilities)
        here.output.data(answer.document, "\n".join(_lines(answer)))
        spent = "".join(f", {name} {ms:g} ms" for name, ms in answer.timings_ms.items())
        here.output.say(printable(f"{answer.model} {answer.version}{spent}, request {answer.request_id}"))


def _print_stream(here: Session, ref: str, body: bytes, probabilities: bool) -> None:
    count = 0
    with closing(here.client.stream(ref, body, probabilities=probabilities)) as items:
        for item in items:
            typer.echo(_json(item))
            count += 1
    here.output.say(f"{count} items")


def _body(data: str | None, file: Path | None) -> bytes:
    """Return the body unchanged after checking that it is JSON, an image or a sound."""
    if file is not None and file != STANDARD:
        source, body = str(file), file.read_bytes()
    elif data == "-" or file == STANDARD:
        source, body = "standard input", sys.stdin.buffer.read()
    else:
        source, body = "the argument", str(data).encode(errors="surrogateescape")
    if file_kind(body) is None:
        check_json(body, source)
    return body


def _is_path(data: str) -> bool:
    """Return whether an argument is the path of a file. Raises BadInput if it names an image or a sound that is not there."""
    if data == "-" or data.lstrip()[:1] in ("{", "[", '"') or len(data) > PATH_MAX:
        return False
    if os.path.isfile(data):
        return True
    if data.lower().endswith(SUFFIXES):
        raise BadInput(f"There is no file {data}.", hint="Give the path of the file, as it is seen from here.")
    return False


def check_json(body: bytes, source: str) -> None:
    """Raise BadInput with the position of the first error if the body is not JSON."""
    try:
        json.loads(body)
    except RecursionError as error:
        raise BadInput(f"The JSON of {source} is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{source} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{source} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            hint="Quote it for the shell: prism predict iris '{\"input\": [5.1, 3.5, 1.4, 0.2]}'.",
        ) from error


def _lines(answer: Prediction) -> list[str]:
    """Return one line per prediction; with probabilities, an object of both."""
    if answer.probabilities is None:
        return [_json(prediction) for prediction in answer.predictions]
    names = answer.classes
    rows = []
    for prediction, chances in zip(answer.predictions, answer.probabilities, strict=False):
        named = names is not None and isinstance(chances, list) and len(chances) == len(names)
        probabilities = dict(zip(map(str, names or ()), chances, strict=True)) if named else chances
        rows.append(_json({"prediction": prediction, "probabilities": probabilities}))
    return rows


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
