"""`prism chaos`: break a running version on purpose, for a bounded time."""

from __future__ import annotations

from typing import Annotated

import typer

from prism.cli.output import printable
from prism.cli.session import Json, KeyFile, Ref, Url, session


def chaos(
    ref: Ref,
    errors: Annotated[
        float | None, typer.Option("--errors", help="Share of its answers that are errors, 0 to 1.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option("--latency", metavar="MS", help="How much later its answers come.")
    ] = None,
    hang: Annotated[bool, typer.Option("--hang", help="It answers nothing.")] = False,
    kill: Annotated[bool, typer.Option("--kill", help="Its replicas are killed, once.")] = False,
    nonsense: Annotated[bool, typer.Option("--nonsense", help="Its answers are nonsense.")] = False,
    seconds: Annotated[float, typer.Option("--for", metavar="SECONDS", help="How long; at most 600.")] = 30,
    end: Annotated[bool, typer.Option("--end", help="End it before its time.")] = False,
    as_json: Json = False,
    url: Url = None,
    key_file: KeyFile = None,
) -> None:
    """Break a running version on purpose, to see what its callers or a canary make of it; it is over by itself."""
    with session(as_json, url, key_file) as here:
        if end:
            document = here.client.models.end_chaos(ref)
        else:
            faults = {"errors": errors, "latency_ms": latency, "hang": hang, "kill": kill, "nonsense": nonsense}
            document = here.client.models.chaos(ref, seconds=seconds, **faults)
        name = printable(f"{document['name']}@{document['version']}")
        if document["active"]:
            told = f"{name}: {printable(document['text'])}, for {document['seconds_left']:.0f} s"
            here.output.data(document, told)
            here.output.next_step(f"prism chaos {name} --end")
        else:
            here.output.data(document, f"{name}: nothing is broken on purpose.")
