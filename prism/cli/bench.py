"""`prism bench`: load test of a live model."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.errors import BadInput
from prism.cli.output import printable, size
from prism.cli.predict import check_json
from prism.cli.session import ERROR, INTERRUPTED, Json, KeyFile, Ref, Session, Url, session
from prism.errors import UnavailableError

if TYPE_CHECKING:
    from prism.load import Latencies, Result
    from prism.responses import Model

MOST_CONNECTIONS = 10_000
MOST_SECONDS = 600
MOST_REQUESTS_PER_SECOND = 100_000
MOST_ROWS = 100_000
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Target:
    """Request that the benchmark sends. rows: number of predictions in one answer."""

    model: Model
    url: str
    headers: dict[str, str]
    body: bytes
    rows: int


def bench(
    ref: Ref,
    connections: Annotated[
        int, typer.Option("--connections", "-c", min=1, max=MOST_CONNECTIONS, help="Number of open connections.")
    ] = 64,
    seconds: Annotated[
        float, typer.Option("--duration", "-d", min=0.1, max=MOST_SECONDS, help="Duration in seconds.")
    ] = 10,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=MOST_REQUESTS_PER_SECOND,
            help="Requests per second, independent of the answers; default: as many as possible.",
        ),
    ] = None,
    body: Annotated[
        str | None, typer.Option("--body", metavar="JSON|FILE", help="The request body; default: the model's sample.")
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, max=MOST_ROWS, help="Repeat the body's rows to this number per request.")
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Put load on a live model: requests a second, latency, answers by status. Ctrl-C ends it early.

    With --rate, latency is measured from when each request was due, so a stall counts for every request it delays.
    """
    with session(as_json, url, key_file) as here:
        target = _target(here, ref, body, rows)
        pace = f"{rate:g} requests/s" if rate else "as fast as it answers"
        here.output.say(f"{connections} connections, {pace}, for {seconds:g} s at {target.url}")
        from prism.load import run

        result = run(
            target.url, [target.body], connections=connections, seconds=seconds, rate=rate, headers=target.headers
        )
        here.output.data(document(target, result), text(target, result))
        for line in remarks(result):
            here.output.say(line)
        if result.interrupted:
            raise typer.Exit(INTERRUPTED)
        if not result.successes:
            raise typer.Exit(ERROR)


def document(target: Target, result: Result) -> dict[str, Any]:
    """Return the result as JSON data: times in milliseconds, rates per second and of answers with 2xx alone."""
    return {
        "model": target.model.ref,
        "model_id": target.model.model_id,
        "url": target.url,
        "connections": result.connections,
        "rate": result.rate,
        "seconds": round(result.seconds, 3),
        "interrupted": result.interrupted,
        "rows_per_request": target.rows,
        "requests_per_second": round(result.successes_per_second, 1),
        "rows_per_second": round(result.successes_per_second * target.rows, 1),
        "latency_ms": _times(result.latency),
        "statuses": {
            str(status): {"answers": answers.count, "latency_ms": _times(answers.latency)}
            for status, answers in result.answers.items()
        },
        "failures": dict(result.failures),
        "unanswered": result.unanswered,
        "unsent": result.unsent,
        "sent_bytes": result.sent_bytes,
        "received_bytes": result.received_bytes,
        "client_cpu_share": round(result.client_cpu_share, 3),
        "remarks": remarks(result),
    }


def text(target: Target, result: Result) -> str:
    from rich.console import Console
    from rich.table import Table

    rows = f"{target.rows} row{'s' if target.rows > 1 else ''} per request"
    title = f"{target.model.ref}: {result.connections} connections, {rows}, {result.seconds:.1f} s"
    whole = Table("requests/s", "rows/s", *_time_headers())
    whole.add_row(
        f"{result.successes_per_second:,.0f}",
        f"{result.successes_per_second * target.rows:,.0f}",
        *_time_cells(result.latency),
    )
    by_status = Table("status", "answers", *_time_headers())
    for status, answers in result.answers.items():
        by_status.add_row(str(status), f"{answers.count:,}", *_time_cells(answers.latency))
    for table in (whole, by_status):
        for column in table.columns:
            column.justify = "right"
    console = Console(
        file=io.StringIO(), width=max(80, shutil.get_terminal_size().columns), force_terminal=sys.stdout.isatty()
    )
    with console.capture() as printed:
        console.print(printable(title), style="italic", markup=False, highlight=False, soft_wrap=True)
        console.print(whole, by_status, sep="\n")
        console.print(f"{size(result.sent_bytes)} sent, {size(result.received_bytes)} received", highlight=False)
    return printed.get().rstrip()


def remarks(result: Result) -> list[str]:
    """Return the remarks needed to interpret the numbers correctly."""
    warnings = [f"{count:,} times {reason}." for reason, count in result.failures.items()]
    if result.successes < result.answered:
        others = result.answered - result.successes
        warnings.append(
            f"{others:,} of {result.answered:,} answers were not 2xx; requests/s and rows/s leave them out."
        )
    if result.unanswered:
        warnings.append(f"{result.unanswered:,} requests were still unanswered at the end.")
    if result.unsent:
        warnings.append(
            f"{result.unsent:,} requests were due but found no free connection; latency covers only the others."
        )
    if 429 in result.answers:
        warnings.append(
            f"The rate limit refused {result.answers[429].count:,} requests (429): these rates are the limit's, not the "
            "model's. To lift it, restart the server without one: `prism stop`, then "
            "`PRISM_RATE_LIMIT_REQUESTS=0 prism run`."
        )
    if 503 in result.answers:
        warnings.append("503 is a full queue: the load exceeds what the model can handle. See PRISM_QUEUE_LENGTH.")
    if result.client_bound:
        warnings.append(
            f"This command used {result.client_cpu_share:.0%} of a core: it may be the limit, not the server."
        )
    return warnings


def _target(here: Session, ref: str, given: str | None, rows: int | None) -> Target:
    """Build the request and send it once before the load, so that a wrong body or key gets the server's own error
    message.
    """
    from prism import connection, requests, responses

    model = here.client.models.get(ref)
    if model.status != "live":
        name = model.ref or model.model_id
        raise UnavailableError(
            f"{name} is {model.status}; only a live model can be load-tested.", hint=f"prism models start {name}"
        )
    body = _body(model, given, rows)
    call = requests.Call("POST", requests.predict(ref, body).path, responses.decode, body=body, patience="predict")
    answered = _rows(here.client.send(call))
    if rows is not None and answered != rows:
        raise BadInput(
            f"The body made for {rows} rows was answered with {answered} predictions.",
            hint=f"Give a body of {rows} rows with --body.",
        )
    settings = connection.client_settings(here.client.base_url, here.key, here.client.timeouts)
    return Target(model, here.client.base_url + call.path, settings["headers"], body, answered)


def _body(model: Model, given: str | None, rows: int | None) -> bytes:
    from prism.cli.rows import repeated
    from prism.requests import encode

    if given is None:
        if model.sample is None:
            raise BadInput(f"{model.ref} has no sample.", hint="Give a request body with --body.")
        body = encode(model.sample)
    else:
        is_json = given.lstrip()[:1] in ("{", "[") and not os.path.exists(given)
        body = given.encode() if is_json else Path(given).read_bytes()
        check_json(body, "--body" if is_json else given)
    return body if rows is None else encode(repeated(json.loads(body), rows, model.signature))


def _rows(answer: dict[str, Any]) -> int:
    """Count the predictions in an answer: of PRISM's own form, or of the Open Inference Protocol V2, by the first
    dimension.
    """
    if isinstance(predictions := answer.get("predictions"), list):
        return len(predictions)
    match answer.get("outputs"):
        case [{"shape": [int(rows), *_]}, *_]:
            return rows
        case _:
            return 1


def _times(latency: Latencies) -> dict[str, float]:
    seconds = {"mean": latency.mean, **{f"p{percent}": latency.percentile(percent) for percent in PERCENTILES}}
    return {name: round(value * 1000, 3) for name, value in {**seconds, "max": latency.max}.items()}


def _time_headers() -> list[str]:
    return ["mean ms", *(f"p{percent}" for percent in PERCENTILES), "max"]


def _time_cells(latency: Latencies) -> list[str]:
    return [f"{value:,.2f}" for value in _times(latency).values()]
